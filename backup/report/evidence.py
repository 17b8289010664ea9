"""The evidence of a drill: what was restored and compared, with which outcome, signed so that it cannot be edited afterwards.

`RUN.json` is the evidence itself, `RUN.json.sig` an SSH signature over its bytes (namespace evidence@nightsafe), which

    ssh-keygen -Y verify -f allowed_signers -I evidence -n evidence@nightsafe -s RUN.json.sig < RUN.json

checks, and `RUN.html` the same for people. A list of papers that is too long for it lies in `RUN.draw`, one paper id a line.

Form: JSON in UTF-8, keys sorted; "nightsafe_evidence" is its version. Times are RFC 3339 in UTC, durations seconds, sizes bytes, hashes
lowercase hex.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from backup.report.page import render
from config.errors import OutOfReach
from config.files import make_folder, write_whole
from config.printable import json_line
from gateway.audit.signatures import EVIDENCE, SigningKey, sign

FORM = 1
LISTED = 1000  # entries of one list; what is left out is counted, and a draw's digest stands for its list
Verdict = Literal["passed", "failed", "inconclusive"]


@dataclass(frozen=True)
class BadPaper:
    """A paper that is not as it should be; `cause` is a stable word, `what` says it to people."""

    paper: str
    client: str
    path: str
    version: int
    cause: str
    what: str


@dataclass(frozen=True)
class RepositoryFacts:
    """One restic repository and the snapshot that was restored from it; empty strings where it could not even be read."""

    repository: str = ""
    snapshot: str = ""
    taken_at: str = ""


@dataclass(frozen=True)
class Stage:
    """A stage of the drill and how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Counts:
    """Papers and bytes. `of`: papers that the snapshot should hold; `drawn`: those that were to be verified; `newer`: too new for the snapshot."""

    of: int = 0
    drawn: int = 0
    verified: int = 0
    verified_bytes: int = 0
    by_ciphertext: int = 0
    newer: int = 0
    bad: int = 0
    unfinished: int = 0
    restored_files: int = 0
    restored_bytes: int = 0
    keys_compared: int = 0


@dataclass(frozen=True)
class DrawFacts:
    """How papers were drawn: with the seed and the list of papers anybody can draw again. `digest`: SHA-256 over the ids, one a line."""

    seed: str
    digest: str
    groups: Sequence[Mapping[str, Any]]
    papers: Sequence[str]


@dataclass(frozen=True)
class YoungFacts:
    """What a full drill that passed proved besides all that is older: papers that were sealed shortly before the backup, and were in it."""

    digest: str
    papers: Sequence[str]


@dataclass(frozen=True)
class Recovery:
    """Measured against the objectives. Time: how long the restore and its proof took. Point: how much work would have been lost; None if unknown."""

    time_seconds: float
    time_objective_seconds: float
    point_seconds: float | None
    point_objective_seconds: float

    @property
    def time_met(self) -> bool:
        """Whether the restore was quick enough."""
        return self.time_seconds <= self.time_objective_seconds

    @property
    def point_met(self) -> bool:
        """Whether the snapshot was young enough."""
        return self.point_seconds is not None and self.point_seconds <= self.point_objective_seconds


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a drill found out."""

    run: int
    drill: str
    verdict: Verdict
    started_at: datetime
    ended_at: datetime
    installation: Mapping[str, str]
    papers: RepositoryFacts
    keys: RepositoryFacts
    causes: Sequence[str]
    counts: Counts
    bad: Sequence[BadPaper]
    bad_total: int
    by_cause: Mapping[str, int]
    draw: DrawFacts | None
    statement: Mapping[str, Any]
    stages: Sequence[Stage]
    recovery: Recovery
    tools: Mapping[str, str]
    audit_head: str
    notes: Sequence[str] = field(default_factory=tuple)
    trend: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    forecast: Mapping[str, Any] | None = None
    coverage: Mapping[str, Any] | None = None
    young: YoungFacts | None = None

    def values(self) -> dict[str, Any]:
        """As JSON values, lists cut to LISTED entries."""
        draw = None if self.draw is None else {**asdict(self.draw), "papers": _short(self.draw.papers)}
        return {
            "nightsafe_evidence": FORM,
            "run": self.run,
            "drill": self.drill,
            "verdict": self.verdict,
            "started_at": rfc3339(self.started_at),
            "ended_at": rfc3339(self.ended_at),
            "installation": dict(self.installation),
            "repositories": {"papers": asdict(self.papers), "keys": asdict(self.keys)},
            "causes": list(self.causes),
            "counts": asdict(self.counts),
            "bad": [asdict(paper) for paper in self.bad[:LISTED]],
            "bad_total": self.bad_total,
            "by_cause": dict(self.by_cause),
            "draw": draw,
            "statement": dict(self.statement),
            "stages": [{"name": stage.name, "seconds": round(stage.seconds, 3)} for stage in self.stages],
            "recovery": {**_rounded(asdict(self.recovery)), "time_met": self.recovery.time_met, "point_met": self.recovery.point_met},
            "tools": dict(self.tools),
            "audit_head": self.audit_head,
            "notes": list(self.notes),
            "trend": [dict(one) for one in self.trend],
            "forecast": dict(self.forecast) if self.forecast else None,
            "coverage": dict(self.coverage) if self.coverage else None,
            "young": None if self.young is None else {"digest": self.young.digest, "papers": _short(self.young.papers)},
        }


def write_evidence(folder: Path, evidence: Evidence, signer: SigningKey) -> Path:
    """Write evidence, signature and page, each whole, below `folder`/YYYY; the path of the JSON. Raises OutOfReach when the disk refuses."""
    values = evidence.values()
    body = encode(values)
    target = folder / f"{evidence.ended_at.astimezone(UTC):%Y}" / f"{evidence.run}.json"
    try:
        make_folder(target.parent)
        write_whole(target, body)
        write_whole(target.with_name(target.name + ".sig"), sign(signer, EVIDENCE, body).encode())
        write_whole(target.with_suffix(".html"), render(values).encode(errors="backslashreplace"))
        listed = evidence.draw or evidence.young
        if listed is not None and len(listed.papers) > LISTED:
            write_whole(target.with_suffix(".draw"), "".join(f"{paper}\n" for paper in listed.papers).encode("ascii"))
    except OSError as error:
        raise OutOfReach(f"the evidence could not be written: {error.strerror}", "look at the disk of the data folder, then drill again") from error
    return target


def encode(values: Mapping[str, Any]) -> bytes:
    """The bytes that are signed."""
    return (json_line(values, indent=2, sort_keys=True) + "\n").encode()


def rfc3339(moment: datetime) -> str:
    """`2026-05-17T09:30:00.123456Z`: always UTC, always microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _short(papers: Sequence[str]) -> list[str] | None:
    return list(papers) if len(papers) <= LISTED else None


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}
