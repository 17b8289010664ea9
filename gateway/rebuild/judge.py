"""From what receipts, sealed files and the audit log tell to rows of the catalog. Pure.

A paper needs two that agree: its file, and the receipt or the line of the log. A file that nothing explains is no paper, and a receipt without a
file is a loss; both are listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.catalog.rows import Paper
from gateway.rebuild.sources import SealedFile

TIME_DIGITS = 12  # of a paper's id: hex milliseconds since the epoch


@dataclass
class Findings:
    """What came back, and what did not: sentences for a person."""

    papers: list[Paper] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Evidence:
    """All that is known of the papers of one client, by paper."""

    client: str
    receipts: Mapping[str, dict[str, Any]]
    vault: Mapping[str, SealedFile]
    quarantine: Mapping[str, SealedFile]
    sealed: Mapping[str, Sequence[dict[str, Any]]]
    expired: Mapping[str, dict[str, Any]]
    modified: Mapping[str, float]
    newest_generation: int


def judge(known: Evidence) -> Findings:
    """The rows of a client's papers, by id."""
    found = Findings()
    without_version: list[Paper] = []
    for paper in sorted(known.receipts.keys() | known.vault.keys() | known.quarantine.keys()):
        try:
            row = _row(known, paper, found)
        except (KeyError, TypeError, ValueError):
            found.lost.append(f"{paper}: its receipt does not say what a receipt says")
            continue
        if row is not None:
            (found.papers if row.version else without_version).append(row)
    _number(found, without_version)
    return found


def _row(known: Evidence, paper: str, found: Findings) -> Paper | None:
    receipt, file = known.receipts.get(paper), known.vault.get(paper) or known.quarantine.get(paper)
    line = _line(known, paper, file)
    if receipt is None and line is None:
        found.unexplained.append(f"{paper}: a sealed file without a receipt and without a line in the audit log")
        return None
    if file is not None and line is None and known.sealed.get(paper):
        found.unexplained.append(f"{paper}: its sealed file is not the one that the audit log tells of")
        return None
    facts = receipt if receipt is not None else _facts(line or {}, paper)
    state, reason, code, receipted = facts["verdict"], facts["reason"], facts.get("code") or "", receipt is not None
    if paper in known.expired:
        state, reason, code = "expired", str(known.expired[paper].get("reason") or ""), "expired"
    elif paper in known.vault and state != "accepted":  # released from the quarantine, and the new receipt is not written yet
        state, reason, code, receipted = "accepted", "The paper was released by a person.", "released", False
    elif state == "accepted" and paper not in known.vault:
        found.lost.append(f"{paper}: {facts['path']}, version {facts['version'] or '?'}: the vault does not have it")
        return None
    return Paper(
        id=paper,
        client=known.client,
        path=facts["path"],
        person=facts["person"],
        state=state,
        reason=reason,
        size=int(facts["size"]),
        sha256=facts["sha256"],
        received_at=_moment(facts["received_at"]),
        sealed_at=_moment(facts["sealed_at"]),
        modified_at=_mtime(known.modified.get(paper)),
        generation=int(line["generation"]) if line else known.newest_generation if file else 0,
        header_mac=file.header_mac if file else "",
        sealed_sha256=file.sha256 if file else "",
        sealed_size=file.size if file else 0,
        session=str(line.get("session") or "") if line else "",
        address=str(line.get("address") or "") if line else "",
        class_name=facts.get("class") or "",
        code=code,
        version=int(facts["version"] or 0),
        receipted=receipted,
    )


def _line(known: Evidence, paper: str, file: SealedFile | None) -> dict[str, Any] | None:
    """The line of the log that tells of this very file: a paper that was sealed twice has two."""
    lines = known.sealed.get(paper) or ()
    fitting = [line for line in lines if file is None or line.get("header_mac") == file.header_mac]
    return fitting[-1] if fitting else None


def _facts(line: Mapping[str, Any], paper: str) -> dict[str, Any]:
    """What a receipt would say, from the line: the paper was sealed, and its receipt is due still."""
    began = datetime.fromtimestamp(int(paper[:TIME_DIGITS], 16) / 1000, UTC).isoformat()
    names = ("path", "person", "size", "sha256")
    return {name: line[name] for name in names} | {"verdict": "accepted", "reason": "", "received_at": began, "sealed_at": line["time"], "version": 0}


def _number(found: Findings, rows: Sequence[Paper]) -> None:
    """Versions of papers without a receipt: after those that have one, in the order of arrival. Two papers with one number: the later goes behind."""
    newest: dict[str, int] = {}
    taken: set[tuple[str, int]] = set()
    doubles: list[Paper] = []
    for row in list(found.papers):
        if (row.path, row.version) in taken:
            found.papers.remove(row)
            doubles.append(row)
        taken.add((row.path, row.version))
        newest[row.path] = max(newest.get(row.path, 0), row.version)
    for row in [*doubles, *rows]:
        newest[row.path] = newest.get(row.path, 0) + 1
        found.papers.append(Paper(**{**vars(row), "version": newest[row.path], "receipted": False}))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _mtime(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
