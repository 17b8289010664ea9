"""Slots, missed slots, offsets, windows, and the two nights of the year on which the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.clock.schedule import Timetable, limit_at, offset_of
from config.timing import parse_window

ZURICH = "Europe/Zurich"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def due(since: datetime, rule: str, now: datetime, zone: str = "UTC") -> bool:
    return Timetable(rule, zone).due(since, now)


def slot_after(moment: datetime, rule: str, zone: str) -> datetime | None:
    return Timetable(rule, zone).after(moment)


def slots(rule: str, zone: str, start: str, end: str) -> list[str]:
    """All slots between two moments, in UTC."""
    found, moment = [], at(start)
    while (slot := slot_after(moment, rule, zone)) and slot <= at(end):
        found.append(f"{slot:%d %H:%M}")
        moment = slot
    return found


@pytest.mark.parametrize(
    ("last", "now", "expected"),
    [
        ("2026-11-20T03:45", "2026-11-20T12:00", False),
        ("2026-11-20T03:45", "2026-11-21T03:44:59", False),
        ("2026-11-20T03:45", "2026-11-21T03:45", True),
        ("2026-11-20T03:45", "2026-11-27T12:00", True),
        ("2026-11-20T03:44:59", "2026-11-20T03:45:01", True),
        ("2026-11-20T03:45:10", "2026-11-20T03:46", False),
        ("2026-11-22T00:00", "2026-11-20T12:00", False),
    ],
)
def test_a_slot_that_passed_since_the_last_run_is_due(last: str, now: str, expected: bool) -> None:
    assert due(at(last), "45 3 * * *", at(now)) is expected


def test_after_catching_up_nothing_is_due_until_the_next_slot() -> None:
    caught_up = at("2026-11-27T12:00")
    assert not due(caught_up, "45 3 * * *", caught_up + timedelta(seconds=1))
    assert due(caught_up, "45 3 * * *", at("2026-11-28T03:45"))


def test_slots_are_in_the_zone_of_the_settings() -> None:
    assert slot_after(at("2026-07-01T00:00"), "0 2 * * *", "Asia/Shanghai") == at("2026-07-01T18:00")
    assert slot_after(at("2026-01-01T12:00"), "0 2 * * *", "Europe/Zurich") == at("2026-01-02T01:00")


def test_the_hour_that_does_not_exist_is_not_lost() -> None:
    """On 2026-03-29 Zurich's clocks go from 02:00 to 03:00: what was to come at 02:30 comes once, at 03:30."""
    assert slots("30 2 * * *", ZURICH, "2026-03-28T12:00", "2026-03-31T12:00") == ["29 01:30", "30 00:30", "31 00:30"]
    assert slots("15 * * * *", ZURICH, "2026-03-28T23:30", "2026-03-29T02:30") == ["29 00:15", "29 01:15", "29 02:15"]


def test_the_hour_that_exists_twice_has_its_slots_once() -> None:
    """On 2026-10-25 Zurich's clocks go from 03:00 to 02:00."""
    assert slots("30 2 * * *", ZURICH, "2026-10-24T12:00", "2026-10-26T12:00") == ["25 00:30", "26 01:30"]
    assert slots("*/20 1-2 * * *", ZURICH, "2026-10-24T22:50", "2026-10-25T05:00") == [
        f"{hour}:{m}" for hour in ("24 23", "25 00") for m in ("00", "20", "40")
    ]
    assert slots("15 * * * *", ZURICH, "2026-10-24T23:30", "2026-10-25T02:30") == ["25 00:15", "25 01:15", "25 02:15"], "this means every hour"


@pytest.mark.parametrize(("since", "now"), [("2026-10-25T00:30:01", "2026-10-25T01:45"), ("2026-03-29T01:30:01", "2026-03-29T03:45")])
def test_what_ran_in_such_a_night_is_not_due_again_that_night(since: str, now: str) -> None:
    assert not due(at(since), "30 2 * * *", at(now), ZURICH)


