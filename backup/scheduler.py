"""The role 'scheduler': backups, checks, forgetting and drills by the clock, unattended; or one of its parts, each with fewer secrets
(`SCHEDULERS`).

A slot that was missed because nothing ran, or because the machine slept, is caught up once. Each place has a lane of its own, so that one behind a
thin line delays no other, and so have the drills: a full one may take hours, and no backup waits for it. What must not run at once keeps itself
apart by kernel locks (`backup.repositories.locks`); who finds one taken tries again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from backup.clock.agenda import Agenda, Patience
from backup.clock.lanes import FULL, TICK_SECONDS, Job, Lane
from backup.clock.metrics import serving
from backup.clock.pings import Pinger
from backup.clock.schedule import Timetable, offset_of
from backup.repositories.locks import BACKUP, CHECK, DRILL, at_place
from backup.repositories.places import recorded_name
from backup.run import run_backup
from backup.upkeep.check import run_check
from backup.upkeep.forget import run_forget
from config.console import Silent
from config.errors import Busy, NightsafeError
from config.loading import Installation
from config.roles import SCHEDULERS, exclusive, role_state, running_role, scheduler_name
from gateway.audit.log import AuditLog
from gateway.audit.settings import record_settings
from gateway.catalog import Catalog, Run
from gateway.catalog.rows import RunKind
from gateway.keys.secrets import RoleSecrets, role_secrets
from gateway.notify.notifier import Notifier
from gateway.notify.receivers import receivers
from gateway.watch.watcher import watch_by_the_clock

_S3_WAIT_SECONDS = 60.0
DRILLS = ":drills"  # a lane; no copy is called so
_LOCKS: dict[str, tuple[RunKind, ...]] = {BACKUP: ("backup", "copy", "forget"), DRILL: ("drill",), CHECK: ("check",)}

_WATCH_SECONDS = 5.0  # that the watch may take to end

log = structlog.get_logger()


def serve(installation: Installation, secrets: RoleSecrets | None = None, jobs: list[Job] | None = None, part: str | None = None) -> None:
    """Run until SIGTERM or SIGINT; then what is under way is stopped in order. `part` is one of SCHEDULERS; None is all.

    Raises SettingsError, Busy.
    """
    first = part in (None, "backup")  # the one that serves numbers and tells receivers
    with running_role(installation.folder, scheduler_name(part)) as role, serving(installation) if first else nullcontext():
        role.stop_on_signals()
        secrets = secrets if secrets is not None else role_secrets(installation, part or "scheduler")
        with AuditLog(installation.folder.audit, "scheduler") as audit:
            record_settings(installation.folder.audit, installation.settings, audit, role.name)
        jobs = jobs if jobs is not None else usual_jobs(installation, secrets, role.stop, part)
        reconcile(installation, part)
        labels = {job.label for job in jobs}
        pings = installation.settings.pings
        pinger = Pinger({job: url for job, url in pings.urls.items() if job in labels}, pings.seconds)
        lanes = lanes_of(installation, jobs, role.stop, pinger)
        for lane in lanes:
            lane.start()
        notifier = _notifier(installation) if first else None
        watch = threading.Thread(target=watch_by_the_clock, args=(installation, role.stop), name="watch", daemon=True)
        if first and installation.settings.watch.enabled:
            watch.start()
        role.announce()
        log.info("scheduler.ready")
        try:
            while not role.wait(TICK_SECONDS):
                if not all(lane.is_alive() for lane in lanes):
                    raise RuntimeError("a lane of the scheduler ended")  # the supervisor starts the role again
        finally:
            log.info("scheduler.stopping")
            role.stop.set()
            for lane in lanes:
                lane.join()
            pinger.stop()
            if notifier is not None:
                notifier.stop()
            if watch.is_alive():
                watch.join(_WATCH_SECONDS)


def lanes_of(installation: Installation, jobs: Sequence[Job], stop: threading.Event, pinger: Pinger) -> list[Lane]:
    """A lane for each that the jobs name, not started yet. Drills wait until what was missed at the first place, which they are of, is caught up:
    first save, then prove."""
    settings = installation.settings.backup
    patience = Patience(total_seconds=settings.retry_minutes * 60)
    planned: dict[str, list[tuple[Job, Agenda]]] = {}
    now = datetime.now(UTC)
    for job in jobs:
        table = Timetable(job.rule, settings.timezone, offset_of(_seed(installation), job.label, settings.jitter_seconds))
        agenda = Agenda(table, _last_run(installation, job), patience)
        planned.setdefault(job.lane, []).append((job, agenda))
        late, following = agenda.is_due(now, time.monotonic()), table.after(now)
        log.info("job.planned", job=job.label, schedule=job.rule, zone=settings.timezone, next=str(following), catching_up=late)
    lanes: dict[str, Lane] = {}
    for name, jobs_of_it in sorted(planned.items(), key=lambda pair: pair[0] == DRILLS):
        before = [lanes[""].caught_up] if name == DRILLS and "" in lanes else []
        lanes[name] = Lane(name, jobs_of_it, stop, pinger, before)
    return list(lanes.values())


def reconcile(installation: Installation, part: str | None = None) -> int:
    """What a scheduler (or its `part`) that was killed left as 'running' becomes 'interrupted': all whose kernel lock nobody holds; how many.

    A run to a place that the settings do not name any more waits until no place is worked at.
    """
    folder, places = installation.folder, places_of(installation)
    count = 0
    with Catalog.open(installation.folder.catalog) as catalog:
        for lock, kinds in _LOCKS.items():
            ours = [kind for kind in kinds if part is None or kind in SCHEDULERS[part]]
            try:
                with exclusive(folder, lock, ""):
                    count += sum(catalog.reconcile_runs(kind) for kind in ours)
            except Busy:
                for copy in places:
                    with suppress(Busy), at_place(folder, lock, copy, "", ""):
                        count += sum(catalog.reconcile_runs(kind, copy) for kind in ours)
    if count:
        log.warning("runs.interrupted", count=count)
    return count


def _notifier(installation: Installation) -> Notifier | None:
    """Tells receivers of events, where the settings name any. Wrong settings of notices must not stop backups."""
    try:
        known = receivers(installation)
        if not known:
            return None
        folder = installation.folder
        told = installation.settings.notify
        notifier = Notifier(folder.audit, folder.notify, known, every_seconds=told.every_seconds, most_per_hour=told.most_per_hour)
    except NightsafeError as error:
        log.error("notify.off", error=error.message, hint=error.hint)  # noqa: TRY400 - no traceback for what was foreseen
        return None
    notifier.start()
    return notifier


def usual_jobs(installation: Installation, secrets: RoleSecrets, stop: threading.Event, part: str | None = None) -> list[Job]:
    """The backup and its copies, the drills, and for each place the check and the forgetting; of them those of a `part`."""

    def drill(kind: Any, copy: str = "") -> Run:
        from backup.drill.run import run_drill

        if copy and not _has_backup(installation, copy):
            raise Busy(f"the copy '{copy}' holds no backup yet: its drill waits for one")
        return run_drill(installation, kind, Silent(), secrets=secrets, cancel=stop, copy=copy)

    def backup() -> Run:
        from backup.destruction.run import retry_pending

        _wait_for_s3(installation, stop)
        try:
            return run_backup(installation, secrets=secrets, cancel=stop)
        finally:
            if not stop.is_set() and part is None:  # a part has neither the rights nor the keys for it: ops go on with it as root
                retry_pending(installation, secrets, stop)  # what could not be destroyed everywhere; the bucket is likely awake now

    settings, places = installation.settings, places_of(installation)
    drilled = [(name, copy.drill_schedule) for name, copy in sorted(settings.copies.items()) if copy.drill_schedule]
    means: dict[str, Any] = {"installation": installation, "secrets": secrets, "cancel": stop}
    jobs = [
        Job("backup", settings.backup.schedule, backup),
        *(Job("copy", copy.schedule, partial(run_backup, **means, copy=name), name, name) for name, copy in sorted(settings.copies.items())),
        *(Job("check", settings.check.schedule, partial(run_check, **means, copy=name), name, name) for name in places),
        *(Job("forget", settings.forget.schedule, partial(run_forget, **means, copy=name), name, name) for name in places),
        Job("drill", settings.drill.schedule, partial(drill, "sample"), lane=DRILLS),
        *([Job("drill", settings.drill.full_schedule, partial(drill, FULL), FULL, lane=DRILLS)] if settings.drill.full_schedule else []),
        *(Job("drill", schedule, partial(drill, "sample", name), name, lane=DRILLS) for name, schedule in drilled),
    ]
    return [job for job in jobs if part is None or job.kind in SCHEDULERS[part]]


def places_of(installation: Installation) -> list[str]:
    """The first place, and the copies."""
    return ["", *sorted(installation.settings.copies)]


def _has_backup(installation: Installation, copy: str) -> bool:
    with Catalog.open(installation.folder.catalog) as catalog:
        return catalog.repository(recorded_name("papers", copy)) is not None


def _wait_for_s3(installation: Installation, stop: threading.Event) -> None:
    """The embedded server starts beside us; a backup that catches up at once gives it a moment."""
    if not installation.settings.s3.is_embedded:
        return
    for _ in range(int(_S3_WAIT_SECONDS / 0.25)):
        if role_state(installation.folder, "s3") is not None or stop.wait(0.25):
            return


def _seed(installation: Installation) -> bytes:
    """What tells this installation from others, and stays: when it was made."""
    return str(installation.folder.version_file.stat().st_mtime_ns).encode()


def _last_run(installation: Installation, job: Job) -> datetime:
    """When the job was last begun and not cut off; for a new installation, when it was made: what lies before was no missed slot."""
    with Catalog.open(installation.folder.catalog) as catalog:
        runs = [run.started_at for run in catalog.runs(job.kind, 500) if job.is_mine(run) and run.state != "interrupted"]
    made = datetime.fromtimestamp(installation.folder.version_file.stat().st_mtime, UTC)
    return max([made, *runs])
