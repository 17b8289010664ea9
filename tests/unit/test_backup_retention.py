"""What is forgotten, and what keeps anything from being forgotten."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backup.restic import Snapshot
from backup.upkeep.check import Coverage, coverage, newest_verdict, next_part, overdue
from backup.upkeep.retention import History, obstacles, superfluous
from config.settings import ForgetSettings
from gateway.catalog import Run

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
NOTHING = {"keep_within_days": 0, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "keep_yearly": 0}
LIMIT = timedelta(hours=26)


def snapshots(*ages: timedelta) -> list[Snapshot]:
    return [Snapshot(f"{number:064x}", NOON - age, "nightsafe", (), (), None) for number, age in enumerate(ages)]


def left(policy: ForgetSettings, *ages: timedelta, zone: str = "UTC") -> list[timedelta]:
    made = snapshots(*ages)
    gone = {one.id for one in superfluous(made, policy, zone)}
    return sorted(NOON - one.time for one in made if one.id not in gone)


def run(kind: Any, state: Any, age: timedelta, number: int = 1, **detail: Any) -> Run:
    at = NOON - age
    return Run(number, kind, state, at, at, "s", "k", detail)


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


def test_the_newest_stay_however_old_they_are() -> None:
    policy = ForgetSettings(keep_last=2, **NOTHING)
    years = [timedelta(days=400 * number) for number in range(1, 5)]
    assert left(policy, *years) == years[:2]
    assert left(policy) == []


def test_within_counts_from_the_newest_snapshot() -> None:
    policy = ForgetSettings(keep_last=1, **(NOTHING | {"keep_within_days": 2}))
    asleep = timedelta(days=700)
    ages = [asleep + hours(step) for step in (0, 20, 47, 49, 100)]
    assert left(policy, *ages) == ages[:3]


def test_the_newest_of_each_day_week_month_and_year() -> None:
    hourly = [hours(step) for step in range(24 * 800)]
    assert len(left(ForgetSettings(keep_last=1, **(NOTHING | {"keep_daily": 30})), *hourly)) == 30
    assert len(left(ForgetSettings(keep_last=1, **(NOTHING | {"keep_weekly": 5})), *hourly)) == 5
    assert len(left(ForgetSettings(keep_last=1, **(NOTHING | {"keep_monthly": 12})), *hourly)) == 12
    assert left(ForgetSettings(keep_last=1, **(NOTHING | {"keep_yearly": 9})), *hourly)[0] == hours(0)
    assert len(left(ForgetSettings(keep_last=1, **(NOTHING | {"keep_yearly": 9})), *hourly)) == 3


def test_a_day_is_one_of_the_zone() -> None:
    policy = ForgetSettings(keep_last=1, **(NOTHING | {"keep_daily": 2}))
    ages = [hours(0), hours(11)]  # 12:00 and 01:00 UTC: one day there, two in New York
    assert left(policy, *ages) == [hours(0)]
    assert left(policy, *ages, zone="America/New_York") == ages


GOOD = [run("backup", "passed", hours(1), papers=100, bytes=1000), run("backup", "passed", hours(2), papers=100, bytes=1000)]


def why(backups: list[Run] | None = None, checks: list[Run] | None = None, drills: list[Run] | None = None, forgets: list[Run] | None = None) -> str:
    history = History(GOOD if backups is None else backups, checks or [], drills or [], forgets or [])
    return "; ".join(obstacles(history, ForgetSettings(changes_from_bytes=1000), NOON, LIMIT))


def test_nothing_odd_is_no_obstacle() -> None:
    assert why() == ""
    assert why(checks=[run("check", "inconclusive", hours(1)), run("check", "passed", hours(3)), run("check", "failed", hours(9))]) == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            {"checks": [run("check", "inconclusive", hours(1)), run("check", "failed", hours(3), cause="bits")]},
            "the newest check failed (check 1): bits",
        ),
        ({"drills": [run("drill", "failed", hours(3), cause="papers")]}, "the newest drill failed (drill 1): papers"),
        ({"backups": []}, "no good backup"),
        ({"backups": [run("backup", "failed", hours(1)), *(run("backup", "passed", hours(30)),)]}, "the clock was set forward"),
        ({"backups": [run("backup", "passed", hours(-1))]}, "clock set back"),
        ({"forgets": [run("forget", "passed", hours(-1))]}, "clock set back"),
        ({"backups": [run("backup", "passed", hours(1), papers=79), run("backup", "passed", hours(2), papers=100)]}, "100 became 79"),
        ({"backups": [run("backup", "passed", hours(1), bytes=700), run("backup", "passed", hours(2), bytes=1000)]}, "shrank"),
        (
            {"backups": [run("backup", "passed", hours(1), bytes=1600, added_bytes=600), run("backup", "passed", hours(2), bytes=1000)]},
            "much changed",
        ),
        ({"backups": [*GOOD, run("backup", "passed", hours(3), papers=900)]}, "900 became 100"),
    ],
)
def test_what_is_odd_stops_it(found: dict[str, list[Run]], words: str) -> None:
    assert words in why(**found)


def test_what_a_person_saw_to_is_odd_no_more() -> None:
    dropped = [*GOOD, run("backup", "passed", hours(3), papers=900)]
    assert why(dropped, forgets=[run("forget", "failed", hours(0.5))])
    assert why(dropped, forgets=[run("forget", "passed", hours(0.5))]) == ""


def test_a_clock_that_was_wrong_for_an_hour_asks_for_a_person_once() -> None:
    """What was recorded meanwhile stays in the future for years."""
    ahead = [run("forget", "failed", timedelta(days=-3650), 7)]
    assert "clock set back" in why(forgets=ahead)
    confirmed = run("forget", "passed", hours(0.5), 8, confirmed="the battery was changed")
    assert why(forgets=[confirmed, *ahead]) == ""
    assert "clock set back" in why(forgets=[run("forget", "passed", hours(0.5), 8), *ahead]), "nobody has seen to it"
    assert "clock set back" in why(forgets=[run("forget", "failed", hours(-9), 9), confirmed, *ahead]), "again"


def test_parts_are_read_in_turn_and_a_fault_begins_anew() -> None:
    checks: list[Run] = []
    for age in (9, 8, 7):
        checks.insert(0, run("check", "passed", hours(age), part=next_part(checks, 3), parts=3))
    assert [one.detail["part"] for one in checks] == [3, 2, 1]
    assert next_part(checks, 3) == 1
    found = coverage(checks, 3)
    assert (found.whole, found.since) == (True, NOON - hours(9))
    assert str(coverage(checks[1:], 3)) == "2 of 3 parts of all packs read since 2026-06-15"
    assert not coverage(checks, 4).read, "other parts than now"
    assert str(coverage([run("check", "failed", hours(1)), *checks], 3)) == "nothing was read yet"
    whole = coverage([checks[0], run("check", "passed", hours(20), whole=True)], 3)
    assert (whole.whole, whole.since) == (True, NOON - hours(20))


@pytest.mark.parametrize("parts", [1, 2, 7, 30, 100, 255, 256])
def test_so_many_checks_read_every_pack_whatever_was_read_before(parts: int) -> None:
    """restic's part n of t holds the packs whose id's first byte leaves n - 1 when divided by t; a pack's id is its hash, so any byte may come."""
    checks: list[Run] = []
    states = itertools.cycle(["passed", "inconclusive", "passed", "interrupted", "passed"])
    for day in range(3 * parts):
        detail = {"part": next_part(checks, parts), "parts": parts}
        checks.insert(0, run("check", next(states), timedelta(days=3 * parts - day), **detail))
    read: set[int] = set()  # from here on all goes well: any `parts` checks in a row are enough
    for day in range(parts):
        part = next_part(checks, parts)
        read |= {byte for byte in range(256) if byte % parts == part - 1}
        detail = {"part": part, "parts": parts}
        checks.insert(0, run("check", "passed", timedelta(days=-day), **detail))
    assert read == set(range(256))
    found = coverage(checks, parts)
    assert found.whole and found.since == NOON


def test_a_check_that_reached_nothing_hides_no_fault() -> None:
    failed, away = run("check", "failed", hours(5)), run("check", "inconclusive", hours(1))
    assert newest_verdict([away, failed]) is failed
    assert newest_verdict([run("check", "passed", hours(0)), away, failed]) is not failed
    assert newest_verdict([away]) is None


def test_packs_that_nobody_reads_are_overdue() -> None:
    limit = timedelta(days=60)
    assert not overdue(Coverage(3, 30, NOON - timedelta(days=59)), NOON - timedelta(days=400), NOON, limit)
    assert overdue(Coverage(30, 30, NOON - timedelta(days=61)), NOON - timedelta(days=400), NOON, limit)
    assert not overdue(Coverage(0, 30, None), NOON - timedelta(days=59), NOON, limit)
    assert overdue(Coverage(0, 30, None), NOON - timedelta(days=61), NOON, limit)
