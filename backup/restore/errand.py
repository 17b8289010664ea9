"""What every restore shares: its run, its audit events, its scratch folder, the snapshot that it takes, and its report."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backup.drill.repositories import open_for_reading, probe
from backup.drill.scratch import scratch_folder
from backup.repositories.trust import doubt, refusal
from backup.restore.returned import Dump, Returned, Wish, pick_snapshot, wanted_parts
from config.errors import Exit, NightsafeError
from config.loading import Installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, check_name
from gateway.catalog.rows import RunState
from gateway.keys.secrets import RoleSecrets, role_secrets

LISTED = 1000
EVERYBODY = "*"  # in the place of a client's name


@dataclass
class RestoreReport:
    """What came of a restore. Lists are bounded to LISTED lines; `not_restored` counts all."""

    snapshot: str
    taken_at: datetime
    restored: int = 0
    verified: int = 0  # there already, from a restore that was stopped, and as it should be
    sealed: int = 0  # written as age files, because nothing here opens them
    restored_bytes: int = 0
    not_restored: int = 0
    unsealed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # why the snapshot may not be what it seems; it was asked for by its time

    @property
    def exit_code(self) -> Exit:
        """DONE, or PARTLY when something that was asked for did not come."""
        return Exit.PARTLY if self.not_restored else Exit.DONE

    def miss(self, line: str, unsealed: bool = False) -> None:
        """One name that did not come, and why."""
        self.not_restored += 1
        lines = self.unsealed if unsealed else self.problems
        if len(lines) < LISTED:
            lines.append(line)


@dataclass(frozen=True)
class Errand:
    """A restore that has its run, its scratch folder and its snapshot. `refuse` raises for a doubt, where nobody named a time."""

    live: Catalog
    returned: Returned
    wish: Wish
    report: RestoreReport
    refuse: Callable[[str], None]

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """The catalog in the snapshot. Raises CheckFailed: it is none, or not that of its backup."""
        with self.returned.dump() as dump:
            if not self.report.warnings and not self.returned.is_of_its_run(dump):
                self.refuse(f"snapshot {self.report.snapshot[:8]} is not to be trusted: the catalog in it is that of another backup")
            yield dump


@contextmanager
def errand(
    installation: Installation,
    client: str,
    paths: Sequence[str],
    at: datetime | None,
    secrets: RoleSecrets | None,
    *,
    check: Callable[[Catalog, str], None],
    copy: str = "",
    begun: str | None = None,
    **facts: Any,
) -> Iterator[Errand]:
    """What every restore shares: run, audit, scratch folder, snapshot (the one that it was `begun` with). `client` is EVERYBODY for all.
    `facts` stand in the run and the audit log."""
    if client != EVERYBODY:
        check_name(client)
    wanted = tuple(wanted_parts(path) for path in paths)
    with ExitStack() as stack:
        live = stack.enter_context(Catalog.open(installation.folder.catalog))
        audit = stack.enter_context(AuditLog(installation.folder.audit, "restore"))
        if client != EVERYBODY:
            live.check_not_destroyed(client)
        check(live, client)
        secrets = secrets if secrets is not None else role_secrets(installation, "scheduler")
        run = live.start_run("restore", {"client": client, "paths": list(paths), **facts})
        person = f"ops:{getpass.getuser()}"
        audit.append(Event.RESTORE_STARTED, durable=True, person=person, run=run, client=client, paths=len(paths), **facts)
        try:
            scratch = stack.enter_context(scratch_folder(installation, "restore"))
            probe(installation, secrets, copy)
            source = open_for_reading(installation, "papers", secrets, scratch, copy=copy)
            there = source.snapshots(host=installation.settings.backup.host)
            snapshot = pick_snapshot(there, at, begun)
            report = RestoreReport(snapshot.id, snapshot.time)

            def refuse(why: str) -> None:
                if at is None:
                    raise refusal(why, live, there, copy)
                report.warnings.append(why)

            if why := doubt(live, there, snapshot, copy, newest=at is None and begun is None):
                refuse(why)
            wish = Wish(client, wanted, run)
            yield Errand(live, Returned(source, snapshot, scratch / "restored", wish), wish, report, refuse)
        except BaseException as error:
            cause = error.message if isinstance(error, NightsafeError) else "interrupted"
            live.finish_run(run, "failed", detail={"client": client, "cause": cause, **facts})
            audit.append(Event.RESTORE_FINISHED, durable=True, person=person, run=run, client=client, state="failed", **facts)
            raise
        already = {"there_already": report.verified} if report.verified else {}
        counted = {"papers": report.restored, **already, "sealed": report.sealed, "bytes": report.restored_bytes, "not_restored": report.not_restored}
        detail = {"client": client, **counted, **({"warnings": report.warnings} if report.warnings else {}), **facts}
        state: RunState = "partial" if report.not_restored else "passed"
        audit.append(Event.RESTORE_FINISHED, durable=True, person=person, run=run, state=state, snapshot=report.snapshot, **detail)
        live.finish_run(run, state, snapshot=report.snapshot, detail=detail)
