"""When the last snapshot that holds a paper goes, by the rules of forgetting (`[forget]`) and the backups known here. Pure.

It is the date at the latest, as long as backups go on by their schedule: the newest snapshot of now may turn out not to be the newest of its
week or month, and go sooner.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from config.settings import ForgetSettings

Slot = Callable[[datetime], tuple[int, ...]]
SLOTS: tuple[tuple[str, Slot], ...] = (
    ("keep_daily", lambda moment: (moment.year, moment.month, moment.day)),
    ("keep_weekly", lambda moment: tuple(moment.isocalendar()[:2])),
    ("keep_monthly", lambda moment: (moment.year, moment.month)),
    ("keep_yearly", lambda moment: (moment.year,)),
)
NEAR = 1000  # coming backups that are each thought of; later ones once a day
MOST = 10_000
DAY = timedelta(days=1)


class Leaving:
    """When snapshots go."""

    def __init__(self, backups: Sequence[datetime], policy: ForgetSettings, cron: str, zone: str) -> None:
        """`backups` are the times of the snapshots known, in any order; `cron` and `zone` the schedule of those to come."""
        self._known = sorted(backups)
        self._policy = policy
        self._all = [*self._known, *_coming(cron, zone, self._known[-1], _horizon(policy))] if self._known else []
        self._starts = {name: _starts(self._all, slot, ZoneInfo(zone)) for name, slot in SLOTS}
        self._gone = {moment: self._goes_at(moment) for moment in self._known}

    def last_holding(self, since: datetime) -> tuple[datetime, datetime | None] | None:
        """(time of the snapshot, the backup after which it is forgotten) of the one that goes last among those made after `since`; the second is
        None for one that stays for longer than can be told. None when no snapshot that is known is kept."""
        held = [moment for moment in self._known[bisect_left(self._known, since) :] if (gone := self._gone[moment]) is None or gone > self._known[-1]]
        if not held:
            return None
        last = max(held, key=lambda moment: (self._gone[moment] is None, self._gone[moment] or moment, moment))
        return last, self._gone[last]

    def _goes_at(self, moment: datetime) -> datetime | None:
        """The first backup after which no rule keeps the snapshot of `moment`."""
        place = bisect_left(self._all, moment)
        after = [
            self._at(place + self._policy.keep_last),
            self._at(bisect_left(self._all, moment + timedelta(days=self._policy.keep_within_days), place)),
            *(self._after_slots(moment, self._starts[name], getattr(self._policy, name)) for name, _ in SLOTS),
        ]
        return None if None in after else max(one for one in after if one is not None)

    def _after_slots(self, moment: datetime, starts: Sequence[datetime], count: int) -> datetime | None:
        """The first backup after which the snapshot is the newest of none of the newest `count` slots."""
        own, place = bisect_right(starts, moment), bisect_right(self._known, moment)
        if not count or (place < len(self._known) and bisect_right(starts, self._known[place]) == own):
            return moment  # a newer one took its place
        return starts[own + count - 1] if own + count - 1 < len(starts) else None

    def _at(self, place: int) -> datetime | None:
        return self._all[place] if place < len(self._all) else None


def _starts(moments: Sequence[datetime], slot: Slot, zone: ZoneInfo) -> list[datetime]:
    """Those of `moments`, in order, with which a new slot begins."""
    slots = [slot(moment.astimezone(zone)) for moment in moments]
    return [moment for number, moment in enumerate(moments) if not number or slots[number] != slots[number - 1]]


def _horizon(policy: ForgetSettings) -> timedelta:
    """Within which every rule has an end."""
    days = max(policy.keep_within_days, policy.keep_daily, 7 * policy.keep_weekly, 31 * policy.keep_monthly, 366 * policy.keep_yearly)
    return timedelta(days=days + 62)


def _coming(cron: str, zone: str, after: datetime, horizon: timedelta) -> Iterator[datetime]:
    schedule = CronTrigger.from_crontab(cron, timezone=ZoneInfo(zone))
    moment, number = after, 0
    while number < MOST:
        found = schedule.get_next_fire_time(None, moment + timedelta(microseconds=1))
        if found is None or found > after + horizon:
            return
        yield found.astimezone(UTC)
        number += 1
        moment = found if number < NEAR else found + DAY - timedelta(microseconds=1)
