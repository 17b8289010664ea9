"""Green means proven, and elsewhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backup.status.backups import NOT_OFFSITE, BackupStatus, judge
from gateway.catalog import Run

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def run(kind: str, state: str, hours_ago: float, number: int = 1, **detail: Any) -> Run:
    at = NOW - hours_ago * HOUR
    good = kind == "backup" and state in ("passed", "partial")
    return Run(number, kind, state, at, at, "a" * 64 if good else None, None, {"files": 3, **detail} if good else detail)  # type: ignore[arg-type]


def verdict(backups: list[Run], drills: list[Run], offsite: bool = True) -> BackupStatus:
    return judge(backups, drills, NOW, backup_limit=26 * HOUR, drill_limit=50 * HOUR, offsite=offsite)


GOOD = run("backup", "passed", 1)
PROVEN = run("drill", "passed", 5, drawn=3)


def test_green() -> None:
    found = verdict([GOOD], [PROVEN])
    assert (found.colour, found.reasons, found.snapshot) == ("green", (), "a" * 64)


def test_a_drill_of_no_papers_proves_little() -> None:
    found = verdict([GOOD], [run("drill", "passed", 5, drawn=0)])
    assert found.colour == "yellow"
    assert "no papers" in found.reasons[0]


def test_the_embedded_server_is_never_green() -> None:
    found = verdict([GOOD], [PROVEN], offsite=False)
    assert (found.colour, found.reasons) == ("yellow", (NOT_OFFSITE,))
    assert not found.green


@pytest.mark.parametrize(
    ("backups", "drills", "words"),
    [
        ([], [], "no backup yet"),
        ([GOOD], [], "no drill has passed yet"),
        ([run("backup", "passed", 27)], [PROVEN], "27 hours old; the limit is 26 hours"),
        ([run("backup", "failed", 0.5, error="S3 away"), GOOD], [PROVEN], "the newest backup failed: S3 away"),
        ([run("backup", "partial", 0.5, error="x"), GOOD], [PROVEN], "ended partial"),
        ([run("backup", "interrupted", 0.5), GOOD], [PROVEN], "ended interrupted"),
        ([run("backup", "passed", 1, files=0)], [PROVEN], "no backup yet"),
        ([run("backup", "passed", -3)], [PROVEN], "clock set back"),
        ([GOOD], [run("drill", "failed", 1, cause="1 bad"), PROVEN], "newest drill failed: 1 bad"),
        ([GOOD], [run("drill", "passed", 80)], "last passed drill is 3 days old"),
        ([GOOD], [run("drill", "inconclusive", 1)], "no drill has passed yet"),
    ],
)
def test_red(backups: list[Run], drills: list[Run], words: str) -> None:
    found = verdict(backups, drills)
    assert found.colour == "red"
    assert any(words in reason for reason in found.reasons), found.reasons


def test_an_inconclusive_drill_after_a_passed_one_is_yellow() -> None:
    assert verdict([GOOD], [run("drill", "inconclusive", 1, cause="S3 away"), PROVEN]).colour == "yellow"


def test_a_run_that_is_under_way_changes_nothing() -> None:
    assert verdict([run("backup", "running", 0), GOOD], [run("drill", "running", 0), PROVEN]).colour == "green"


def test_it_can_be_printed() -> None:
    found = verdict([GOOD], [PROVEN], offsite=False)
    assert json.loads(json.dumps(found.as_dict()))["colour"] == "yellow"
    assert "not offsite" in str(found.lines()["backup"])
