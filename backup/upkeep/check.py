"""`restic check` on a plan of its own: the structure each time, and a part of all packs, so that after `check.parts` runs every byte was read.

Read with the reader's credential, without a cache and without a lock in the repository; our own lock keeps prunes away meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from backup.drill.repositories import open_for_reading, probe
from backup.drill.scratch import scratch_folder
from backup.repositories.locks import CHECK, at_place, check_made
from backup.restic import Damaged, Interrupted, RepositoryMissing, ResticError, UnknownFailure, WrongPassword
from config.console import Progress, Silent
from config.errors import NightsafeError
from config.loading import Installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Run
from gateway.catalog.rows import RunState
from gateway.keys.secrets import RoleSecrets, role_secrets

RUNS = 10_000  # of all places: each may have a run for each of 256 parts
BACKUPS_FAULT = (Damaged, RepositoryMissing, WrongPassword, UnknownFailure)


@dataclass(frozen=True)
class Coverage:
    """How much of the packs was read: `read` of `parts`, the oldest of these readings at `since`."""

    read: int
    parts: int
    since: datetime | None

    @property
    def whole(self) -> bool:
        """Whether every pack was read."""
        return self.read == self.parts

    def __str__(self) -> str:
        if self.since is None:
            return "nothing was read yet"
        what = "every pack" if self.whole else f"{self.read} of {self.parts} parts of all packs"
        return f"{what} read since {self.since:%Y-%m-%d}"


def coverage(checks: Sequence[Run], parts: int) -> Coverage:
    """What the passed checks (newest first, of one place) have read. Readings in other parts than now do not count. Pure."""
    newest: dict[int, datetime] = {}
    for run in checks:
        if run.state == "failed":
            break  # what was read before a fault proves nothing any more
        if run.state == "passed" and run.detail.get("whole"):
            return Coverage(parts, parts, min([run.started_at, *newest.values()]) if len(newest) < parts else min(newest.values()))
        if run.state == "passed" and run.detail.get("parts") == parts:
            newest.setdefault(int(run.detail["part"]), run.started_at)
    return Coverage(len(newest), parts, min(newest.values(), default=None))


def overdue(covered: Coverage, made_at: datetime, now: datetime, limit: timedelta) -> bool:
    """Whether a pack may have gone unread for longer than `limit`; `made_at` is when the repository was. Pure."""
    return now - (covered.since or made_at) > limit


def newest_verdict(checks: Sequence[Run]) -> Run | None:
    """The newest check that said something of the repository: one that could not reach it changes nothing. Pure."""
    return next((run for run in checks if run.state in ("passed", "failed")), None)


def next_part(checks: Sequence[Run], parts: int) -> int:
    """The part (from 1) to read now: one that was never read, else the one whose reading is oldest. Pure."""
    newest: dict[int, datetime] = {}
    for run in checks:
        if run.state == "passed" and run.detail.get("parts") == parts:
            newest.setdefault(int(run.detail["part"]), run.started_at)
    never = [part for part in range(1, parts + 1) if part not in newest]
    return never[0] if never else min(newest, key=lambda part: newest[part])


def run_check(
    installation: Installation,
    progress: Progress | None = None,
    *,
    secrets: RoleSecrets | None = None,
    cancel: threading.Event | None = None,
    copy: str = "",
    whole: bool = False,
    person: str = "",
) -> Run:
    """Check both repositories of a place: their structure, all packs of the keys, and the next part of the papers' packs (all with `whole`).
    `person`: who asked, when it was not the clock.

    Returns the finished run: `passed`, `failed` (the repository is bad) or `inconclusive` (it could not be reached). Raises Busy, UsageError
    without a backup, SettingsError, Interrupted.
    """
    folder, parts = installation.folder, installation.settings.check.parts
    with (
        at_place(folder, CHECK, copy, "a check runs already", "wait for it to end, then look at: nightsafe backup status"),
        Catalog.open(folder.catalog) as catalog,
        AuditLog(folder.audit, "check") as audit,
    ):
        check_made(catalog, copy)
        catalog.reconcile_runs("check", copy)
        secrets = secrets if secrets is not None else role_secrets(installation, "drill")
        part = next_part(checks_of(catalog, copy), parts)
        asked = {name: value for name, value in (("copy", copy), ("person", person)) if value}
        facts: dict[str, Any] = {**asked, **({"whole": True} if whole else {"part": part, "parts": parts})}
        run = catalog.start_run("check", facts)
        try:
            state, cause = _check(installation, secrets, cancel, copy, None if whole else f"{part}/{parts}", progress or Silent())
        except BaseException as error:
            stopped = isinstance(error, Interrupted) or not isinstance(error, Exception)
            message = error.message if isinstance(error, NightsafeError) else type(error).__name__
            catalog.finish_run(run, "interrupted" if stopped else "inconclusive", detail={**facts, "cause": message})
            raise
        audit.append(
            {"passed": Event.CHECK_PASSED, "failed": Event.CHECK_FAILED}.get(state, Event.CHECK_INCONCLUSIVE),
            durable=True,
            run=run,
            cause=cause,
            **facts,
        )
        return catalog.finish_run(run, state, detail={**facts, **({"cause": cause} if cause else {})})


def checks_of(catalog: Catalog, copy: str) -> list[Run]:
    """The ended checks of one place, newest first."""
    return [run for run in catalog.runs("check", RUNS) if run.state != "running" and run.detail.get("copy", "") == copy]


def _check(
    installation: Installation, secrets: RoleSecrets, cancel: threading.Event | None, copy: str, subset: str | None, progress: Progress
) -> tuple[RunState, str]:
    try:
        with scratch_folder(installation, "check") as scratch:
            probe(installation, secrets, copy)
            progress.update(0, 2, "checking the keys")
            open_for_reading(installation, "keys", secrets, scratch, cancel, copy).check(read_data=True, lock=False)
            progress.update(1, 2, "checking the papers")
            papers = open_for_reading(installation, "papers", secrets, scratch, cancel, copy)
            papers.check(read_data=subset is None, subset=subset, lock=False)
            progress.update(2, 2)
    except Interrupted:
        raise
    except ResticError as error:
        if isinstance(error, BACKUPS_FAULT):
            return "failed", error.message
        return "inconclusive", error.message
    except NightsafeError as error:
        return "inconclusive", error.message
    return "passed", ""
