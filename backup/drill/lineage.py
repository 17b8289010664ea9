"""Does every snapshot that passes for new come from a backup of that time? Pure.

Whoever can write to a repository, or a bug, may date an old snapshot anew or save old content again: then `latest`, and with it every restore, is
of long ago, and nothing is damaged. A backup's snapshot bears the number of its run, and the catalog knows when that run was and which snapshot
it made; a dump knows which run it was made by.

A clock that was set back makes a snapshot of ours look like that, too. Where the catalog's own record shows it (a run that begins in the future, or
ended before it began), a snapshot of that run is a doubt, which allows no verdict, and no fault. Whoever can write to a repository cannot write
that record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from backup.restic import Snapshot
from config.errors import UsageError
from gateway.catalog import Catalog, Run

SLACK = timedelta(minutes=5)  # between our clock and the one that dated a snapshot
PREPARING = timedelta(hours=6)  # at most from the beginning of a run to that of restic, which may wait for a service
NAMED = 5


def impostors(
    there: Sequence[Snapshot], newest: Snapshot | None, look_up: Callable[[int], Run | None], now: datetime, *, destroyed: bool = False
) -> tuple[list[str], list[str]]:
    """What is wrong with the snapshots that are younger than `newest`, the newest that the catalog knows, and what cannot be told of them because
    the clock was set back; a line each.

    `look_up` gives a run by its number, None for one that was no backup. `destroyed`: clients were, so that keys were saved outside of backups.
    """
    faults: list[str] = []
    doubts: list[str] = []
    for one in there:
        if newest is not None and (one.time <= newest.time or one.id == newest.id):
            continue
        if destroyed and "destruction" in one.tags and one.time <= now + SLACK:
            continue
        run = _of_number(one, look_up)
        if why := fault_of(one, run, now):
            found = doubts if run is not None and _clock_was_set_back(one, run, now) else faults
            found.append(f"snapshot {one.short} of {one.time:%Y-%m-%d %H:%M:%S} UTC passes for new, and {why}")
    return _first(faults), _first(doubts)


def _of_number(snapshot: Snapshot, look_up: Callable[[int], Run | None]) -> Run | None:
    number = snapshot.tag("run") or ""
    return look_up(int(number)) if number.isdecimal() and len(number) < 16 else None


def _first(lines: list[str]) -> list[str]:
    return lines[:NAMED] + ([f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else [])


def _clock_was_set_back(snapshot: Snapshot, run: Run, now: datetime) -> bool:
    """Whether a backup that did not end is known to have met that, and the snapshot may be its own."""
    if run.state in ("passed", "partial"):
        return False
    end = run.ended_at or now
    before, after = snapshot.time - run.started_at, snapshot.time - end  # dated by the clock as it was before, or afterwards
    return (run.started_at > now + SLACK or end < run.started_at) and (-SLACK <= before <= PREPARING or -PREPARING <= after <= SLACK)


def fault_of(snapshot: Snapshot, run: Run | None, now: datetime) -> str:
    """What is wrong with a snapshot that no run had recorded when it was listed; `run` is the backup whose number it bears, as it is by now."""
    if run is not None and any(same_snapshot(snapshot, recorded) for recorded in (run.snapshot, run.keys_snapshot) if recorded):
        return ""  # the backup has ended in between
    if run is not None and run.state in ("passed", "partial"):
        return f"bears the number of backup {run.id}, which made another"
    if snapshot.time > now + SLACK:
        return "is of the future"
    if run is None:
        return "no backup made it"
    if not run.started_at - SLACK <= snapshot.time <= (run.ended_at or now) + SLACK:
        return f"bears the number of backup {run.id}, which was at another time"
    return ""  # of a backup that runs, or was cut off before it could record it


def same_snapshot(snapshot: Snapshot, recorded: str) -> bool:
    """Whether it is the one that was recorded by this id. Older restics tell short ones."""
    return snapshot.id.startswith(recorded) or recorded.startswith(snapshot.id)


def is_of_its_run(snapshot: Snapshot, dump: Catalog) -> bool:
    """Whether the dump in a snapshot is the one that its run made: that run was under way when it was made, and had begun not long before."""
    number = snapshot.tag("run") or ""
    if not number:
        return True
    run = under_way(int(number), dump) if number.isdecimal() and len(number) < 16 else None
    return run is not None and abs(snapshot.time - run.started_at) < PREPARING


def under_way(number: int, dump: Catalog) -> Run | None:
    """The backup of this number, when the dump was made while it ran: whatever clocks say, the dump is no older than that."""
    try:
        run = dump.run(number)
    except UsageError:
        return None
    return run if run.kind in ("backup", "copy") and run.state == "running" else None
