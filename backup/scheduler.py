"""The role 'scheduler': backups and sampled drills by the clock, unattended; or one of its parts, each with fewer secrets (`SCHEDULERS`).

A slot that was missed because nothing ran, or because the machine slept, is caught up once. Jobs run one after another: a drill beside a
backup would measure the traffic of both. A job that fails is logged (its own run records it, and the audit log), and the next slot comes.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from backup.check import run_check
from backup.forget import run_forget
from backup.metrics import serving
from backup.restic import Interrupted
from backup.run import run_backup
from backup.schedule import due, slot_after, trigger
from config.console import Silent
from config.errors import Busy, NightsafeError
from config.loading import Installation
from config.roles import SCHEDULERS, role_state, running_role, scheduler_name
from gateway.audit.log import AuditLog
from gateway.audit.settings import record_settings
from gateway.catalog import Catalog, Run
from gateway.catalog.rows import RunKind
from gateway.keys.secrets import RoleSecrets, role_secrets
from gateway.notify.notifier import Notifier
from gateway.notify.receivers import receivers
from gateway.watch.watcher import watch_by_the_clock

_TICK_SECONDS = 15.0  # a sleeping machine's clocks stand still: look at the time this often after it wakes
_S3_WAIT_SECONDS = 60.0
FULL = "full"  # the name of the full drill's job

_WATCH_SECONDS = 5.0  # that the watch may take to end

log = structlog.get_logger()


@dataclass(frozen=True)
class Job:
    """Something that runs by the clock. `run` gets the event that ends it early."""

    kind: RunKind
    cron: str
    run: Callable[[], Run]
    name: str = ""  # which of several of a kind

    @property
    def label(self) -> str:
        """For the log."""
        return f"{self.kind}:{self.name}" if self.name else self.kind

    def is_mine(self, run: Run) -> bool:
        """Whether a run did this job, whoever began it."""
        if (self.kind, self.name) == ("drill", FULL):
            return run.detail.get("kind") == FULL and not run.detail.get("copy")
        return bool(run.detail.get("copy", "") == self.name)


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
        zone = installation.settings.backup.timezone
        jobs = jobs if jobs is not None else usual_jobs(installation, secrets, role.stop, part)
        scheduler = BackgroundScheduler(
            timezone=zone,
            executors={"default": ThreadPoolExecutor(max_workers=1)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        now = datetime.now(UTC)
        for number, job in enumerate(jobs):
            late = due(_last_run(installation, job), job.cron, now, zone)
            extra = {"next_run_time": now + timedelta(seconds=number)} if late else {}  # in the order of the list: first save, then prove
            scheduler.add_job(_guarded, trigger(job.cron, zone), args=(installation, job, role.stop), id=job.label, **extra)
            log.info("job.planned", job=job.label, cron=job.cron, zone=zone, next=str(slot_after(now, job.cron, zone)), catching_up=late)
        scheduler.start()
        notifier = _notifier(installation) if first else None
        watch = threading.Thread(target=watch_by_the_clock, args=(installation, role.stop), name="watch", daemon=True)
        if first and installation.settings.watch.enabled:
            watch.start()
        role.announce()
        log.info("scheduler.ready")
        try:
            while not role.stop.wait(_TICK_SECONDS):
                scheduler.wakeup()
        finally:
            log.info("scheduler.stopping")
            scheduler.shutdown(wait=True)
            if notifier is not None:
                notifier.stop()
            if watch.is_alive():
                watch.join(_WATCH_SECONDS)


def _notifier(installation: Installation) -> Notifier | None:
    """Tells receivers of events, where the settings name any. Wrong settings of notices must not stop backups."""
    try:
        known = receivers(installation)
        if not known:
            return None
        folder = installation.folder
        notifier = Notifier(folder.audit, folder.notify, known, every_seconds=installation.settings.notify.every_seconds)
    except NightsafeError as error:
        log.error("notify.off", error=error.message, hint=error.hint)  # noqa: TRY400 - no traceback for what was foreseen
        return None
    notifier.start()
    return notifier


def usual_jobs(installation: Installation, secrets: RoleSecrets, stop: threading.Event, part: str | None = None) -> list[Job]:
    """The backup and its copies, the sampled drill, and for each place the check and the forgetting; of them those of a `part`."""

    def drill() -> Run:
        from backup.drill.run import run_drill

        return run_drill(installation, "sample", Silent(), secrets=secrets, cancel=stop)

    def full_drill() -> Run:
        from backup.drill.run import run_drill

        return run_drill(installation, "full", Silent(), secrets=secrets, cancel=stop)

    def backup() -> Run:
        from backup.destruction.run import retry_pending

        try:
            return run_backup(installation, secrets=secrets, cancel=stop)
        finally:
            if not stop.is_set() and part is None:  # a part has neither the rights nor the keys for it: ops go on with it as root
                retry_pending(installation, secrets, stop)  # what could not be destroyed everywhere; the bucket is likely awake now

    settings = installation.settings
    places = ["", *sorted(settings.copies)]
    means: dict[str, Any] = {"installation": installation, "secrets": secrets, "cancel": stop}
    jobs = [
        Job("backup", settings.backup.schedule, backup),
        *(
            Job("copy", copy.schedule, partial(run_backup, installation, secrets=secrets, cancel=stop, copy=name), name)
            for name, copy in sorted(settings.copies.items())
        ),
        Job("drill", settings.drill.schedule, drill),
        *([Job("drill", settings.drill.full_schedule, full_drill, FULL)] if settings.drill.full_schedule else []),
        *(Job("check", settings.check.schedule, partial(run_check, **means, copy=name), name) for name in places),
        *(Job("forget", settings.forget.schedule, partial(run_forget, **means, copy=name), name) for name in places),
    ]
    return [job for job in jobs if part is None or job.kind in SCHEDULERS[part]]


def _guarded(installation: Installation, job: Job, stop: threading.Event) -> None:
    """Run a job; whatever it raises ends here."""
    _wait_for_s3(installation, stop)
    if stop.is_set():
        return
    try:
        done = job.run()
    except Busy as error:
        log.warning("job.skipped", job=job.label, reason=error.message)
    except Interrupted:
        log.info("job.stopped", job=job.label)
    except NightsafeError as error:
        log.error("job.failed", job=job.label, error=error.message, hint=error.hint)  # noqa: TRY400 - no traceback for what was foreseen
    except Exception as error:  # noqa: BLE001 - a defect in a job must not end the other
        trace = traceback.format_exc()  # as text: some renderers print local variables, and among ours are secrets
        log.error("job.failed", job=job.label, error=type(error).__name__, trace=trace)  # noqa: TRY400
    else:
        tell = log.info if done.state == "passed" else log.error
        cause = done.detail.get("error", done.detail.get("cause"))
        tell("job.finished", job=job.label, run=done.id, state=done.state, snapshot=done.snapshot, cause=cause)


def _wait_for_s3(installation: Installation, stop: threading.Event) -> None:
    """The embedded server starts beside us; a job that catches up at once gives it a moment."""
    if not installation.settings.s3.is_embedded:
        return
    for _ in range(int(_S3_WAIT_SECONDS / 0.25)):
        if role_state(installation.folder, "s3") is not None or stop.wait(0.25):
            return


def _last_run(installation: Installation, job: Job) -> datetime:
    """When the job was last begun and not cut off; for a new installation, when it was made: what lies before was no missed slot."""
    with Catalog.open(installation.folder.catalog) as catalog:
        runs = [run.started_at for run in catalog.runs(job.kind, 500) if job.is_mine(run) and run.state != "interrupted"]
    made = datetime.fromtimestamp(installation.folder.version_file.stat().st_mtime, UTC)
    return max([made, *runs])
