"""Papers of one client, back out of a snapshot: decrypted in memory, checked, written as plaintext where a person asked.

Only ciphertext touches the scratch folder. A name is restored when it was in the jail at the time of the snapshot and its paper was sealed by
then; everything else that was asked for is reported. `backup.restore.inplace` brings the same things back into the jail.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from backup.restore.errand import Errand, RestoreReport, errand
from backup.restore.returned import Dump, Name, open_regular
from backup.restore.target import Target, full_disk
from config.console import Progress, Silent
from config.errors import UsageError
from config.loading import Installation
from gateway.age import AgeError, open_payload, read_header
from gateway.catalog import Client, Paper
from gateway.keys.client import KeyAgent
from gateway.keys.secrets import RoleSecrets

BATCH = 256
PIECE = 1024 * 1024
SEALED_SUFFIX = ".age"
PERSON = "ops:restore"
TO_DO, THERE, IN_THE_WAY = range(3)  # what a look at the target says of a name
BAD_NAMES = (errno.ENAMETOOLONG, errno.EEXIST, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.ELOOP)  # the target cannot have such a name


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
    newest at or before `at`, into `target`: new, empty, or begun by the same call before, which then goes on with the snapshot of that time.
    `copy` names another place than the first.

    Raises UsageError (client, path, target, no such snapshot), CheckFailed (the snapshot's catalog is unusable, or the newest snapshot is
    doubtful: `backup.repositories.trust`), OutOfReach, Busy.
    """
    check_outside(installation, target)
    order = {"client": client, "paths": list(paths), "at": at.isoformat() if at else "", "copy": copy}
    with (
        Target(target, order) as opened,
        errand(installation, client, paths, at, secrets, check=lambda _live, _client: None, copy=copy, begun=opened.snapshot) as one,
    ):
        one.returned.fetch_names()
        with one.dump() as dump:
            check_was_there(dump, client)
            begin(opened, one)
            Restore(one, agent, opened, progress or Silent(), dump).restore()
    return one.report


def check_outside(installation: Installation, target: Path) -> None:
    """Raises UsageError for a folder inside the data folder, which never holds plaintext."""
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(installation.folder.root)):
        raise UsageError(f"{target} lies in the data folder, which never holds plaintext", "name a folder elsewhere")


def begin(target: Target, one: Errand) -> None:
    """Leave the mark in the target. Raises OutOfReach."""
    try:
        target.begin(one.report.snapshot)
    except OSError as error:
        raise full_disk(error) from error


