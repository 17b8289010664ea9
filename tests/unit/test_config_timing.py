"""Schedules and windows as they are written in the settings."""

from __future__ import annotations

from datetime import timedelta

import pytest

from config.timing import check_schedule, cron_fields, interval, parse_window


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("every 6 hours", 6 * 60),
        ("every 90m", 90),
        ("Every 1 day", 24 * 60),
        ("every 2h", 120),
        ("every  15 min", 15),
        ("15 * * * *", None),
        ("6 hours", None),
    ],
)
def test_intervals(text: str, expected: int | None) -> None:
    assert interval(text) == (None if expected is None else timedelta(minutes=expected))


@pytest.mark.parametrize("text", ["every 0 hours", "every 999999 days", "every 400 days"])
def test_intervals_that_make_no_sense(text: str) -> None:
    with pytest.raises(ValueError):
        interval(text)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("0", "sun"), ("7", "sun"), ("1-5", "mon,tue,wed,thu,fri"), ("5-7", "sun,fri,sat"), ("*/2", "sun,tue,thu,sat"), ("SUN", "sun"),
        ("sat-sun", "sun,sat"), ("1,3,fri", "mon,wed,fri"), ("1-5/2", "mon,wed,fri"), ("*", "*"), ("3/3", "wed,sat"),
    ],
)  # fmt: skip
def test_days_of_the_week(field: str, expected: str) -> None:
    assert cron_fields(f"0 6 * * {field}")[4] == expected


@pytest.mark.parametrize(
    "text",
    [
        "often",
        "",
        "* * * *",
        "60 * * * *",
        "0 0 * * 8",
        "0 0 * * fri-mon",
        "0 0 * * noday",
        "0 0 * * */0",
        "every",
        "every -1 hours",
        "0 25 * * *",
        "0 0 * * ,",
    ],
)
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(ValueError, match="cron expression"):
        check_schedule(text)


def test_a_window() -> None:
    one = parse_window("Mon-Fri 08:00-18:00 = 2 MiB/s")
    assert (one.days, one.start, one.end, one.kib_per_second) == (frozenset(range(5)), 480, 1080, 2048)
    assert parse_window("00:00-24:00=1GiB/s").days == frozenset(range(7))
    assert parse_window("sat-mon 22:00-06:00 = 300 kib/s").days == {5, 6, 0}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "08:00-18:00",
        "08:00-18:00 = 2 MB/s",
        "Mo 08:00-18:00 = 2 MiB/s",
        "08:61-09:00 = 1 MiB/s",
        "25:00-26:00 = 1 MiB/s",
        "08:00-08:00 = 1 MiB/s",
        "08:00-09:00 = 0 KiB/s",
    ],
)
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(ValueError):
        parse_window(text)
