"""Retention of snapshots: forget what no rule keeps, then prune. The only place that uses the pruner's credential by the clock.

While it lasts no backup, no drill and no check runs at this place. Whether it may run at all is decided in `backup.upkeep.retention`; a person may
overrule that.
"""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from backup.processes import own_folder
from backup.repositories.access import RepositoryName
from backup.repositories.locks import still_repositories
from backup.repositories.places import from_words, place
from backup.repositories.repository import PASSWORDS
from backup.restic import Interrupted, Limits, Restic
from backup.restic.arguments import Repository
from backup.restic.runner import Runner, Secrets
from backup.restic.version import check_version
from backup.upkeep.retention import History, obstacles, superfluous
from config.console import Progress, Silent
from config.errors import CheckFailed, NightsafeError
from config.loading import Installation
from gateway.audit.events import Event
from gateway.catalog import Catalog, Run
from gateway.keys.secrets import RoleSecrets, role_secrets

_RUNS = 500
_NAMED = 3


class ForgettingStopped(CheckFailed):
    """Something is odd, so nothing is forgotten until a person says so."""


def run_forget(
    installation: Installation,
    progress: Progress | None = None,
    *,
    secrets: RoleSecrets | None = None,
    cancel: threading.Event | None = None,
    copy: str = "",
    confirmed: str = "",
    person: str = "",
) -> Run:
    """Forget and prune in both repositories of a place; `confirmed` is a person's reason to do so in spite of what is odd. `person`: who asked,
    when it was not the clock.

    Raises ForgettingStopped, Busy (a backup, drill or check runs), UsageError without a backup, and the error of whatever failed.
    """
    with still_repositories(installation, copy, "forget", "wait for it to end; nothing was forgotten") as (catalog, audit):
        catalog.reconcile_runs("forget", copy)
        secrets = secrets if secrets is not None else role_secrets(installation, "prune")
        told = {"copy": copy, "confirmed": confirmed, "person": person}
        facts: dict[str, Any] = {name: value for name, value in told.items() if value}
        run = catalog.start_run("forget", facts)
        try:
            odd = _odd(installation, catalog, copy)
            if odd and not confirmed:
                audit.append(Event.FORGETTING_STOPPED, durable=True, run=run, cause="; ".join(odd), **facts)
                more = f" (and {len(odd) - _NAMED} more)" if len(odd) > _NAMED else ""
                raise ForgettingStopped(
                    f"nothing was forgotten: {'; '.join(odd[:_NAMED])}{more}",
                    f"look into it; when all is well, say so: nightsafe backup forget{from_words(copy)} --confirm 'REASON'",
                )
            facts |= _forget(installation, secrets, cancel, copy, progress or Silent())
        except BaseException as error:
            message = error.message if isinstance(error, NightsafeError) else type(error).__name__
            stopped = isinstance(error, Interrupted) or not isinstance(error, Exception)
            with contextlib.suppress(NightsafeError):
                catalog.finish_run(run, "interrupted" if stopped else "failed", detail={**facts, "error": message})
            raise
        overruled = {"overruled": odd} if odd else {}
        audit.append(Event.SNAPSHOTS_FORGOTTEN, durable=True, run=run, **facts, cause="; ".join(odd))
        return catalog.finish_run(run, "passed", detail={**facts, **overruled})


def _odd(installation: Installation, catalog: Catalog, copy: str) -> list[str]:
    settings = installation.settings

    def ended(kind: Any) -> list[Run]:
        return [run for run in catalog.runs(kind, _RUNS) if run.state != "running" and run.detail.get("copy", "") == copy]

    history = History(ended("copy" if copy else "backup"), ended("check"), ended("drill"), ended("forget"))
    hours = settings.copies[copy].max_age_hours if copy in settings.copies else settings.backup.max_age_hours
    return obstacles(history, settings.forget, datetime.now(UTC), timedelta(hours=hours))


def _forget(installation: Installation, secrets: RoleSecrets, cancel: threading.Event | None, copy: str, progress: Progress) -> dict[str, Any]:
    settings = installation.settings
    there = place(installation, "pruner", secrets, copy)
    there.check()
    limits = Limits(settings.backup.timeout_seconds, settings.backup.stall_seconds)
    runner = Runner(settings.backup.restic, own_folder(installation.folder.cache, "restic-tmp"), limits, cancel)
    check_version(runner)
    facts: dict[str, Any] = {"forgotten": 0, "kept": 0}
    names: tuple[RepositoryName, ...] = ("papers", "keys")
    for number, name in enumerate(names):
        progress.update(number, len(names), f"pruning {name}")
        where = Repository(there.url(name), own_folder(installation.folder.cache, "restic"))
        restic = Restic(runner, where, Secrets(secrets[PASSWORDS[name]], there.environment(name)))
        if there.names(name, "locks/", limit=1):
            restic.unlock()  # of a process that died
        snapshots = restic.snapshots(host=settings.backup.host)
        gone = superfluous(snapshots, settings.forget, settings.backup.timezone)
        restic.forget_snapshots([snapshot.id for snapshot in gone])
        restic.prune()
        facts["forgotten"] += len(gone)
        facts["kept"] += len(snapshots) - len(gone)
    progress.update(len(names), len(names))
    return facts
