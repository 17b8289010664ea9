"""Papers of one client, back under their own names: out of a snapshot, decrypted in memory, checked, written as plaintext where a person asked.

Only ciphertext touches the scratch folder. A name is restored when it was in the jail at the time of the snapshot and its paper was sealed by
then; everything else that was asked for is reported.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from backup.drill.errors import FREE_SCRATCH, ScratchFailed
from backup.drill.repositories import open_for_reading, probe
from backup.drill.scratch import scratch_folder
from backup.drill.verify import vault_path
from backup.restic import DiskFull, Restic, Snapshot
from backup.restic.arguments import literal
from backup.restic.errors import classify
from backup.target import Target, full_disk
from config.console import Progress, Silent
from config.errors import CheckFailed, Exit, NightsafeError, UsageError
from config.loading import Installation
from gateway.age import AgeError, open_payload, read_header
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Client, Paper, check_name
from gateway.catalog.rows import RunState
from gateway.keys.client import KeyAgent
from gateway.keys.secrets import RoleSecrets, role_secrets

BATCH = 256
PIECE = 1024 * 1024
PATTERNS = 2000
LISTED = 1000
PERSON = "ops:restore"
MAX_POINTER_BYTES = 512
POINTER = re.compile(rb'\{"nightsafe":1,"paper":"([0-9a-f]{32})","size":(?:0|[1-9][0-9]{0,18}),"state":"(partial|whole)"\}\n')
FOLDERS = ("inbox", "outbox")  # what below a jail holds pointers; receipts are plain files, and the catalog has what they say


@dataclass
class RestoreReport:
    """What came of a restore. Lists are bounded to LISTED lines; `not_restored` counts all."""

    snapshot: str
    taken_at: datetime
    restored: int = 0
    restored_bytes: int = 0
    not_restored: int = 0
    unsealed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

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
class _Name:
    """A name in the jail: its parts from the root of the jail, what it points to, and its time."""

    parts: tuple[str, ...]
    paper: str
    state: str
    mtime: float

    @property
    def path(self) -> str:
        return os.fsencode("/" + "/".join(self.parts)).decode(errors="backslashreplace")


@dataclass(frozen=True)
class _Wish:
    client: str
    paths: tuple[tuple[str, ...], ...]
    run: int

    def covers(self, parts: tuple[str, ...]) -> bool:
        """Whether a name was asked for: itself, a folder above it, or everything."""
        return not self.paths or any(parts[: len(path)] == path for path in self.paths)


def restore_papers(
    installation: Installation,
    client: str,
    paths: Sequence[str],
    at: datetime | None,
    target: Path,
    agent: KeyAgent,
    progress: Progress | None = None,
    *,
    secrets: RoleSecrets | None = None,
) -> RestoreReport:
    """Restore papers of `client` (files or folders by virtual path; all when none are named) as they were in the newest snapshot, or the
    newest at or before `at`, into `target`, which must be new or empty.

    Raises UsageError (client, path, target, no such snapshot), CheckFailed (the snapshot's catalog is unusable), OutOfReach.
    """
    check_name(client)
    wanted = tuple(_parts(path) for path in paths)
    folder = installation.folder
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(folder.root)):
        raise UsageError(f"{target} lies in the data folder, which never holds plaintext", "name a folder elsewhere")
    with ExitStack() as stack:
        live = stack.enter_context(Catalog.open(folder.catalog))
        audit = stack.enter_context(AuditLog(folder.audit, "restore"))
        _check_custody(live, client)
        secrets = secrets if secrets is not None else role_secrets(installation, "scheduler")
        run = live.start_run("restore", {"client": client, "paths": list(paths)})
        audit.append(Event.RESTORE_STARTED, durable=True, run=run, client=client, paths=len(paths))
        try:
            scratch = stack.enter_context(scratch_folder(installation, "restore"))
            probe(installation, secrets)
            source = open_for_reading(installation, "papers", secrets, scratch)
            snapshot = _snapshot(source, installation.settings.backup.host, at)
            opened = stack.enter_context(Target(target))
            report = RestoreReport(snapshot.id, snapshot.time)
            _Restore(source, snapshot, scratch / "restored", _Wish(client, wanted, run), agent, opened, report, progress or Silent()).restore()
        except BaseException as error:
            live.finish_run(run, "failed", detail={"client": client, "cause": error.message if isinstance(error, NightsafeError) else "interrupted"})
            audit.append(Event.RESTORE_FINISHED, durable=True, run=run, client=client, state="failed")
            raise
        detail = {"client": client, "papers": report.restored, "bytes": report.restored_bytes, "not_restored": report.not_restored}
        state: RunState = "partial" if report.not_restored else "passed"
        audit.append(Event.RESTORE_FINISHED, durable=True, run=run, state=state, snapshot=snapshot.id, **detail)
        live.finish_run(run, state, snapshot=snapshot.id, detail=detail)
        return report


class _Restore:
    """One restore into an open target."""

    def __init__(
        self,
        source: Restic,
        snapshot: Snapshot,
        root: Path,
        wish: _Wish,
        agent: KeyAgent,
        target: Target,
        report: RestoreReport,
        progress: Progress,
    ) -> None:
        self._source = source
        self._snapshot = snapshot
        self._root = root
        self._wish = wish
        self._agent = agent
        self._target = target
        self._report = report
        self._progress = progress
        self._jail = root / "jails" / wish.client

    def restore(self) -> None:
        """Fetch, then write name by name."""
        self._progress.update(0, 1, "fetching names")
        self._fetch(["/dump", *(f"/jails/{literal(self._wish.client)}/{top}" for top in FOLDERS)])
        names, total = self._names(), sum(1 for _ in self._names())
        with _dump(self._root / "dump") as dump:
            if _client(dump, self._wish.client) is None:
                raise UsageError(f"there was no client '{self._wish.client}' when the snapshot was taken", "see: nightsafe client list")
            self._report_unmatched()
            self._fetch_papers()
            done = 0
            while batch := list(itertools.islice(names, BATCH)):
                self._restore_batch(batch, dump)
                done += len(batch)
                self._progress.update(done, total, "papers")

    def _fetch(self, includes: Sequence[str]) -> None:
        """What cannot be restored is missed name by name, unless it is our disk that refuses."""
        faults = self._source.restore(self._snapshot.id, self._root, includes=includes).faults
        if any(isinstance(classify("restoring", 1, fault.message), DiskFull) for fault in faults):
            raise ScratchFailed("the disk of the scratch folder is full", FREE_SCRATCH)

    def _names(self) -> Iterator[_Name]:
        """The names that were asked for."""
        for top in FOLDERS:
            yield from (name for name in _walk(self._jail / top, (top,)) if self._wish.covers(name.parts))

    def _report_unmatched(self) -> None:
        for path in self._wish.paths:
            if not os.path.lexists(self._jail.joinpath(*path)):
                self._report.miss(f"/{'/'.join(path)}: there was no such name at that time")

    def _fetch_papers(self) -> None:
        """The sealed files: those of the names when they are few, else the client's whole vault."""
        patterns = {"/vault/" + literal(vault_path(self._wish.client, name.paper)) for name in itertools.islice(self._names(), PATTERNS + 1)}
        whole = len(patterns) > PATTERNS
        if patterns:
            self._progress.update(0, 1, "fetching papers")
            includes = [f"/vault/{literal(self._wish.client)}"] if whole else sorted(patterns)
            self._fetch(includes)

    def _restore_batch(self, batch: Sequence[_Name], dump: Catalog) -> None:
        ready: list[tuple[_Name, Paper, bytes]] = []
        for name in batch:
            paper = _known(dump, name)
            if name.state != "whole" or paper is None:
                self._report.miss(f"{name.path}: it was not sealed yet when the snapshot was taken", unsealed=True)
            elif paper.client != self._wish.client or paper.state != "accepted":
                self._report.miss(f"{name.path}: it was not accepted ({paper.state})")
            elif (header := self._header(name)) is None:
                self._report.miss(f"{name.path}: its sealed file did not come back from the backup, or is damaged")
            else:
                ready.append((name, paper, header))
        keys = self._agent.header_keys(self._wish.client, [(name.paper, header) for name, _, header in ready], PERSON, f"restore {self._wish.run}")
        for (name, paper, _), key in zip(ready, keys, strict=True):
            if key is None:
                self._report.miss(f"{name.path}: no key of the client opens it")
            else:
                self._write(name, paper, key)

    def _header(self, name: _Name) -> bytes | None:
        try:
            with open(_descriptor(self._sealed(name)), "rb") as file:
                return read_header(file)
        except (OSError, AgeError):
            return None

    def _sealed(self, name: _Name) -> Path:
        return self._root / "vault" / vault_path(self._wish.client, name.paper)

    def _write(self, name: _Name, paper: Paper, key: bytes) -> None:
        """Decrypt one paper into its place, or nothing."""
        try:
            with open(_descriptor(self._sealed(name)), "rb") as sealed, self._target.file(name.parts, name.mtime) as file:
                size = _copy(sealed, key, file, paper.sha256)
        except (_NotWhatArrived, AgeError, ValueError) as error:
            self._report.miss(f"{name.path}: {error}")
        except OSError as error:
            raise full_disk(error) from error
        else:
            self._report.restored += 1
            self._report.restored_bytes += size


class _NotWhatArrived(Exception):
    """The content does not have the hash of the catalog."""


def _copy(sealed: Any, key: bytes, file: Any, sha256: str) -> int:
    hashed, size = hashlib.sha256(), 0
    reader = open_payload(sealed, key)
    while piece := reader.read(PIECE):
        hashed.update(piece)
        file.write(piece)
        size += len(piece)
    if hashed.hexdigest() != sha256:
        raise _NotWhatArrived("its content is not what arrived; nothing was written")
    return size


def _walk(folder: Path, parts: tuple[str, ...]) -> Iterator[_Name]:
    """Every pointer below a restored folder of a jail, depth first."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), (*parts, entry.name))
        elif entry.is_file(follow_symlinks=False):
            yield _name(Path(entry.path), (*parts, entry.name))


def _name(path: Path, parts: tuple[str, ...]) -> _Name:
    """A name with its pointer; the state 'damaged' for one that holds none."""
    with open(_descriptor(path), "rb") as file:
        pointer = parse_pointer(file.read(MAX_POINTER_BYTES + 1))
        mtime = os.fstat(file.fileno()).st_mtime
    return _Name(parts, pointer[0], pointer[1], mtime) if pointer else _Name(parts, "", "damaged", mtime)


def parse_pointer(raw: bytes) -> tuple[str, str] | None:
    """The paper's id and the state ('partial' or 'whole') that a pointer holds; None when it is none. The form is that of `gateway.jail.pointers`,
    written down there and in the kit's script: a restore must read it without the gateway."""
    found = POINTER.fullmatch(raw)
    return (found[1].decode("ascii"), found[2].decode("ascii")) if found else None


def _client(dump: Catalog, name: str) -> Client | None:
    try:
        return dump.client(name)
    except (NightsafeError, ValueError, TypeError, OverflowError) as error:
        raise _dump_unusable(error) from error


def _known(dump: Catalog, name: _Name) -> Paper | None:
    """The paper behind a name, as the dump knows it. Raises CheckFailed when the dump cannot say."""
    if name.state == "damaged":
        return None
    try:
        return dump.paper(name.paper)
    except (NightsafeError, ValueError, TypeError, OverflowError) as error:
        raise _dump_unusable(error) from error


@contextmanager
def _dump(folder: Path) -> Iterator[Catalog]:
    """The catalog as it was at the time of the snapshot."""
    file = next((path for path in sorted(folder.glob("*.sqlite3")) if path.is_file() and not path.is_symlink()), None)
    if file is None:
        raise CheckFailed("the catalog did not come back from the snapshot", "try an older one: --at TIME; and see: nightsafe drill run --full")
    try:
        dump = Catalog.open(file)
    except (NightsafeError, ValueError) as error:
        raise _dump_unusable(error) from error
    with dump:
        yield dump


def _dump_unusable(error: Exception) -> CheckFailed:
    why = error.message if isinstance(error, NightsafeError) else str(error)
    return CheckFailed(f"the catalog in the snapshot cannot be read: {why}", "try an older one: --at TIME; and see: nightsafe drill run --full")


def _snapshot(source: Restic, host: str, at: datetime | None) -> Snapshot:
    """The newest snapshot, or the newest at or before `at`."""
    there = source.snapshots(host=host)
    fitting = [snapshot for snapshot in there if at is None or snapshot.time <= at]
    if not fitting:
        oldest = f"the oldest is of {there[0].time:%Y-%m-%d %H:%M:%S} UTC" if there else "there is none at all"
        raise UsageError("there is no snapshot of that time" if there else "there is no snapshot", f"{oldest}; see: nightsafe backup snapshots")
    return fitting[-1]


def _check_custody(live: Catalog, client: str) -> None:
    known = live.client(client)
    if known is not None and known.custody == "deposit-only":
        raise UsageError(f"nothing on this machine opens the papers of '{client}' (deposit-only)", "only the client's own identity does")


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a virtual path from the command line. Raises UsageError."""
    parts = tuple(part for part in path.split("/") if part)
    if ".." in parts or "." in parts or "\0" in path or (parts and parts[0] not in FOLDERS):
        raise UsageError(f"'{path}' is no path of a paper", "name files or folders below /inbox or /outbox")
    return parts


def _descriptor(path: Path) -> int:
    """A regular file of the scratch folder, links not followed. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(f"{path.name} is no file")
    return descriptor
