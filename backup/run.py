"""One backup, from the catalog's dump to the counted snapshot.

1. the kernel lock of the place: a second run to it is Busy; runs of the dead are marked interrupted;
2. restic, bucket and both repositories are looked at (or made, once): a fault here costs seconds;
3. the catalog is dumped, the audit chain gets a signed checkpoint, whose hash becomes a tag of the snapshot;
4. restic saves `papers`, and `keys` beside it: once more afterwards, where a key came meanwhile;
5. the ids are read back from the bucket, the run is finished in the catalog, the audit log told.

Whatever fails is raised as it is, after the run is recorded as failed. What was uploaded until then is used by the next run.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from backup import plan
from backup.clock.schedule import limit_at
from backup.embedded.weed import MIN_FREE_BYTES
from backup.repositories.access import RepositoryName
from backup.repositories.locks import BACKUP, at_place
from backup.repositories.places import recorded_name
from backup.repositories.repository import PASSWORDS, Writer, full_snapshot_id, prepared
from backup.restic import BackupResult, Interrupted, Restic, Snapshot, Status
from config.console import Progress, Silent
from config.errors import NightsafeError, OutOfReach
from config.files import make_folder
from config.loading import Installation
from config.words import counted
from gateway.audit.checkpoint import sign_checkpoint
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.signatures import SigningKey
from gateway.catalog import Catalog, Run
from gateway.catalog.rows import RunKind
from gateway.keys.keyring import CHECKPOINT_SIGNING
from gateway.keys.secrets import RoleSecrets, role_secrets

_MAX_NAMED = 20


@dataclass
class _Outcome:
    """What is known so far; grows while the run goes on, so that a failure keeps what was reached."""

    snapshot: str | None = None
    keys_snapshot: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def note(self, done: BackupResult, repository: RepositoryName) -> None:
        """One repository has its snapshot."""
        for name, value in (("files", done.summary.files), ("bytes", done.summary.total_bytes), ("added_bytes", done.summary.added_bytes)):
            self.detail[name] = self.detail.get(name, 0) + value
        if done.partial:
            self.unread += [fault.item or fault.message for fault in done.faults] or [f"something in the repository '{repository}'"]


class _Stop(threading.Event):
    """Set when it is, or when the caller's is."""

    def __init__(self, caller: threading.Event | None) -> None:
        super().__init__()
        self._caller = caller

    def is_set(self) -> bool:
        return super().is_set() or (self._caller is not None and self._caller.is_set())


def run_backup(
    installation: Installation,
    progress: Progress | None = None,
    *,
    secrets: RoleSecrets | None = None,
    cancel: threading.Event | None = None,
    copy: str = "",
    person: str = "",
) -> Run:
    """Back up everything, to the first place or to the one of a `copy`. `person`: who asked, when it was not the clock.

    Returns the finished run: `passed`, or `partial` when something could not be read (it is named in the detail).

    `secrets` are the scheduler's, when it calls; `cancel`, once set, ends the run soon. Raises Busy while another backup runs, and the error
    of whatever failed.
    """
    folder = installation.folder
    with (
        at_place(folder, BACKUP, copy, "a backup runs already", "wait for it to end, then look at: nightsafe backup status"),
        Catalog.open(folder.catalog) as catalog,
        AuditLog(folder.audit, "backup") as audit,
    ):
        kind: RunKind = "copy" if copy else "backup"
        catalog.reconcile_runs(kind, copy)
        facts: dict[str, Any] = {**({"copy": copy} if copy else {}), **({"person": person} if person else {})}
        run = catalog.start_run(kind, facts)
        outcome = _Outcome(detail={**facts})
        try:
            secrets = secrets if secrets is not None else role_secrets(installation, "backup")
            audit.append(Event.BACKUP_STARTED, run=run, **facts)
            _carry(installation, run, secrets, catalog, audit, outcome, progress or Silent(), cancel, copy)
        except BaseException as error:
            _record_failure(catalog, audit, run, outcome, error)
            raise
        state = "partial" if outcome.unread else "passed"
        found = {"snapshot": outcome.snapshot, "keys_snapshot": outcome.keys_snapshot}
        audit.append(Event.BACKUP_FINISHED, durable=True, run=run, state=state, **found, **facts)
        if outcome.unread:
            outcome.detail |= {"error": "could not be read: " + ", ".join(outcome.unread[:_MAX_NAMED]), "unread": len(outcome.unread)}
            return catalog.finish_run(run, "partial", snapshot=outcome.snapshot, keys_snapshot=outcome.keys_snapshot, detail=outcome.detail)
        return catalog.finish_run(run, "passed", snapshot=outcome.snapshot, keys_snapshot=outcome.keys_snapshot, detail=outcome.detail)


def snapshots(installation: Installation, secrets: RoleSecrets | None = None, copy: str = "") -> list[tuple[RepositoryName, Snapshot]]:
    """(repository, snapshot) for all snapshots that are in a place now, newest first. Repositories that were never made have none."""
    secrets = secrets if secrets is not None else role_secrets(installation, "backup")
    with Catalog.open(installation.folder.catalog) as catalog:
        known = [name for name in PASSWORDS if catalog.repository(recorded_name(name, copy)) is not None]
    if not known:
        return []
    writer = Writer.create(installation, secrets, copy=copy)
    writer.place.check()
    found = [(name, snapshot) for name in known for snapshot in writer.restic(name).snapshots()]
    return sorted(found, key=lambda pair: pair[1].time, reverse=True)


