"""`nightsafe files list | get | versions`, and the group of `find` and `history`: papers as operators see them. Every look is an audit event."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import click

from config.cli import Group, data_option, json_option
from config.console import emit, human_bytes, say, table
from config.errors import CheckFailed, UsageError
from config.files import TEMPORARY_PREFIX
from config.loading import Installation, open_installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Paper
from gateway.catalog.people import unknown_client
from gateway.commands import handover, search
from gateway.commands.operators import operator, virtual
from gateway.completing import named
from gateway.jail.tree import Tree
from gateway.keys.agent import key_agent
from gateway.keys.keyring import Keyring
from gateway.store.vault import Vault

PIECE = 1 << 20
TOGETHER = 500  # papers that are looked up at once


@click.group(cls=Group)
def files() -> None:
    """The papers of a client, and their versions."""


files.add_command(search.find)
files.add_command(search.history)
files.add_command(handover.export)
files.add_command(handover.put)


@files.command("list")
@click.argument("client", shell_complete=named("client"))
@data_option
@json_option
def list_(client: str, data: Path | None, as_json: bool) -> None:
    """The names in a client's jail now, by path, with size and state.

    Example: nightsafe files list acme
    """
    installation = open_installation(data)
    with Catalog.open(installation.folder.catalog) as catalog:
        known(catalog, client)
        catalog.check_not_destroyed(client)
        rows = sorted(_names(installation, catalog, client), key=lambda row: str(row["path"]))
    _record(installation, Event.FILES_SEARCHED, client=client, found=len(rows))
    if as_json:
        emit(rows, as_json)
        return
    table(
        f"Papers of {client}",
        ("path", "size", "state", "modified", "paper"),
        [(row["path"], human_bytes(row["size"]), row["state"], row["modified_at"], row["paper"]) for row in rows],
    )
    if not rows and sys.stdout.isatty():
        say(f"{client} has no papers in its folders now")


@files.command()
@click.argument("client", shell_complete=named("client"))
@click.argument("path", shell_complete=named("path"))
@data_option
@json_option
def versions(client: str, path: str, data: Path | None, as_json: bool) -> None:
    """Every version that ever had this name.

    Example: nightsafe files versions acme /inbox/2026/invoice.pdf
    """
    installation = open_installation(data)
    with Catalog.open(installation.folder.catalog) as catalog:
        known(catalog, client)
        found = catalog.versions(client, virtual(path))
    _record(installation, Event.FILES_SEARCHED, client=client, path=virtual(path), found=len(found))
    if not found:
        raise UsageError(f"{client} never had a paper named {virtual(path)}", f"see the names with: nightsafe files list {client}")
    if as_json:
        emit([_facts(paper) for paper in found], as_json)
        return
    table(
        f"Versions of {virtual(path)}",
        ("version", "size", "state", "received", "by", "sha256", "paper"),
        [(p.version, human_bytes(p.size), p.state, _iso(p.received_at), p.person, p.sha256, p.id) for p in found],
    )


@files.command()
@click.argument("client", shell_complete=named("client"))
@click.argument("path", shell_complete=named("path"))
@click.option("--version", type=click.IntRange(1), metavar="V", shell_complete=named("version"), help="An older version; the newest by default.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="Write to F (plaintext!) instead of standard output.")
@data_option
@json_option
def get(client: str, path: str, version: int | None, out: Path | None, data: Path | None, as_json: bool) -> None:
    """One paper in plaintext, to standard output or to the file that --out names.

    Of a deposit-only client, whose papers nothing here opens, --out gets the sealed age file instead.

    Example: nightsafe files get acme /inbox/2026/invoice.pdf --out invoice.pdf
    """
    installation = open_installation(data)
    if as_json and out is None:
        raise UsageError("--json needs --out", "standard output would carry the paper itself")
    with Catalog.open(installation.folder.catalog) as catalog:
        known(catalog, client)
        catalog.check_not_destroyed(client)
        paper = _wanted(installation, catalog, client, virtual(path), version)
    sealed = Keyring(installation.folder).client_kind(client, paper.generation) in ("recovery", "external")
    if sealed:
        _hand_out_sealed(installation, paper, out)
    else:
        _hand_out(installation, paper, out)
    to = "file" if out else "stdout"
    _record(installation, Event.FILE_FETCHED, client=client, path=paper.path, paper=paper.id, version=paper.version, to=to, sealed=sealed)
    if as_json:
        emit({**_facts(paper), "sealed": sealed}, as_json)
    elif sealed:
        sys.stderr.write(f"{out} is sealed: no key on this machine opens it. With the client's identity: age -d -i IDENTITY {out}\n")


def _hand_out(installation: Installation, paper: Paper, out: Path | None) -> None:
    reason = f"files get {paper.path} version {paper.version}"
    key = key_agent(installation).paper_key(paper.client, paper.id, "vault", operator(), reason)
    with Vault(installation.folder.vault).open(paper.client, paper.id, file_key=key) as source, _target(out) as target:
        while piece := source.read(PIECE):
            target.write(piece)


def _hand_out_sealed(installation: Installation, paper: Paper, out: Path | None) -> None:
    """The age file as it lies in the vault, when it is the one that ingest sealed."""
    if out is None:
        raise UsageError(f"no key on this machine opens {paper.path}: its client is deposit-only", "--out F writes the sealed age file to F")
    digest = hashlib.sha256()
    with Vault(installation.folder.vault).sealed(paper.client, paper.id) as source, _target(out) as target:
        while piece := source.read(PIECE):
            digest.update(piece)
            target.write(piece)
        if digest.hexdigest() != paper.sealed_sha256:
            raise CheckFailed(f"the sealed file of {paper.path} is not the one that was catalogued", "restore it from a backup; nothing was written")


def _wanted(installation: Installation, catalog: Catalog, client: str, path: str, version: int | None) -> Paper:
    """The version asked for; without one, what the name shows now, or else the newest that had it."""
    found = catalog.versions(client, path)
    if version is not None:
        chosen = next((paper for paper in found if paper.version == version), None)
    else:
        entry = next((row for row in _names(installation, catalog, client) if row["path"] == path), None)
        chosen = catalog.paper(entry["paper"]) if entry else None
        if chosen is None and entry:
            raise UsageError(f"{path} has arrived but is not sealed yet", "try again in a moment; 'nightsafe status' shows whether ingest runs")
        if chosen is None and found:
            chosen = found[-1]
    if chosen is None:
        wanted = f"version {version} of {path}" if version else path
        raise UsageError(
            f"{client} has no paper {wanted}", f"see the names with: nightsafe files list {client}, or: nightsafe files versions {client} {path}"
        )
    if chosen.state == "expired":
        raise UsageError(f"{path} is not kept any more: {chosen.reason}", "an older snapshot may have it: nightsafe restore")
    if chosen.state == "refused":
        raise UsageError(f"{path} was refused: {chosen.reason}", "it lies in the quarantine")
    return chosen


def _names(installation: Installation, catalog: Catalog, client: str) -> Iterator[dict[str, Any]]:
    with Tree(installation.folder.jail(client)) as tree:
        pointers = tree.pointers()
        while some := list(islice(pointers, TOGETHER)):
            papers = catalog.known(pointer.paper for _, pointer, _ in some)
            for path, pointer, modified in some:
                paper = papers.get(pointer.paper)
                yield {
                    "path": str(path),
                    "size": pointer.size,
                    "state": paper.state if paper else ("arriving" if pointer.state == "partial" else "being sealed"),
                    "modified_at": _iso(datetime.fromtimestamp(modified, UTC)),
                    "paper": pointer.paper,
                    "sha256": paper.sha256 if paper else None,
                    "version": paper.version if paper else None,
                }


def known(catalog: Catalog, client: str) -> None:
    """Raises UsageError for a client that does not exist."""
    if catalog.client(client) is None:
        raise unknown_client(client)


@contextmanager
def _target(out: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that appears whole; a file that exists is not written over."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if out.exists():
        raise UsageError(f"{out} exists already", "choose another name for --out")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"the folder {out.absolute().parent} does not exist", "make it, or choose another place for --out")
    temporary = out.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}")
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        temporary.rename(out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _record(installation: Installation, event: Event, **fields: Any) -> None:
    log = AuditLog(installation.folder.audit, "ops")
    log.append(event, durable=True, person=operator(), **fields)
    log.close()


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _facts(paper: Paper) -> dict[str, Any]:
    return {
        "paper": paper.id,
        "path": paper.path,
        "version": paper.version,
        "size": paper.size,
        "sha256": paper.sha256,
        "state": paper.state,
        "reason": paper.reason,
        "person": paper.person,
        "received_at": _iso(paper.received_at),
        "sealed_at": _iso(paper.sealed_at),
    }
