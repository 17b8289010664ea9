"""When something is due. Pure: cron expressions, a time zone, and moments go in; a moment or a verdict comes out.

APScheduler's reading of cron is used throughout, so that "due" and "next" agree, at changes of daylight saving too.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger


def trigger(cron: str, zone: str) -> CronTrigger:
    """APScheduler's trigger for a cron expression (minute hour day month weekday) in a time zone. Raises ValueError."""
    return CronTrigger.from_crontab(cron, timezone=ZoneInfo(zone))


def slot_after(moment: datetime, cron: str, zone: str) -> datetime | None:
    """The first slot later than `moment`; None when there never is one (a 30th of February)."""
    found: datetime | None = trigger(cron, zone).get_next_fire_time(None, moment + timedelta(microseconds=1))
    return None if found is None else found.astimezone(UTC)


def due(last_run_at: datetime, cron: str, now: datetime, zone: str = "UTC") -> bool:
    """Whether a slot has passed since the last run was started: then one run catches up, however many slots were missed.

    A `last_run_at` in the future (the clock was set back) is not trusted: then nothing holds the next slot up, and nothing is caught up.
    """
    if last_run_at > now:
        return False
    slot = slot_after(last_run_at, cron, zone)
    return slot is not None and slot <= now