class Restore:
    """The names of one client, into an open target, below the folders `prefix`. The names were fetched."""

    def __init__(self, one: Errand, agent: KeyAgent, target: Target, progress: Progress, dump: Dump, prefix: tuple[str, ...] = ()) -> None:
        self._returned = one.returned
        self._wish = one.wish
        self._report = one.report
        self._agent = agent
        self._target = target
        self._progress = progress
        self._dump = dump
        self._prefix = prefix
        self._deposit_only = check_was_there(dump, one.wish.client).custody == "deposit-only"

    def restore(self) -> None:
        """Look what is there already, fetch the rest, then write name by name."""
        returned = self._returned
        for path in returned.unmatched():
            self._report.miss(f"{path}: there was no such name at that time")
        looks = self._look()  # a byte for each name
        self._tell(0, 1, "fetching papers")
        returned.fetch_papers(name.paper for name, look in zip(returned.names(), looks, strict=True) if look == TO_DO)
        done, left = looks.count(THERE) + looks.count(IN_THE_WAY), (name for name, look in zip(returned.names(), looks, strict=True) if look == TO_DO)
        while batch := list(itertools.islice(left, BATCH)):
            self._restore_batch(batch)
            done += len(batch)
            self._tell(done, len(looks), "papers")

    def _look(self) -> bytearray:
        looks = bytearray()
        for name in self._returned.names():
            looks.append(TO_DO)
            paper = self._dump.paper(name)
            if paper is None or paper.client != self._wish.client:
                continue
            try:
                if self._is_there(name, paper):
                    looks[-1] = THERE
                    self._report.verified += 1
            except ValueError as error:
                looks[-1] = IN_THE_WAY
                self._miss(name, f"{error}; it was left alone")
            except OSError as error:
                raise full_disk(error) from error
            if len(looks) % BATCH == 0:
                self._tell(len(looks), 0, "names looked at")
        return looks

    def _is_there(self, name: Name, paper: Paper) -> bool:
        """Raises ValueError when what is there is something else."""
        kinds = [(self._parts(name), paper.sha256), *([(self._parts(name, SEALED_SUFFIX), paper.sealed_sha256)] if self._deposit_only else [])]
        for parts, sha256 in kinds:
            with self._target.there(parts) as file:
                if file is None:
                    continue
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise ValueError("something else is in its place")
                return True
        return False

    def _parts(self, name: Name, suffix: str = "") -> tuple[str, ...]:
        return (*self._prefix, *name.parts[:-1], name.parts[-1] + suffix)

    def _miss(self, name: Name, why: str, *, unsealed: bool = False) -> None:
        self._report.miss(f"{' '.join((*self._prefix, name.path))}: {why}", unsealed=unsealed)

    def _tell(self, done: int, total: int, what: str) -> None:
        self._progress.update(done, total, ": ".join((*self._prefix, what)))

    def _restore_batch(self, batch: Sequence[Name]) -> None:
        ready: list[tuple[Name, Paper, bytes]] = []
        for name in batch:
            paper = self._dump.paper(name)
            if name.state != "whole" or paper is None:
                self._miss(name, "it was not sealed yet when the snapshot was taken", unsealed=True)
            elif paper.client != self._wish.client or paper.state != "accepted":
                self._miss(name, f"it was not accepted ({paper.state})")
            elif (header := self._header(name.paper)) is None:
                self._miss(name, "its sealed file did not come back from the backup, or is damaged")
            else:
                ready.append((name, paper, header))
        keys = self._agent.header_keys(self._wish.client, [(name.paper, header) for name, _, header in ready], PERSON, f"restore {self._wish.run}")
        for (name, paper, _), key in zip(ready, keys, strict=True):
            if key is not None:
                self._write(name, paper, key)
            elif self._deposit_only:
                self._write_sealed(name, paper)
            else:
                self._miss(name, "no key of the client opens it")

    def _header(self, paper: str) -> bytes | None:
        try:
            with open(open_regular(self._returned.sealed(paper)), "rb") as file:
                return read_header(file)
        except (OSError, AgeError):
            return None

    def _write(self, name: Name, paper: Paper, key: bytes) -> None:
        """Decrypt one paper into its place, or nothing."""
        try:
            with open(open_regular(self._returned.sealed(name.paper)), "rb") as sealed, self._target.file(self._parts(name), name.mtime) as file:
                size = _copy(open_payload(sealed, key), file, paper.sha256, "its content is not what arrived")
        except (_NotWhatArrived, AgeError, ValueError) as error:
            self._miss(name, str(error))
        except OSError as error:
            if error.errno not in BAD_NAMES:
                raise full_disk(error) from error
            self._miss(name, f"the target can have no such name beside the others: {error.strerror}")
        else:
            self._report.restored += 1
            self._report.restored_bytes += size

    def _write_sealed(self, name: Name, paper: Paper) -> None:
        """The age file of a paper that nothing here opens, under its name with `.age`."""
        parts = self._parts(name, SEALED_SUFFIX)
        try:
            with open(open_regular(self._returned.sealed(name.paper)), "rb") as sealed, self._target.file(parts, name.mtime) as file:
                size = _copy(sealed, file, paper.sealed_sha256, "its sealed file is not what was sealed")
        except (_NotWhatArrived, ValueError) as error:
            self._miss(name, str(error))
        except OSError as error:
            if error.errno not in BAD_NAMES:
                raise full_disk(error) from error
            self._miss(name, "its sealed file can have no name beside the others; nothing here opens it")
        else:
            self._report.sealed += 1
            self._report.restored_bytes += size


class _NotWhatArrived(Exception):
    """The content does not have the hash of the catalog."""


def _copy(source: Any, file: Any, sha256: str, otherwise: str) -> int:
    """The number of bytes copied. Raises _NotWhatArrived, with the reason `otherwise`, when they have another hash."""
    hashed, size = hashlib.sha256(), 0
    while piece := source.read(PIECE):
        hashed.update(piece)
        file.write(piece)
        size += len(piece)
    if hashed.hexdigest() != sha256:
        raise _NotWhatArrived(f"{otherwise}; nothing was written")
    return size


def check_was_there(dump: Dump, client: str) -> Client:
    """The client as it was then. Raises UsageError when it is younger than the snapshot."""
    found = dump.client(client)
    if found is None:
        raise UsageError(f"there was no client '{client}' when the snapshot was taken", "see: nightsafe client list")
    return found
