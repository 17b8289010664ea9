"""What `backup snapshots` says of each snapshot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backup.repositories.access import RepositoryName
from backup.repositories.marks import mark
from backup.restic import Snapshot
from gateway.catalog import Run

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OURS, OTHER = "a" * 64, "b" * 64


def snapshot(identity: str = OURS, *tags: str, hours: float = 0) -> Snapshot:
    return Snapshot(identity, NOON + hours * HOUR, "nightsafe", tags, ())


def backup(state: Any = "passed", recorded: str | None = OURS, **detail: Any) -> Run:
    return Run(7, "backup", state, NOON - 0.1 * HOUR, NOON + 0.1 * HOUR, recorded, recorded, detail)


def drill(number: int, state: Any, of: str = OURS, **detail: Any) -> Run:
    return Run(number, "drill", state, NOON, NOON, of, of, {"kind": "full", **detail})


def told(one: Snapshot, run: Run | None, *drills: Run, repository: RepositoryName = "papers", known: bool = True) -> str:
    return mark(one, repository, {7: run}.get, drills, NOON + HOUR, known=known).text


def test_a_whole_backup_is_proven_or_not() -> None:
    assert told(snapshot(OURS, "run:7"), backup()) == "not proven"
    assert told(snapshot(OURS, "run:7"), backup(), drill(9, "passed")) == "proven by drill 9 (full)"
    assert told(snapshot(OURS, "run:7"), backup(), drill(9, "passed", OTHER)) == "not proven"


def test_the_newest_verdict_counts_and_one_without_is_none() -> None:
    drills = (drill(11, "inconclusive"), drill(10, "failed", cause="1 damaged"), drill(9, "passed"))
    assert told(snapshot(OURS, "run:7"), backup(), *drills) == "bad by drill 10 (full): 1 damaged"
    assert told(snapshot(OURS, "run:7"), backup(), *drills, repository="keys").startswith("bad")


def test_a_partial_one_says_so_whatever_a_drill_showed() -> None:
    partial = backup("partial", unread=3)
    assert told(snapshot(OURS, "run:7"), partial, drill(9, "passed")) == "partial: 3 files could not be read; proven by drill 9 (full)"


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (snapshot(OTHER, "run:7"), "doubtful: bears the number of backup 7, which made another"),
        (snapshot(OTHER), "doubtful: no backup made it"),
        (snapshot(OTHER, "run:8"), "doubtful: no backup made it"),
        (snapshot(OTHER, "run:x"), "doubtful: no backup made it"),
        (snapshot(OTHER, "run:7", hours=9), "doubtful: bears the number of backup 7, which made another"),
        (snapshot(OTHER, hours=9), "doubtful: is of the future"),
        (snapshot(OTHER, "destruction"), "doubtful: no backup made it"),
    ],
)
def test_what_no_backup_made_is_doubtful(one: Snapshot, words: str) -> None:
    assert told(one, backup()).startswith(words)
    assert told(one, backup(), drill(9, "failed", OTHER, cause="old")).endswith("; bad by drill 9 (full): old")


def test_what_is_no_fault_is_explained() -> None:
    assert told(snapshot(OTHER, "run:7"), backup("interrupted", None)) == "of a backup that did not end; not proven"
    assert told(snapshot(OTHER, "destruction"), None, repository="keys") == "not proven"
    assert told(snapshot(OTHER, "run:7"), backup(), repository="keys").startswith("made before the keys changed")
    assert told(snapshot(OTHER, "run:7"), None, known=False) == "not known here; not proven"