def _carry(
    installation: Installation,
    run: int,
    secrets: RoleSecrets,
    catalog: Catalog,
    audit: AuditLog,
    outcome: _Outcome,
    progress: Progress,
    cancel: threading.Event | None,
    copy: str,
) -> None:
    root = installation.folder.root.resolve()
    _make_dump_folder(installation.folder.dump)
    for what in (plan.PAPERS, plan.KEYS):
        plan.sources(what, root, copy)  # before anything is made in the bucket
    if not copy:
        _check_room(installation)
    stop = _Stop(cancel)
    writer = Writer.create(installation, secrets, stop, copy)
    writer.place.check()
    papers, keys = prepared(writer, "papers", catalog, audit), prepared(writer, "keys", catalog, audit)
    signer = SigningKey.parse(secrets[CHECKPOINT_SIGNING])
    outcome.detail |= _dump(catalog, installation.folder.dump / plan.dump_file(copy))
    head = sign_checkpoint(installation.folder.audit, signer, audit)
    outcome.detail["audit_head"] = head
    limit = limit_at(installation.settings.backup.windows, installation.settings.backup.timezone, datetime.now(UTC))
    if limit is not None:
        outcome.detail["limit_upload_kib"] = limit
    common: dict[str, Any] = {"host": installation.settings.backup.host, "tags": plan.tags(run, head), "limit_upload": limit}

    def save(restic: Restic, what: plan.Plan, watched: Progress) -> BackupResult:
        return _save(restic, plan.sources(what, root, copy), root, watched, **common)

    before = plan.stamp(plan.KEYS, root)
    with ThreadPoolExecutor(1, thread_name_prefix="keys") as pool:
        beside = pool.submit(save, keys, plan.KEYS, Silent())  # restic spends most of it on deriving a key, while the papers wait for the disk
        try:
            saved = save(papers, plan.PAPERS, progress)
            outcome.snapshot = full_snapshot_id(writer.place, "papers", saved.summary.snapshot)
            outcome.note(saved, "papers")
            saved = beside.result()
        except BaseException:
            stop.set()
            raise
    if plan.stamp(plan.KEYS, root) != before:  # a client's first paper may have come meanwhile, after its key was passed by
        saved = save(keys, plan.KEYS, Silent())
    outcome.keys_snapshot = full_snapshot_id(writer.place, "keys", saved.summary.snapshot)
    outcome.note(saved, "keys")


def _check_room(installation: Installation) -> None:
    """The embedded server refuses to write on an almost full disk, and restic would try again for a quarter of an hour."""
    folder = installation.path(installation.settings.s3.folder)
    if installation.settings.s3.is_embedded and folder.is_dir() and shutil.disk_usage(folder).free < MIN_FREE_BYTES:
        raise OutOfReach(f"the disk of the embedded S3 server is full: {folder}", "make space there, or set s3.endpoint to a real service")


def _make_dump_folder(folder: Path) -> None:
    with _disk_of(folder):
        make_folder(folder)


@contextlib.contextmanager
def _disk_of(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutOfReach(f"the catalog cannot be dumped: {error.strerror or error}", f"is the disk of {folder} full? make space") from error


def _dump(catalog: Catalog, target: Path) -> dict[str, Any]:
    """Dump the catalog; what it holds goes into the run's detail. The moment is before the dump: all older rows are in it."""
    moment = datetime.now(UTC)
    papers, _ = catalog.count_papers(state="accepted")
    with _disk_of(target.parent):
        catalog.dump(target)
    return {"catalog_at": plan.iso(moment), "papers": papers}


def _save(restic: Restic, sources: list[str], root: Path, progress: Progress, **means: Any) -> BackupResult:
    def report(status: Status) -> None:
        progress.update(status.bytes_done, status.total_bytes, f"{status.files_done} of {counted(status.total_files, 'file')}")

    excused = partial(plan.is_excused, root=root)
    done = restic.backup(sources, cwd=root, excludes=plan.excludes(root), excused=excused, on_status=report, **means)
    progress.update(done.summary.total_bytes, done.summary.total_bytes)  # a quick one is over before restic has told anything
    return done


def _record_failure(catalog: Catalog, audit: AuditLog, run: int, outcome: _Outcome, error: BaseException) -> None:
    """Best effort: on a full disk nothing can be recorded, and the next run marks this one as interrupted."""
    stopped = isinstance(error, Interrupted) or not isinstance(error, Exception)
    message = error.message if isinstance(error, NightsafeError) else type(error).__name__
    detail = {**outcome.detail, "error": message}
    with contextlib.suppress(NightsafeError):
        catalog.finish_run(run, "interrupted" if stopped else "failed", snapshot=outcome.snapshot, keys_snapshot=outcome.keys_snapshot, detail=detail)
    with contextlib.suppress(NightsafeError):
        audit.append(Event.BACKUP_FAILED, durable=True, run=run, error=message, interrupted=stopped)
