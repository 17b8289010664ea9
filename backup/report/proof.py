"""A client's own evidence, on request: each of its accepted papers with the newest drill that proved it to come back. Signed as evidence is.

    evidence/clients/CLIENT/MOMENT.json, .json.sig, .html

Only drills count whose evidence is there, bears our signature and says that it passed. Nothing of any other client is in it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from backup.report.evidence import encode, rfc3339
from backup.report.page import LISTED, render_client
from config.errors import OutOfReach, UsageError
from config.files import make_folder, write_whole, write_whole_pieces
from config.loading import Installation
from gateway.audit.signatures import EVIDENCE, SigningKey, sign_digest, verify
from gateway.catalog import Catalog, Paper, Run
from gateway.keys.keyring import EVIDENCE_SIGNING, Keyring

FORM = 1
PAST_DRILLS = 1000
MAX_BYTES = 64 * 1024 * 1024
PIECE = 1024 * 1024
GRACE = timedelta(minutes=15)  # between sealing a paper and its row: what is as young as a snapshot may not have been in it


@dataclass(frozen=True)
class Drilled:
    """A drill that passed: what it proved (all that was sealed by `until`, and the papers that it drew or names), and where that is written."""

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


def write_proof(installation: Installation, client: str, signer: SigningKey, now: datetime | None = None) -> tuple[Path, dict[str, int], str]:
    """Write the evidence of one client: where its JSON is, its counts, and its SHA-256. Papers go to the disk one by one, however many there are.

    Raises UsageError for a client that there is not, OutOfReach.
    """
    now = now or datetime.now(UTC)
    folder = installation.folder.evidence / "clients" / client
    with Catalog.open(installation.folder.catalog) as catalog:
        catalog.check_not_destroyed(client)
        known = catalog.client(client)
        if known is None:
            raise UsageError(f"there is no client '{client}'", "see the clients with: nightsafe client list")
        try:
            make_folder(folder)
            with tempfile.TemporaryFile(dir=folder) as lines:
                listed = _Listed(_drills(installation, catalog), lines)
                listed.take(catalog.papers(client=client, state="accepted"))
                values = {
                    "nightsafe_client_evidence": FORM,
                    "client": client,
                    "custody": known.custody,
                    "made_at": rfc3339(now),
                    "installation": {"host": installation.settings.backup.host},
                    "counts": listed.counts,
                    "drills": [one.values() for one in listed.drills if one.run.id in listed.used],
                }
                target = folder / f"{now.astimezone(UTC):%Y%m%dT%H%M%S%f}Z.json"
                return target, listed.counts, _write(target, values, listed, signer)
        except OSError as error:
            raise OutOfReach(f"the evidence could not be written: {error.strerror}", "look at the disk of the data folder, then try again") from error


class _Listed:
    """The papers of a client, as they will stand in its evidence: on the disk, but for the newest, which the page shows."""

    def __init__(self, drills: list[Drilled], lines: BinaryIO) -> None:
        self.drills = drills
        self.used: set[int] = set()
        self.counts = {"papers": 0, "proven": 0}
        self.newest: deque[dict[str, Any]] = deque(maxlen=LISTED)
        self._lines = lines

    def take(self, papers: Iterable[Paper]) -> None:
        """Enter papers, oldest first, each with the newest drill that proves it."""
        for paper in papers:
            drill = next((one for one in self.drills if one.proves(paper)), None)
            facts = _paper(paper, drill)
            self._lines.write(b",\n" * bool(self.counts["papers"]) + b"    " + encode(facts).rstrip(b"\n").replace(b"\n", b"\n    "))
            self.newest.append(facts)
            self.counts["papers"] += 1
            if drill is not None:
                self.counts["proven"] += 1
                self.used.add(drill.run.id)

    def pieces(self) -> Iterator[bytes]:
        """The list in JSON, as `encode` would write it; "papers" is the last key."""
        yield b"[\n" if self.counts["papers"] else b"["
        self._lines.seek(0)
        while piece := self._lines.read(PIECE):
            yield piece
        yield b"\n  ]" if self.counts["papers"] else b"]"


def _write(target: Path, values: dict[str, Any], listed: _Listed, signer: SigningKey) -> str:
    """JSON, signature and page; the SHA-256 of the JSON."""
    head, _, tail = encode({**values, "papers": []}).rpartition(b"[]")
    sha256, sha512 = hashlib.sha256(), hashlib.sha512()

    def hashed() -> Iterator[bytes]:
        for piece in chain((head,), listed.pieces(), (tail,)):
            sha256.update(piece)
            sha512.update(piece)
            yield piece

    write_whole_pieces(target, hashed())
    write_whole(target.with_name(target.name + ".sig"), sign_digest(signer, EVIDENCE, sha512.digest()).encode())
    page = render_client({**values, "papers": list(listed.newest)}, target.name)
    write_whole(target.with_suffix(".html"), page.encode(errors="backslashreplace"))
    return sha256.hexdigest()


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
        listed = facts["draw"] or facts.get("young")  # evidence of earlier versions has no list of the young ones
        papers = frozenset(_listed(path, listed)) if listed else frozenset()
        at = datetime.fromisoformat(str(run.detail["catalog_at"])) if facts["drill"] == "full" else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Drilled(run, name, hashlib.sha256(body).hexdigest(), at - GRACE if at else None, papers)


def _listed(path: Path, listed: Mapping[str, Any]) -> list[str]:
    """The papers that were drawn, or the young ones: in the evidence, or beside it with the digest that the evidence has. Raises ValueError."""
    papers: list[str] = listed["papers"] if listed["papers"] is not None else _limited(path.with_suffix(".draw")).decode("ascii").split()
    if hashlib.sha256("".join(f"{paper}\n" for paper in papers).encode()).hexdigest() != listed["digest"]:
        raise ValueError("not the papers that were meant")
    return papers


def _limited(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(MAX_BYTES)
