"""Does every snapshot that passes for new come from a backup of that time? Pure.

Whoever can write to a repository, or a bug, may date an old snapshot anew or save old content again: then `latest`, and with it every restore, is
of long ago, and nothing is damaged. A backup's snapshot bears the number of its run, and the catalog knows when that run was and which snapshot
it made; a dump knows which run it was made by.
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
) -> list[str]:
    """What is wrong with the snapshots that are younger than `newest`, the newest that the catalog knows; a line each.

    `look_up` gives a run by its number, None for one that was no backup. `destroyed`: clients were, so that keys were saved outside of backups.
    """
    younger = [one for one in there if newest is None or (one.time > newest.time and one.id != newest.id)]
    blamed = [(one, why) for one in younger if (why := _fault(one, look_up, now, destroyed))]
    faults = [f"snapshot {one.short} of {one.time:%Y-%m-%d %H:%M:%S} UTC passes for new, and {why}" for one, why in blamed]
    return faults[:NAMED] + ([f"and {len(faults) - NAMED} more"] if len(faults) > NAMED else [])


def _fault(snapshot: Snapshot, look_up: Callable[[int], Run | None], now: datetime, destroyed: bool) -> str:
    if destroyed and "destruction" in snapshot.tags and snapshot.time <= now + SLACK:
        return ""
    number = snapshot.tag("run") or ""
    return fault_of(snapshot, look_up(int(number)) if number.isdecimal() and len(number) < 16 else None, now)


def fault_of(snapshot: Snapshot, run: Run | None, now: datetime) -> str:
    """What is wrong with a snapshot that no run recorded; `run` is the backup whose number it bears."""
    if snapshot.time > now + SLACK:
        return "is of the future"
    if run is None:
        return "no backup made it"
    if run.state in ("passed", "partial"):
        return f"bears the number of backup {run.id}, which made another"
    if not run.started_at - SLACK <= snapshot.time <= (run.ended_at or now) + SLACK:
        return f"bears the number of backup {run.id}, which was at another time"
    return ""  # of a backup that runs, or was cut off before it could record it


def is_of_its_run(snapshot: Snapshot, dump: Catalog) -> bool:
    """Whether the dump in a snapshot is the one that its run made: that run was under way when it was made, and had begun not long before."""
    number = snapshot.tag("run") or ""
    try:
        run = dump.run(int(number)) if number.isdecimal() and len(number) < 16 else None
    except UsageError:
        return False
    if run is None:
        return not number
    return run.kind in ("backup", "copy") and run.state == "running" and abs(snapshot.time - run.started_at) < PREPARING
