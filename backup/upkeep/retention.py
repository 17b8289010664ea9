"""Which snapshots go, and whether any may go now. Pure.

A retention that runs by itself is the one thing here that destroys backups by itself; so it stands still whenever something is odd: after a check
or a drill that failed, when the newest backup is stale, when the clock jumped, or when the papers changed, went or shrank en masse (as they do
when malware is at work). Then a person looks, and says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from backup.restic import Snapshot
from config.settings import ForgetSettings
from config.words import counted
from gateway.catalog import Run

CLOCK_SLACK = timedelta(minutes=5)
Slot = Callable[[datetime], tuple[int, ...]]
_SLOTS: tuple[tuple[str, Slot], ...] = (
    ("keep_daily", lambda moment: (moment.year, moment.month, moment.day)),
    ("keep_weekly", lambda moment: tuple(moment.isocalendar()[:2])),
    ("keep_monthly", lambda moment: (moment.year, moment.month)),
    ("keep_yearly", lambda moment: (moment.year,)),
)


def superfluous(snapshots: Sequence[Snapshot], policy: ForgetSettings, zone: str) -> list[Snapshot]:
    """The snapshots that no rule keeps, oldest first. Days are counted back from the newest snapshot, not from now: a clock that jumped, or a
    machine that slept for a year, forgets nothing by that."""
    newest_first = sorted(snapshots, key=lambda one: one.time, reverse=True)
    kept = {one.id for one in newest_first[: policy.keep_last]}
    if newest_first:
        edge = newest_first[0].time - timedelta(days=policy.keep_within_days)
        kept |= {one.id for one in newest_first if one.time > edge}
    for name, slot in _SLOTS:
        kept |= _first_of_each(newest_first, slot, getattr(policy, name), ZoneInfo(zone))
    return [one for one in reversed(newest_first) if one.id not in kept]


def _first_of_each(newest_first: Sequence[Snapshot], slot: Slot, count: int, zone: ZoneInfo) -> set[str]:
    """The newest snapshot of each of the `count` newest slots that have one."""
    found: dict[tuple[int, ...], str] = {}
    for one in newest_first:
        found.setdefault(slot(one.time.astimezone(zone)), one.id)
    return set(list(found.values())[:count])


@dataclass(frozen=True)
class History:
    """Ended runs of one place, newest first."""

    backups: Sequence[Run]
    checks: Sequence[Run]
    drills: Sequence[Run]
    forgets: Sequence[Run]


def obstacles(history: History, policy: ForgetSettings, now: datetime, stale_after: timedelta) -> list[str]:
    """Why nothing may be forgotten now; empty when nothing stands in the way."""
    since = next((run.started_at for run in history.forgets if run.state == "passed"), datetime(1970, 1, 1, tzinfo=UTC))
    return [
        *_failed(history.checks, "check"),
        *_failed(history.drills, "drill"),
        *_clock(history, now, stale_after),
        *_anomalies(history.backups, policy, since),
    ]


def _failed(runs: Sequence[Run], kind: str) -> Iterator[str]:
    verdict = next((run for run in runs if run.state in ("passed", "failed")), None)
    if verdict is not None and verdict.state == "failed":
        yield f"the newest {kind} failed ({kind} {verdict.id}): {verdict.detail.get('cause', 'cause unknown')}"


def _clock(history: History, now: datetime, stale_after: timedelta) -> Iterator[str]:
    good = next((run for run in history.backups if run.state == "passed"), None)
    if good is None:
        yield "there is no good backup"
        return
    # What a person has seen to is told by numbers: the times of that hour lie in the future until they have come, which may be in years.
    seen = max((run.id for run in history.forgets if run.state == "passed" and run.detail.get("confirmed")), default=0)
    kinds = (history.backups, history.checks, history.drills, history.forgets)
    if any(run.id > seen and run.started_at - now > CLOCK_SLACK for runs in kinds for run in runs[:20]):
        yield "something was recorded in the future: was the clock set back?"
    elif now - good.started_at > stale_after:
        yield f"the newest good backup is of {good.started_at:%Y-%m-%d %H:%M} UTC: backups do not run, or the clock was set forward"


def _anomalies(backups: Sequence[Run], policy: ForgetSettings, since: datetime) -> Iterator[str]:
    """What was odd between one good backup and the next, since the last time that something was forgotten."""
    good = [run for run in backups if run.state == "passed"]
    for run, before in itertools.pairwise(good):
        if run.started_at <= since:
            return
        at = f"{run.started_at:%Y-%m-%d %H:%M} UTC"
        papers, had = run.detail.get("papers", 0), before.detail.get("papers", 0)
        size, was = run.detail.get("bytes", 0), before.detail.get("bytes", 0)
        if had and papers < had * (1 - policy.most_papers_gone_percent / 100):
            yield f"papers went en masse before {at}: {had} became {papers}"
        if was and size < was * (1 - policy.most_shrinkage_percent / 100):
            yield f"the data shrank before {at}: {counted(was, 'byte')} became {size}"
        if was >= policy.changes_from_bytes and run.detail.get("added_bytes", 0) > was * policy.most_change_percent / 100:
            yield f"much changed before {at}: {counted(run.detail.get('added_bytes', 0), 'byte was', 'bytes were')} new, of {was}"
