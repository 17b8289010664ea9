"""What earlier drills verified: for the weights of a draw. Read from the runs and their evidence; nothing here decides a verdict."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from backup.drill.judge import GRACE
from backup.drill.sample import digest
from backup.repositories.places import of_this_repository
from gateway.catalog import Catalog, Run

MAX_EVIDENCE_BYTES = 8 * 1024 * 1024
MAX_DRAW_BYTES = 64 * 1024 * 1024
PAST_DRILLS = 1000


@dataclass(frozen=True)
class Drilled:
    """What earlier drills proved: everything that was sealed by `covered`, and `papers` (ids) besides."""

    papers: frozenset[str] = frozenset()
    covered: datetime | None = None


def drilled_before(live: Catalog, evidence: Path, copy: str = "") -> Drilled:
    """What was verified in one place by the last full drill that passed, or drawn by a sample that passed since."""
    papers: set[str] = set()
    until: datetime | None = None
    for run in of_this_repository(live, live.runs("drill", limit=PAST_DRILLS), copy):
        if run.state != "passed" or run.detail.get("copy", "") != copy:
            continue
        if run.detail.get("kind") == "full":
            until = _moment(run.detail.get("catalog_at"))
            papers.update(listed_by(run, evidence, "young"))
            break
        papers.update(listed_by(run, evidence, "draw"))
    return Drilled(frozenset(papers), None if until is None else until - GRACE)


def listed_by(run: Run, evidence: Path, of: Literal["draw", "young"]) -> list[str]:
    """The papers that a sampled drill drew, or the young ones that a full drill found, from its evidence or the list beside it; empty when they
    cannot be told any more."""
    name = run.detail.get("evidence")
    if not isinstance(name, str):
        return []
    path = evidence / Path(name).parent.name / Path(name).name
    try:
        facts = json.loads(_read(path, MAX_EVIDENCE_BYTES))[of]
        papers = facts["papers"] if facts["papers"] is not None else _read(path.with_suffix(".draw"), MAX_DRAW_BYTES).decode("ascii").split()
        return papers if digest(papers) == facts["digest"] else []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _read(path: Path, limit: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(limit)


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
