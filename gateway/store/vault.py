"""Vault: sealed papers as immutable age files, CLIENT/ab/ID.age where ab are the last two digits of the id. The quarantine is another one.

A file appears whole or not at all. What is being written has a temporary name and is held by a kernel lock; `sweep` removes what a killed
process left behind.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from config.errors import UsageError
from config.files import FILE_MODE, TEMPORARY_PREFIX, carry, fsync_folder, make_folder, write_all
from gateway.age import Identity, Recipient, SealedReader, header_mac, open_payload, open_sealed, read_header, seal
from gateway.store import locks
from gateway.store.errors import VaultGone, vault_failure
from gateway.store.ids import check_client, check_paper, is_paper_id

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SUFFIX = ".age"
MOST_SHARDS = 4096  # folders that are known to be there; a house of a thousand clients has a quarter of a million
SWEEP_SECONDS = 60.0  # a temporary file younger than this may not have been locked yet


@dataclass(frozen=True)
class SealedPaper:
    """What the catalog keeps of a sealed paper: age authenticates no sender, so a file that was put in its place is known by these."""

    size: int
    sealed_size: int
    sealed_sha256: str
    header_mac: str


class Vault:
    """Papers below `root`, which is made with the first of them. Thread-safe."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._shards: set[Path] = set()

    def path(self, client: str, paper: str) -> Path:
        """Where a paper is or would be. Raises UsageError for names that cannot be."""
        return self.root / check_client(client) / check_paper(paper)[-2:] / (paper + SUFFIX)

    def exists(self, client: str, paper: str) -> bool:
        """Whether the vault has the paper."""
        return self.path(client, paper).exists()

    def writer(self, client: str, paper: str, recipient: Recipient) -> VaultWriter:
        """Begin to seal a paper. Raises VaultFull, StoreFailed."""
        target = self.path(client, paper)
        try:
            if target.parent not in self._shards:
                make_folder(target.parent)
                if len(self._shards) >= MOST_SHARDS:
                    self._shards = set()
                self._shards.add(target.parent)
            return VaultWriter(target, recipient)
        except OSError as error:
            self._shards.discard(target.parent)
            raise vault_failure(error, "sealing a paper") from error

    def open(self, client: str, paper: str, *, identities: Sequence[Identity] | None = None, file_key: bytes | None = None) -> SealedReader:
        """The plaintext of a paper; one of `identities` and `file_key` opens it. Raises VaultGone, AgeError."""
        if (identities is None) == (file_key is None):
            raise UsageError("a sealed paper is opened with identities, or with its file key")
        file = _open(self.path(client, paper))
        try:
            return open_sealed(file, identities or ()) if file_key is None else open_payload(file, file_key)
        except BaseException:
            file.close()
            raise

    def sealed(self, client: str, paper: str) -> BufferedReader:
        """The age file of a paper as it is. Raises VaultGone, StoreFailed."""
        return _open(self.path(client, paper))

    def header(self, client: str, paper: str) -> bytes:
        """The age header of a paper. Raises VaultGone, AgeError."""
        with _open(self.path(client, paper)) as file:
            return read_header(file)

    def put_back(self, client: str, paper: str, source: BinaryIO, sealed_sha256: str) -> bool:
        """Take a sealed file from a backup, durably, in place of one that is missing or damaged. False, and nothing changes, when it has another
        hash. Raises VaultFull, StoreFailed."""
        target = self.path(client, paper)
        temporary = target.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
        digest = sha256()
        try:
            make_folder(target.parent)
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
            try:
                locks.hold(descriptor)
                while piece := source.read(1024 * 1024):
                    digest.update(piece)
                    write_all(descriptor, piece)
                if digest.hexdigest() != sealed_sha256:
                    return False
                os.fsync(descriptor)
                os.rename(temporary, target)
                fsync_folder(target.parent)
            finally:
                with suppress(FileNotFoundError):
                    temporary.unlink()
                os.close(descriptor)
        except OSError as error:
            raise vault_failure(error, "putting a paper back") from error
        return True

    def remove(self, client: str, paper: str) -> None:
        """Remove a paper, durably; nothing when there is none."""
        path = self.path(client, paper)
        try:
            path.unlink()
            fsync_folder(path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise vault_failure(error, "removing a paper") from error

    def papers(self) -> Iterator[tuple[str, str, Path]]:
        """(client, paper, path) of every sealed paper, sorted. Raises StoreFailed."""
        for client, path in self._files():
            if path.suffix == SUFFIX and is_paper_id(path.stem) and path.parent.name == path.stem[-2:]:
                yield client, path.stem, path

    def sweep(self) -> int:
        """Remove temporary files whose writers are dead; how many there were."""
        dead = [path for _, path in self._files() if path.name.startswith(TEMPORARY_PREFIX) and _is_dead(path)]
        for path in dead:
            path.unlink(missing_ok=True)
        return len(dead)

    def _files(self) -> Iterator[tuple[str, Path]]:
        for client in _folders(self.root):
            for shard in _folders(client):
                for path in _entries(shard):
                    yield client.name, path


class VaultWriter:
    """Seals one paper. Either `commit` or `abandon` ends it; leaving a `with` block without a commit abandons."""

    def __init__(self, target: Path, recipient: Recipient) -> None:
        self._target = target
        self._temporary = target.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
        self._descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        self._digest = sha256()
        self._held = b""
        try:
            locks.hold(self._descriptor)
            self._age = seal(_Sink(self._take), [recipient])
        except BaseException:
            self.abandon()
            raise

    def write(self, data: ReadableBuffer) -> int:
        """Seal `data`. Raises VaultFull, StoreFailed; the paper is then to be abandoned."""
        try:
            return self._age.write(data)
        except OSError as error:
            raise vault_failure(error, "sealing a paper") from error

    def commit(self, *, durable: bool = True, into: Path | None = None) -> SealedPaper:
        """The paper is in the vault when this returns; with `durable` for good, without once its disk was synced (config.disks). One that was
        there under the same id is replaced: ingest does its work again after a crash. `into` is a path of another vault, always
        for good. Raises VaultFull, StoreFailed; nothing is left behind then."""
        target, durable = into or self._target, durable or into is not None
        try:
            self._age.close()
            write_all(self._descriptor, self._held)
            if durable:
                os.fsync(self._descriptor)
            if into is not None:
                make_folder(target.parent)
                carry(self._temporary, target)
            else:
                os.rename(self._temporary, target)
                if durable:
                    fsync_folder(target.parent)
        except OSError as error:
            self.abandon()
            raise vault_failure(error, "sealing a paper") from error
        os.close(self._descriptor)
        self._descriptor = -1
        return SealedPaper(self._age.size, self._age.sealed_size, self._digest.hexdigest(), header_mac(self._age.header).hex())

    def abandon(self) -> None:
        """Leave nothing behind. Does nothing after a commit."""
        if self._descriptor >= 0:
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> VaultWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def _take(self, data: memoryview) -> None:
        """Hash and write what the age writer gives; its small beginning waits for what follows."""
        self._digest.update(data)
        if len(self._held) + len(data) < _SMALL:
            self._held += data
            return
        write_all(self._descriptor, self._held + bytes(data) if self._held else data)
        self._held = b""


_SMALL = 8 * 1024


class _Sink:
    """The side of a VaultWriter that the age writer sees."""

    def __init__(self, take: Callable[[memoryview], None]) -> None:
        self._take = take

    def write(self, data: memoryview, /) -> int:
        """Take all of `data`."""
        self._take(data)
        return len(data)


def _open(path: Path) -> BufferedReader:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise VaultGone("the vault does not have this paper") from None
    except OSError as error:
        raise vault_failure(error, "opening a sealed paper") from error
    return os.fdopen(descriptor, "rb")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise vault_failure(error, "listing the vault") from error


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir() and not path.is_symlink()]


def _is_dead(path: Path) -> bool:
    """Whether nobody writes this temporary file any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.fstat(descriptor).st_mtime < time.time() - SWEEP_SECONDS and not locks.is_held(descriptor)
    finally:
        os.close(descriptor)
