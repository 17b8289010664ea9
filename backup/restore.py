"""Papers of one client, back out of a snapshot: decrypted in memory, checked, written as plaintext where a person asked.

Only ciphertext touches the scratch folder. A name is restored when it was in the jail at the time of the snapshot and its paper was sealed by
then; everything else that was asked for is reported. `backup.inplace` brings the same things back into the jail.
"""

from __future__ import annotations

import errno
import getpass
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from backup.drill.repositories import open_for_reading, probe
from backup.drill.scratch import scratch_folder
from backup.returned import Dump, Name, Returned, Wish, open_regular, pick_snapshot, wanted_parts
from backup.target import Target, full_disk
from config.console import Progress, Silent
from config.errors import Exit, NightsafeError, UsageError
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
LISTED = 1000
SEALED_SUFFIX = ".age"
PERSON = "ops:restore"


@dataclass
class RestoreReport:
    """What came of a restore. Lists are bounded to LISTED lines; `not_restored` counts all."""

    snapshot: str
    taken_at: datetime
    restored: int = 0
    sealed: int = 0  # written as age files, because nothing here opens them
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
class Errand:
    """A restore that has its run, its scratch folder and its snapshot."""

    live: Catalog
    audit: AuditLog
    returned: Returned
    wish: Wish
    report: RestoreReport


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
    copy: str = "",
) -> RestoreReport:
    """Restore papers of `client` (files or folders by virtual path; all when none are named) as they were in the newest snapshot, or the
    newest at or before `at`, into `target`, which must be new or empty. `copy` names another place than the first.

    Raises UsageError (client, path, target, no such snapshot), CheckFailed (the snapshot's catalog is unusable), OutOfReach.
    """
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(installation.folder.root)):
        raise UsageError(f"{target} lies in the data folder, which never holds plaintext", "name a folder elsewhere")
    with errand(installation, client, paths, at, secrets, check=lambda _live, _client: None, copy=copy) as one, Target(target) as opened:
        _Restore(one, agent, opened, progress or Silent()).restore()
    return one.report


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
    **facts: Any,
) -> Iterator[Errand]:
    """What every restore shares: run, audit, scratch folder, snapshot. `facts` stand in the run and the audit log."""
    check_name(client)
    wanted = tuple(wanted_parts(path) for path in paths)
    with ExitStack() as stack:
        live = stack.enter_context(Catalog.open(installation.folder.catalog))
        audit = stack.enter_context(AuditLog(installation.folder.audit, "restore"))
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
            snapshot = pick_snapshot(source, installation.settings.backup.host, at)
            report = RestoreReport(snapshot.id, snapshot.time)
            wish = Wish(client, wanted, run)
            yield Errand(live, audit, Returned(source, snapshot, scratch / "restored", wish), wish, report)
        except BaseException as error:
            cause = error.message if isinstance(error, NightsafeError) else "interrupted"
            live.finish_run(run, "failed", detail={"client": client, "cause": cause, **facts})
            audit.append(Event.RESTORE_FINISHED, durable=True, person=person, run=run, client=client, state="failed", **facts)
            raise
        counted = {"papers": report.restored, "sealed": report.sealed, "bytes": report.restored_bytes, "not_restored": report.not_restored}
        detail = {"client": client, **counted, **facts}
        state: RunState = "partial" if report.not_restored else "passed"
        audit.append(Event.RESTORE_FINISHED, durable=True, person=person, run=run, state=state, snapshot=report.snapshot, **detail)
        live.finish_run(run, state, snapshot=report.snapshot, detail=detail)


