"""Slots, missed slots, and the two nights of the year on which the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.schedule import due, slot_after


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


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
    """On 2026-03-29 Zurich's clocks go from 02:00 to 03:00: the slot at 02:30 comes once, within the day."""
    slot = slot_after(at("2026-03-28T12:00"), "30 2 * * *", "Europe/Zurich")
    assert slot is not None
    assert at("2026-03-29T00:30") <= slot <= at("2026-03-29T02:00")
    following = slot_after(slot, "30 2 * * *", "Europe/Zurich")
    assert following == at("2026-03-30T00:30")


def test_the_hour_that_exists_twice_is_not_run_more_than_twice() -> None:
    """On 2026-10-25 Zurich's clocks go from 03:00 to 02:00."""
    moment, slots = at("2026-10-24T12:00"), []
    while (found := slot_after(moment, "30 2 * * *", "Europe/Zurich")) and found < at("2026-10-26T12:00"):
        slots.append(found)
        moment = found
    assert slots[0] == at("2026-10-25T00:30")
    assert slots[-1] == at("2026-10-26T01:30")
    assert len(slots) in (2, 3)


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
