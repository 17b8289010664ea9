"""Which snapshot a drill restores, and whether it is the one that should be the newest."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

from backup.drill.fetch import RestoreSource, choose
from backup.drill.findings import BackupBad, Findings
from backup.drill.job import Drill
from backup.drill.lineage import impostors
from backup.report.evidence import RepositoryFacts, rfc3339
from backup.repositories.access import RepositoryName
from backup.repositories.places import recorded_name
from backup.repositories.trust import backup_of, known_backups
from backup.restic import Snapshot
from gateway.catalog import Run

ONE_OF_OURS = "or that backup made it before the clock was set back: remove it if it is not wanted, put the clock right, back up, and drill again"


def newest(
    drill: Drill, findings: Findings, source: RestoreSource, name: RepositoryName, of_run: Callable[[Run], str | None], *, destroyed: bool
) -> tuple[Snapshot, Run | None]:
    """The newest snapshot that was recorded, else the newest there is; with the run that made it. `of_run` tells a run's snapshot in repository
    `name`; `destroyed`: keys were saved outside of backups, too. What is wrong is a cause. Raises BackupBad when there is nothing to restore.
    """
    recorded = [run for run in known_backups(drill.live, drill.copy) if of_run(run)]
    repository = drill.live.repository(recorded_name(name, drill.copy))
    if not recorded and repository is None:
        findings.causes.append("there is no backup yet")
        raise BackupBad
    with ThreadPoolExecutor(1) as pool:  # each derives the repository's key for itself: half a second that both spend at once
        listing = pool.submit(source.snapshots)
        identity = source.config()
    if repository is not None and identity != repository.restic_id:
        findings.causes.append(f"the bucket holds another repository in the place of the repository of the {name}")
        raise BackupBad
    everybody = listing.result()  # those of other hosts pass for new, too, where nobody asks for a host
    there = [one for one in everybody if one.host == drill.installation.settings.backup.host]
    chosen, run, gone = choose(there, [(run, of_run(run) or "") for run in recorded])
    known = chosen if run is not None else None
    look_up = partial(backup_of, drill.live, copy=drill.copy)
    faults, doubts = impostors(everybody, known, look_up, datetime.now(UTC), destroyed=destroyed) if recorded else ([], [])
    for fault in faults:
        findings.blame(f"in the repository of the {name}: {fault}")
    findings.obstacles += [f"in the repository of the {name}: {one}, {ONE_OF_OURS}" for one in doubts]
    setattr(findings, name, RepositoryFacts(identity, chosen.id if chosen else "", rfc3339(chosen.time) if chosen else ""))
    if gone:
        left = f"the newest that is left is of {chosen.time:%Y-%m-%d %H:%M:%S} UTC" if chosen else "none is left"
        findings.causes.append(f"the newest snapshots were deleted: {gone} recorded in the repository of the {name} are gone; {left}")
    if chosen is None:
        if not gone:
            findings.causes.append(f"the repository of the {name} has no snapshot")
        raise BackupBad
    return chosen, run