def test_an_interval_takes_no_notice_of_clocks_on_the_wall() -> None:
    assert slots("every 6 hours", ZURICH, "2026-03-28T13:00", "2026-03-29T19:00") == ["28 18:00", "29 00:00", "29 06:00", "29 12:00", "29 18:00"]
    assert slots("every 90 minutes", "UTC", "2026-01-01T00:00", "2026-01-01T05:00") == ["01 01:30", "01 03:00", "01 04:30"]
    assert not due(at("2026-01-01T01:30"), "every 90 minutes", at("2026-01-01T02:59:59"))
    assert due(at("2026-01-01T01:30"), "every 90 minutes", at("2026-03-01T03:00"))


def test_weekdays_are_counted_as_cron_does() -> None:
    sunday = "2026-11-22"
    for rule in ("0 6 * * 0", "0 6 * * 7", "0 6 * * sun"):
        assert slot_after(at("2026-11-20T12:00"), rule, "UTC") == at(f"{sunday}T06:00")
    assert slots("0 6 * * 1-5", "UTC", "2026-11-20T12:00", "2026-11-24T12:00") == ["23 06:00", "24 06:00"]


def test_all_slots_move_by_the_offset() -> None:
    late = Timetable("45 3 * * *", "UTC", timedelta(minutes=7))
    assert late.after(at("2026-01-01T03:50")) == at("2026-01-01T03:52")
    assert late.after(at("2026-01-01T03:52")) == at("2026-01-02T03:52")
    assert not late.due(at("2026-01-01T03:52"), at("2026-01-02T03:51"))
    assert Timetable("every 6 hours", "UTC", timedelta(minutes=7)).after(at("2026-01-01T06:01")) == at("2026-01-01T06:07")


def test_the_offset_is_drawn_once_and_lies_below_the_bound() -> None:
    drawn = [offset_of(str(number).encode(), "backup", 600) for number in range(500)]
    assert drawn == [offset_of(str(number).encode(), "backup", 600) for number in range(500)]
    assert timedelta(0) <= min(drawn) < timedelta(seconds=20)
    assert timedelta(seconds=580) < max(drawn) < timedelta(seconds=600)
    assert offset_of(b"one", "backup", 600) != offset_of(b"one", "check", 600)
    assert offset_of(b"one", "backup", 0) == timedelta(0)


def test_the_least_of_the_windows_holds_by_the_clock_on_the_wall() -> None:
    windows = [parse_window(text) for text in ("Mon-Fri 08:00-18:00 = 2 MiB/s", "Sat,Sun 22:00-06:00 = 512 KiB/s", "12:00-13:00 = 1 MiB/s")]

    def limit(moment: str) -> int | None:
        return limit_at(windows, ZURICH, at(moment))

    assert limit("2026-07-01T05:59") is None and limit("2026-07-01T06:00") == 2048, "08:00 in summer"
    assert limit("2026-12-02T06:59") is None and limit("2026-12-02T07:00") == 2048, "and in winter"
    assert limit("2026-07-01T10:30") == 1024
    assert limit("2026-07-01T16:00") is None
    assert limit("2026-07-04T20:00") == 512, "Saturday night"
    assert limit("2026-07-06T03:59") == 512, "which Sunday's is on Monday morning"
    assert limit("2026-07-07T03:59") is None, "Monday's is none"
    assert limit_at([], ZURICH, at("2026-07-01T10:30")) is None


def test_a_slot_that_never_comes_is_never_due() -> None:
    assert slot_after(at("2026-01-01T00:00"), "0 0 30 2 *", "UTC") is None
    assert not due(at("2026-01-01T00:00"), "0 0 30 2 *", at("2030-01-01T00:00"))


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),
    st.timedeltas(timedelta(0), timedelta(days=3)),
    st.sampled_from(["15 * * * *", "45 3 * * *", "30 2 * * *", "0 0 1 * *", "*/5 1-4 * * mon"]),
    st.sampled_from(["UTC", "Europe/Zurich", "Asia/Shanghai", "America/New_York"]),
)
def test_due_agrees_with_the_slots(last: datetime, passed: timedelta, cron: str, zone: str) -> None:
    last = last.replace(tzinfo=UTC)
    now = last + passed
    slot = slot_after(last, cron, zone)
    assert slot is not None
    assert slot > last
    assert due(last, cron, now, zone) is (slot <= now)
