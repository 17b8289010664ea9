"""A client's own evidence, on request: each of its accepted papers with the newest drill that proved it to come back. Signed as evidence is.

    evidence/clients/CLIENT/MOMENT.json, .json.sig, .html

Only drills count whose evidence is there, bears our signature and says that it passed. Nothing of any other client is in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backup.report.evidence import encode, rfc3339
from backup.report.page import render_client
from config.errors import OutOfReach, UsageError
from config.files import make_folder, write_whole
from config.loading import Installation
from gateway.audit.signatures import EVIDENCE, SigningKey, sign, verify
from gateway.catalog import Catalog, Paper, Run
from gateway.keys.keyring import EVIDENCE_SIGNING, Keyring

FORM = 1
PAST_DRILLS = 1000
MAX_BYTES = 64 * 1024 * 1024
GRACE = timedelta(minutes=15)  # between sealing a paper and its row: what is as young as a snapshot may not have been in it


@dataclass(frozen=True)
class Drilled:
    """A drill that passed: what it proved (all that was sealed by `until`, or the papers that it drew), and where that is written."""

    run: Run
    evidence: str
    sha256: str
    until: datetime | None
    papers: frozenset[str]

    def proves(self, paper: Paper) -> bool:
        """Whether this paper came back in it."""
        return paper.id in self.papers or (self.until is not None and paper.sealed_at <= self.until)

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        facts = {"run": self.run.id, "drill": self.run.detail.get("kind"), "at": rfc3339(self.run.ended_at or self.run.started_at)}
        return {**facts, "snapshot": self.run.snapshot, "evidence": self.evidence, "evidence_sha256": self.sha256}


def write_proof(installation: Installation, client: str, signer: SigningKey, now: datetime | None = None) -> tuple[Path, dict[str, Any]]:
    """Write the evidence of one client; where its JSON is, and what it says. Raises UsageError for a client that there is not, OutOfReach."""
    now = now or datetime.now(UTC)
    with Catalog.open(installation.folder.catalog) as catalog:
        catalog.check_not_destroyed(client)
        known = catalog.client(client)
        if known is None:
            raise UsageError(f"there is no client '{client}'", "see the clients with: nightsafe client list")
        drills = _drills(installation, catalog)
        papers = [(paper, next((one for one in drills if one.proves(paper)), None)) for paper in catalog.papers(client=client, state="accepted")]
    values = {
        "nightsafe_client_evidence": FORM,
        "client": client,
        "custody": known.custody,
        "made_at": rfc3339(now),
        "installation": {"host": installation.settings.backup.host},
        "counts": {"papers": len(papers), "proven": sum(drill is not None for _, drill in papers)},
        "papers": [_paper(paper, drill) for paper, drill in papers],
        "drills": [one.values() for one in drills if any(drill is one for _, drill in papers)],
    }
    body = encode(values)
    target = installation.folder.evidence / "clients" / client / f"{now.astimezone(UTC):%Y%m%dT%H%M%S%f}Z.json"
    try:
        make_folder(target.parent)
        write_whole(target, body)
        write_whole(target.with_name(target.name + ".sig"), sign(signer, EVIDENCE, body).encode())
        write_whole(target.with_suffix(".html"), render_client(values, target.name).encode(errors="backslashreplace"))
    except OSError as error:
        raise OutOfReach(f"the evidence could not be written: {error.strerror}", "look at the disk of the data folder, then try again") from error
    return target, values


def _paper(paper: Paper, drill: Drilled | None) -> dict[str, Any]:
    facts = {"paper": paper.id, "path": paper.path, "version": paper.version, "size": paper.size, "sha256": paper.sha256}
    return {**facts, "received_at": rfc3339(paper.received_at), "proven_by": drill.run.id if drill else None}


def _drills(installation: Installation, catalog: Catalog) -> list[Drilled]:
    """The drills of the first place that count, newest first, down to the newest full one: it held all that older ones did."""
    public = Keyring(installation.folder).public_half(EVIDENCE_SIGNING)
    found: list[Drilled] = []
    for run in catalog.runs("drill", PAST_DRILLS):
        if run.state != "passed" or run.detail.get("copy"):
            continue
        drilled = _read(installation.folder.root, run, public)
        if drilled is not None:
            found.append(drilled)
            if drilled.until is not None:
                break
    return found


def _read(root: Path, run: Run, public: str) -> Drilled | None:
    """What a drill proved, by its signed evidence; None where that is gone, altered, or not of this drill."""
    name = str(run.detail.get("evidence") or "")
    path = root / "evidence" / Path(name).parent.name / Path(name).name
    try:
        body = _limited(path)
        if not verify(public, EVIDENCE, body, _limited(Path(f"{path}.sig")).decode("ascii")):
            return None
        facts: Mapping[str, Any] = json.loads(body)
        if facts["run"] != run.id or facts["verdict"] != "passed":
            return None
        papers = frozenset(_drawn(path, facts["draw"])) if facts["draw"] else frozenset()
        at = datetime.fromisoformat(str(run.detail["catalog_at"])) if facts["drill"] == "full" else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Drilled(run, name, hashlib.sha256(body).hexdigest(), at - GRACE if at else None, papers)


def _drawn(path: Path, draw: Mapping[str, Any]) -> list[str]:
    """The papers that were drawn: in the evidence, or beside it with the digest that the evidence has. Raises ValueError."""
    papers: list[str] = draw["papers"] if draw["papers"] is not None else _limited(path.with_suffix(".draw")).decode("ascii").split()
    if hashlib.sha256("".join(f"{paper}\n" for paper in papers).encode()).hexdigest() != draw["digest"]:
        raise ValueError("not the papers that were drawn")
    return papers


def _limited(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(MAX_BYTES)
