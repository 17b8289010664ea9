"""Backups and drills by the month, as a table can tell them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from backup.report.trends import RECOVERIES
from gateway.catalog import Run


@dataclass(frozen=True)
class Month:
    """`month` is as in `2026-11`, by UTC. Of `backups` and `drills` that ended, `bad_…` did not pass; seconds are the worst of the month, of drills
    that passed."""

    month: str
    backups: int
    bad_backups: int
    drills: int
    bad_drills: int
    recovery_seconds: float | None
    point_seconds: float | None


def by_month(runs: Iterable[Run]) -> Iterator[Month]:
    """Months in which there was anything, newest first. `runs` are newest first, of every kind; copies do not count."""
    ended = [run for run in runs if run.kind in ("backup", "drill") and run.state != "running" and not run.detail.get("copy")]
    for month, group in groupby(sorted(ended, key=_month, reverse=True), _month):
        some = list(group)
        backups, drills = ([run for run in some if run.kind == kind] for kind in ("backup", "drill"))
        passed = [run for run in drills if run.state == "passed"]
        recoveries = [run for run in passed if run.detail.get("kind") in RECOVERIES]
        yield Month(
            month,
            len(backups),
            sum(run.state != "passed" for run in backups),
            len(drills),
            len(drills) - len(passed),
            _worst(recoveries, "recovery_seconds"),
            _worst(passed, "recovery_point_seconds"),
        )


def _month(run: Run) -> str:
    return f"{run.started_at:%Y-%m}"


def _worst(runs: Iterable[Run], value: str) -> float | None:
    return max((float(run.detail[value]) for run in runs if run.detail.get(value) is not None), default=None)
