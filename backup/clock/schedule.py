"""When something is due, and how fast it may send then. Pure: rules, a time zone, and moments go in; a moment or a verdict comes out.

APScheduler's reading of cron is used throughout, so that "due" and "next" agree, at changes of daylight saving too:

- an hour that does not exist is not lost: its slot comes an hour later;
- in an hour that exists twice, a rule that names its hours has its slots once; one for every hour (`15 * * * *`) goes on hour by hour.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from config.timing import Window, cron_fields, interval

EPOCH = datetime(2000, 1, 3, tzinfo=UTC)  # a Monday: intervals are counted from here, so that they are the same after a restart
INSTANT = timedelta(microseconds=1)
NO_OFFSET = timedelta(0)


@dataclass(frozen=True)
class Timetable:
    """A rule (cron expression or interval) in a time zone. All slots come `offset` later than the rule says."""

    rule: str
    zone: str = "UTC"
    offset: timedelta = NO_OFFSET

    def after(self, moment: datetime) -> datetime | None:
        """The first slot later than `moment`; None when there never is one (a 30th of February). Raises ValueError for a rule that is none."""
        moment -= self.offset
        span = interval(self.rule)
        if span is not None:
            return EPOCH + ((moment - EPOCH) // span + 1) * span + self.offset
        found = _next(self.rule, self.zone, moment)
        while found is not None and found.fold and not self.rule.split()[1].startswith("*"):
            found = _next(self.rule, self.zone, found)  # it came an hour ago
        return None if found is None else found.astimezone(UTC) + self.offset

    def due(self, since: datetime, now: datetime) -> bool:
        """Whether a slot has passed since the last run was begun: then one run catches up, however many slots were missed.

        A `since` in the future (the clock was set back) is not trusted: then nothing holds the next slot up, and nothing is caught up.
        """
        if since > now:
            return False
        slot = self.after(since)
        return slot is not None and slot <= now


def offset_of(installation: bytes, name: str, most_seconds: float) -> timedelta:
    """How much later than its rule the job `name` of an installation runs: less than `most_seconds`, the same each time, and another one for
    another installation, so that many of them do not ask one service all at once."""
    drawn = int.from_bytes(hashlib.sha256(b"nightsafe jitter v1\0" + installation + b"\0" + name.encode()).digest()[:8], "big")
    return timedelta(seconds=int(drawn / 2**64 * most_seconds))


def limit_at(windows: Iterable[Window], zone: str, moment: datetime) -> int | None:
    """KiB a second that may be sent at `moment`: the least of the windows that cover it; None when none does."""
    local = moment.astimezone(ZoneInfo(zone))
    return min((window.kib_per_second for window in windows if window.covers(local)), default=None)


def _next(rule: str, zone: str, moment: datetime) -> datetime | None:
    found: datetime | None = _trigger(rule, zone).get_next_fire_time(
        None, moment.astimezone(UTC) + INSTANT
    )  # in UTC: sums of local times forget the fold
    return found


@lru_cache(64)
def _trigger(rule: str, zone: str) -> CronTrigger:
    minute, hour, day, month, weekday = cron_fields(rule)
    return CronTrigger(minute=minute, hour=hour, day=day, month=month, day_of_week=weekday, timezone=ZoneInfo(zone))
