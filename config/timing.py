"""How moments are written in the settings: schedules, and windows of the week with a limit of bandwidth. Pure.

A schedule is a cron expression (`15 * * * *`) or an interval (`every 6 hours`). A window is `Mon-Fri 08:00-18:00 = 2 MiB/s`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from config.words import counted

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")  # as datetime counts them, from 0
CRON_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")  # as cron does; 7 is Sunday, too
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
RATES = {"k": 1, "m": 1024, "g": 1024 * 1024}  # KiB
LONGEST = timedelta(days=366)
EVERY = re.compile(r"every +(\d{1,6}) *(m|min|minutes?|h|hours?|d|days?)", re.ASCII | re.IGNORECASE)
WINDOW = re.compile(r"(?:(\S+) +)?(\d\d):(\d\d)-(\d\d):(\d\d) *= *(\d{1,7}) *([KMG])iB/s", re.ASCII | re.IGNORECASE)
MINUTES_A_DAY = 24 * 60


def interval(text: str) -> timedelta | None:
    """The interval of `every 6 hours`; None for what is none. Raises ValueError when it is nothing, or longer than a year."""
    found = EVERY.fullmatch(text.strip())
    if found is None:
        return None
    span = int(found[1]) * UNITS[found[2][0].lower()]
    if not timedelta(0) < span <= LONGEST:
        raise ValueError("must be from 1 minute to 366 days")
    return span


def cron_fields(text: str) -> list[str]:
    """The five fields of a cron expression, days of the week by name. Raises ValueError; the values of the other fields are not looked at.

    Weekdays are counted as cron does, from Sunday; APScheduler, which reads the rest, would count them from Monday.
    """
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(f"it has {counted(len(fields), 'field')}, not five")
    fields[4] = _weekdays(fields[4])
    return fields


def check_schedule(text: str) -> str:
    """`text`, if it is a schedule. Raises ValueError."""
    from apscheduler.triggers.cron import CronTrigger

    try:
        if interval(text) is None:
            minute, hour, day, month, weekday = cron_fields(text)
            CronTrigger(minute=minute, hour=hour, day=day, month=month, day_of_week=weekday, timezone="UTC")
    except ValueError as error:
        raise ValueError(f"is neither a cron expression ('30 2 * * *') nor an interval ('every 6 hours'): {error}") from error
    return text


@dataclass(frozen=True)
class Window:
    """A part of the week, and how much may be sent in it. `start` and `end` are minutes since midnight; an end before the start is next morning's."""

    days: frozenset[int]  # from 0, which is Monday: the days on which it begins
    start: int
    end: int
    kib_per_second: int

    def covers(self, local: datetime) -> bool:
        """Whether a moment, by the clock on the wall, lies in it."""
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)


def parse_window(text: str) -> Window:
    """A window. Raises ValueError."""
    found = WINDOW.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"'{text}' is not a window; an example is 'Mon-Fri 08:00-18:00 = 2 MiB/s'")
    start, end = int(found[2]) * 60 + int(found[3]), int(found[4]) * 60 + int(found[5])
    rate = int(found[6]) * RATES[found[7].lower()]
    if max(int(found[3]), int(found[5])) > 59 or start >= MINUTES_A_DAY or end > MINUTES_A_DAY or start == end:
        raise ValueError(f"'{text}': the times must be from 00:00 to 24:00, and differ")
    if rate < 1:
        raise ValueError(f"'{text}': at least 1 KiB/s, or nothing would ever arrive")
    return Window(_days(found[1] or "mon-sun", text), start, end, rate)


def _days(names: str, text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in names.lower().split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"'{text}': the days are Mon, Tue, Wed, Thu, Fri, Sat, Sun, as in Mon-Fri or Sat,Sun")
        here, there = DAYS.index(first), DAYS.index(last or first)
        days |= {day % 7 for day in range(here, there + 1 + 7 * (there < here))}
    return frozenset(days)


def _weekdays(field: str) -> str:
    if field == "*":
        return field
    found: set[int] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        if step and not re.fullmatch(r"[1-9]\d?", step, re.ASCII):
            raise ValueError(f"'{part}' is no day of the week")
        if span == "*":
            first, last = 0, 6
        else:
            start, dash, end = span.partition("-")
            first = _cron_day(start, part)
            last = _cron_day(end, part) if dash else 6 if step else first
        if last == 0 < first:
            last = 7  # sat-sun
        if last < first:
            raise ValueError(f"'{part}' ends before it begins")
        found |= {day % 7 for day in range(first, last + 1, int(step or 1))}
    return ",".join(CRON_DAYS[day] for day in sorted(found))


def _cron_day(text: str, part: str) -> int:
    if text in CRON_DAYS:
        return CRON_DAYS.index(text)
    if re.fullmatch(r"[0-7]", text, re.ASCII):
        return int(text)
    raise ValueError(f"'{part}' is no day of the week")
