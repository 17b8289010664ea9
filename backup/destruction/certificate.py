"""The certificate of a destruction: what was destroyed, where, by whom, and how that was proven. Signed; never changed once written.

`NUMBER.json` is the certificate, `NUMBER.json.sig` an SSH signature over its bytes (namespace destruction@nightsafe), which

    ssh-keygen -Y verify -f allowed_signers -I destruction -n destruction@nightsafe -s 1.json.sig < 1.json

checks, and `NUMBER.html` the same for people. A new one is written whenever the state of a repository has changed; the highest number counts.

Form: JSON in UTF-8, keys sorted; "nightsafe_destruction" is its version. Times are RFC 3339 in UTC, sizes bytes, hashes lowercase hex.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from backup.plan import iso
from backup.report.evidence import encode
from backup.report.page import shown
from config.console import human_bytes
from config.errors import OutOfReach
from config.files import make_folder, write_whole
from config.folder import DataFolder
from config.words import noun
from gateway.audit.signatures import DESTRUCTION, SigningKey, sign
from gateway.catalog import Client, Destruction, Paper

FORM = 1
PAGE_PAPERS = 1000  # on the page; the JSON has all


def certificate_values(
    client: Client, destruction: Destruction, papers: Iterable[Paper], installation: Mapping[str, str], head: str
) -> dict[str, Any]:
    """The certificate as JSON values. Pure."""
    listed = [
        {
            "paper": paper.id,
            "path": paper.path,
            "version": paper.version,
            "size": paper.size,
            "state": paper.state,
            "sha256": paper.sha256,
            "sealed_sha256": paper.sealed_sha256,
            "received_at": iso(paper.received_at),
            "generation": paper.generation,
        }
        for paper in papers
    ]
    known = {(key.generation, key.recipient) for key in client.keys}
    return {
        "nightsafe_destruction": FORM,
        "client": client.name,
        "custody": client.custody,
        "state": destruction.state,
        "issued_at": iso(datetime.now(UTC)),
        "begun_at": iso(destruction.begun_at),
        "keys_removed_at": iso(destruction.keys_removed_at) if destruction.keys_removed_at else None,
        "ended_at": iso(destruction.ended_at) if destruction.ended_at else None,
        "ordered_by": destruction.ordered_by,
        "reason": destruction.reason,
        "installation": dict(installation),
        "keys": [{"generation": generation, "recipient": recipient} for generation, recipient in sorted(known)],
        "key_files": [dict(key) for key in destruction.keys],
        "repositories": [
            {"repository": one.repository, "place": one.place, "state": one.state, "cause": one.cause, "looked_at": iso(one.tried_at)}
            for one in destruction.repositories
        ],
        "proof": dict(destruction.proof) or None,
        "papers_total": len(listed),
        "papers": listed,
        "audit_head": head,
    }


def write_certificate(folder: DataFolder, values: Mapping[str, Any], signer: SigningKey) -> Path:
    """Write certificate, page and, last, the signature; the path of the JSON. One that says the same already is kept. Raises OutOfReach."""
    home = folder.evidence / "destruction" / str(values["client"])
    try:
        make_folder(home)
        numbers = sorted(int(path.stem) for path in home.glob("*.json") if path.stem.isdecimal())
        if numbers and _says_the_same(home / f"{numbers[-1]}.json", values):
            return home / f"{numbers[-1]}.json"
        target = home / f"{numbers[-1] + 1 if numbers else 1}.json"
        body = encode(values)
        write_whole(target.with_suffix(".html"), _page(values, target.name).encode(errors="backslashreplace"))
        write_whole(target.with_name(target.name + ".sig"), sign(signer, DESTRUCTION, body).encode())
        write_whole(target, body)
    except OSError as error:
        raise OutOfReach(
            f"the certificate could not be written: {error.strerror}", "make space on the disk of the data folder, then again"
        ) from error
    return target


def _says_the_same(path: Path, values: Mapping[str, Any]) -> bool:
    """Whether the last certificate differs in nothing but moments of looking."""
    try:
        before = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return path.with_name(path.name + ".sig").exists() and _gist(before) == _gist(values)


def _gist(values: Mapping[str, Any]) -> tuple[Any, ...]:
    proof = values["proof"] or {}
    repositories = [(one["repository"], one["state"], one["cause"]) for one in values["repositories"]]
    return values["state"], values["ended_at"], repositories, proof.get("holds"), proof.get("copies"), values["papers_total"]


def _page(values: Mapping[str, Any], name: str) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(size=human_bytes, noun=noun, shown=shown)
    return environment.get_template("certificate.html").render(c=values, name=name, papers=values["papers"][:PAGE_PAPERS])
