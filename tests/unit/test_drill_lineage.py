"""Snapshots that pass for new and are not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.drill.lineage import impostors, is_of_its_run
from backup.restic import Snapshot
from gateway.catalog import Catalog, Run
from gateway.catalog.rows import RunState

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


def snapshot(letter: str, hours_ago: float, *tags: str) -> Snapshot:
    return Snapshot(letter * 64, NOW - timedelta(hours=hours_ago), "nightsafe", ("nightsafe", *tags), ("/vault",))


def backup(number: int, hours_ago: float, state: RunState = "passed") -> Run:
    at = NOW - timedelta(hours=hours_ago)
    return Run(number, "backup", state, at, None if state == "running" else at + timedelta(minutes=1), None, None, {})


RUNS = {7: backup(7, 48), 8: backup(8, 24), 9: backup(9, 2, "interrupted"), 10: backup(10, 0.01, "running")}
ENDED = replace(backup(12, 0.01), snapshot="d" * 64, keys_snapshot="e" * 8)  # while the drill looked at what there is
RUNS[12] = ENDED
KNOWN = snapshot("b", 24, "run:8")


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (snapshot("c", 2, "run:9"), ""),
        (snapshot("c", 0, "run:10"), ""),
        (snapshot("d", 0, "run:12"), ""),
        (snapshot("e", 0, "run:12"), ""),
        (snapshot("c", 0, "run:12"), "bears the number of backup 12, which made another"),
        (snapshot("c", 30, "run:7"), ""),  # older than the newest that is known: it passes for nothing
        (snapshot("c", 1), "no backup made it"),
        (snapshot("c", 1, "run:11"), "no backup made it"),
        (snapshot("c", 1, "run:" + "9" * 30), "no backup made it"),
        (snapshot("c", 1, "run:x"), "no backup made it"),
        (snapshot("c", 1, "run:7"), "bears the number of backup 7, which made another"),
        (snapshot("c", 1, "run:8"), "bears the number of backup 8, which made another"),
        (snapshot("c", 1, "run:9"), "bears the number of backup 9, which was at another time"),
        (snapshot("c", -1, "run:10"), "is of the future"),
        (snapshot("c", 1, "destruction"), "no backup made it"),
    ],
)
def test_what_no_backup_of_that_time_made_is_named(one: Snapshot, expected: str) -> None:
    found, doubts = impostors([snapshot("a", 48, "run:7"), KNOWN, one], KNOWN, RUNS.get, NOW)
    assert (found == []) if not expected else (len(found) == 1 and expected in found[0])
    assert doubts == [], "no clock was set"


def test_keys_that_were_saved_because_a_client_was_destroyed() -> None:
    assert impostors([KNOWN, snapshot("c", 1, "destruction")], KNOWN, RUNS.get, NOW, destroyed=True) == ([], [])


def test_many_are_counted() -> None:
    found, _ = impostors([snapshot(letter, 1) for letter in "cdef0123"], KNOWN, RUNS.get, NOW)
    assert len(found) == 6 and found[-1] == "and 3 more"


AHEAD = {
    20: replace(backup(20, -1, "interrupted"), ended_at=NOW - timedelta(hours=1)),  # the clock was ahead, and right when the next backup began
    21: backup(21, -1, "running"),  # it was set back while this one runs
    22: backup(22, -1),
    23: replace(backup(23, 1, "failed"), ended_at=NOW - timedelta(hours=1.5)),  # set back meanwhile, some time ago
}


@pytest.mark.parametrize(
    ("one", "is_doubt"),
    [
        (snapshot("c", -1, "run:20"), True),
        (snapshot("c", 0.8, "run:20"), False),  # of neither clock's time of that run
        (snapshot("c", 0, "run:21"), True),
        (snapshot("c", 1.6, "run:23"), True),
        (snapshot("c", -1, "run:22"), False),  # that backup ended, and made another
        (snapshot("c", -1, "run:99"), False),
        (snapshot("c", -1), False),
        (snapshot("c", -24, "run:20"), False),  # further ahead than the clock ever was
        (snapshot("c", -1, "run:10"), False),  # a run that no clock disturbed
        (snapshot("c", 0.5, "run:9"), False),
    ],
)
def test_a_clock_that_was_set_back_makes_a_snapshot_of_ours_a_doubt_and_excuses_no_other(one: Snapshot, is_doubt: bool) -> None:
    faults, doubts = impostors([KNOWN, one], KNOWN, (RUNS | AHEAD).get, NOW)
    assert (len(faults), len(doubts)) == (not is_doubt, is_doubt)


def test_a_dump_knows_its_run_as_the_one_under_way(tmp_path: Path) -> None:
    now = (NOW - datetime.now(UTC)).total_seconds() / 3600  # the catalog has real times
    with Catalog.create(tmp_path / "catalog.sqlite3") as dump:
        assert not is_of_its_run(snapshot("a", now, "run:1"), dump), "made before that run began"
        first, drill, second = dump.start_run("backup"), dump.start_run("drill"), dump.start_run("copy")
        assert all(is_of_its_run(snapshot("a", now, f"run:{run}"), dump) for run in (first, second)), "to two places at once"
        assert not is_of_its_run(snapshot("a", now, f"run:{drill}"), dump)
        assert not is_of_its_run(snapshot("a", now - 24, f"run:{first}"), dump), "dated anew"
        dump.finish_run(first, "passed")
        assert not is_of_its_run(snapshot("a", now, f"run:{first}"), dump), "made after that run had ended"
        assert is_of_its_run(snapshot("a", now), dump), "of somebody who tags nothing: nothing to compare"
