"""May a restore take a snapshot for what it seems to be? What this machine knows of its backups is held against what the repository shows.

A drill fails on an old snapshot that passes for new, or on new ones that are gone. A restore that comes before the next drill has to notice by
itself: the newest snapshot is refused when there is a doubt, and taken with a warning when somebody names its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from backup.drill.fetch import choose
from backup.drill.lineage import fault_of, same_snapshot
from backup.repositories.places import from_words, of_this_repository
from backup.restic import Snapshot
from config.errors import CheckFailed, UsageError
from gateway.catalog import Catalog, Run

RUNS = 200


class DoubtfulSnapshot(CheckFailed):
    """The newest snapshot is not what it says, or not the newest that there was."""


def known_backups(live: Catalog, copy: str) -> list[Run]:
    """The backups that the catalog knows to be in a place, newest first."""
    runs = [run for run in live.runs("copy" if copy else "backup", RUNS) if run.detail.get("copy", "") == copy]
    return [run for run in of_this_repository(live, runs, copy) if run.state in ("passed", "partial")]


def backup_of(live: Catalog, number: int, copy: str) -> Run | None:
    """A backup to a place, by its number."""
    try:
        run = live.run(number)
    except UsageError:
        return None
    return run if run.kind == ("copy" if copy else "backup") and run.detail.get("copy", "") == copy else None


def doubt(live: Catalog, there: Sequence[Snapshot], chosen: Snapshot, copy: str, *, newest: bool) -> str:
    """Why the snapshot of the papers that was `chosen` among those that are `there` (oldest first) is doubtful; '' when it is not, or when nothing
    is known of backups. `newest`: it is taken for the newest of all."""
    known = [(run, run.snapshot) for run in known_backups(live, copy) if run.snapshot]
    if not known:
        return ""
    fault = "" if any(same_snapshot(chosen, snapshot) for _, snapshot in known) else _fault(live, chosen, copy)
    if fault:
        return f"snapshot {chosen.short} of {chosen.time:%Y-%m-%d %H:%M:%S} UTC is not to be trusted: {fault}"
    match, run, gone = choose(there, known)
    if newest and match is not None and run is not None and match.time < chosen.time and any(same_snapshot(chosen, one) for _, one in known):
        return (
            f"the clock was set back: snapshot {chosen.short} has the newest time, {chosen.time:%Y-%m-%d %H:%M:%S} UTC, and backup {run.id}, "
            f"of {match.time:%Y-%m-%d %H:%M:%S} UTC, came after it"
        )
    if newest and gone:
        last = known[0][0].started_at
        return f"the newest snapshots are gone: the last backup is of {last:%Y-%m-%d %H:%M} UTC, what is left of {chosen.time:%Y-%m-%d %H:%M} UTC"
    return ""


def refusal(why: str, live: Catalog, there: Sequence[Snapshot], copy: str) -> DoubtfulSnapshot:
    """What a restore of the newest raises, with the way on: the newest that is left of those that this machine made."""
    match, run, _ = choose(there, [(run, run.snapshot) for run in known_backups(live, copy) if run.snapshot])
    time = (match.time if match is not None and run is not None else there[-1].time) + timedelta(seconds=1)
    ask = f"--at {time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    which = "the newest that is known here" if run is not None else "it nevertheless"
    look = f"nightsafe backup snapshots{from_words(copy)}, nightsafe drill run{from_words(copy)}"
    return DoubtfulSnapshot(why, f"look first: {look}; to take {which}: {ask}")


def _fault(live: Catalog, chosen: Snapshot, copy: str) -> str:
    number = chosen.tag("run") or ""
    run = backup_of(live, int(number), copy) if number.isdecimal() and len(number) < 16 else None
    return fault_of(chosen, run, datetime.now(UTC))