class _Restore:
    """One restore into an open target."""

    def __init__(self, one: Errand, agent: KeyAgent, target: Target, progress: Progress) -> None:
        self._returned = one.returned
        self._wish = one.wish
        self._report = one.report
        self._agent = agent
        self._target = target
        self._progress = progress
        self._deposit_only = False

    def restore(self) -> None:
        """Fetch, then write name by name."""
        returned = self._returned
        self._progress.update(0, 1, "fetching names")
        returned.fetch_names()
        names, total = returned.names(), sum(1 for _ in returned.names())
        with returned.dump() as dump:
            self._deposit_only = check_was_there(dump, self._wish.client).custody == "deposit-only"
            for path in returned.unmatched():
                self._report.miss(f"{path}: there was no such name at that time")
            self._progress.update(0, 1, "fetching papers")
            returned.fetch_papers(name.paper for name in returned.names())
            done = 0
            while batch := list(itertools.islice(names, BATCH)):
                self._restore_batch(batch, dump)
                done += len(batch)
                self._progress.update(done, total, "papers")

    def _restore_batch(self, batch: Sequence[Name], dump: Dump) -> None:
        ready: list[tuple[Name, Paper, bytes]] = []
        for name in batch:
            paper = dump.paper(name)
            if name.state != "whole" or paper is None:
                self._report.miss(f"{name.path}: it was not sealed yet when the snapshot was taken", unsealed=True)
            elif paper.client != self._wish.client or paper.state != "accepted":
                self._report.miss(f"{name.path}: it was not accepted ({paper.state})")
            elif (header := self._header(name.paper)) is None:
                self._report.miss(f"{name.path}: its sealed file did not come back from the backup, or is damaged")
            else:
                ready.append((name, paper, header))
        keys = self._agent.header_keys(self._wish.client, [(name.paper, header) for name, _, header in ready], PERSON, f"restore {self._wish.run}")
        for (name, paper, _), key in zip(ready, keys, strict=True):
            if key is not None:
                self._write(name, paper, key)
            elif self._deposit_only:
                self._write_sealed(name, paper)
            else:
                self._report.miss(f"{name.path}: no key of the client opens it")

    def _header(self, paper: str) -> bytes | None:
        try:
            with open(open_regular(self._returned.sealed(paper)), "rb") as file:
                return read_header(file)
        except (OSError, AgeError):
            return None

    def _write(self, name: Name, paper: Paper, key: bytes) -> None:
        """Decrypt one paper into its place, or nothing."""
        try:
            with open(open_regular(self._returned.sealed(name.paper)), "rb") as sealed, self._target.file(name.parts, name.mtime) as file:
                size = _copy(sealed, key, file, paper.sha256)
        except (_NotWhatArrived, AgeError, ValueError) as error:
            self._report.miss(f"{name.path}: {error}")
        except OSError as error:
            raise full_disk(error) from error
        else:
            self._report.restored += 1
            self._report.restored_bytes += size

    def _write_sealed(self, name: Name, paper: Paper) -> None:
        """The age file of a paper that nothing here opens, under its name with `.age`."""
        parts = (*name.parts[:-1], name.parts[-1] + SEALED_SUFFIX)
        try:
            with open(open_regular(self._returned.sealed(name.paper)), "rb") as sealed, self._target.file(parts, name.mtime) as file:
                size = _copy_sealed(sealed, file, paper.sealed_sha256)
        except (_NotWhatArrived, ValueError) as error:
            self._report.miss(f"{name.path}: {error}")
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.EEXIST):
                raise full_disk(error) from error
            self._report.miss(f"{name.path}: its sealed file can have no name beside the others; nothing here opens it")
        else:
            self._report.sealed += 1
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


def _copy_sealed(sealed: Any, file: Any, sha256: str) -> int:
    hashed, size = hashlib.sha256(), 0
    while piece := sealed.read(PIECE):
        hashed.update(piece)
        file.write(piece)
        size += len(piece)
    if hashed.hexdigest() != sha256:
        raise _NotWhatArrived("its sealed file is not what was sealed; nothing was written")
    return size


def check_was_there(dump: Dump, client: str) -> Client:
    """The client as it was then. Raises UsageError when it is younger than the snapshot."""
    found = dump.client(client)
    if found is None:
        raise UsageError(f"there was no client '{client}' when the snapshot was taken", "see: nightsafe client list")
    return found
