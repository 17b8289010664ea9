"""A folder that plaintext is restored into: every step by descriptor, no symbolic link is followed, files appear whole or not at all.

A restore that was stopped goes on in the same folder: a mark in it says what it is of. Nothing that is there is ever written over.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from config.errors import Busy, OutOfReach, UsageError

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MARK = ".nightsafe-restore"
MAX_MARK_BYTES = 1024 * 1024
_HALF = re.compile(r"\.nightsafe-restore-[0-9a-f]{16}", re.ASCII)  # in the folder itself, where no name of a client ever is
_NOT_THERE = (errno.ENOENT, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)  # what this disk has no name for is not there
_SNAPSHOT = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Target:
    """A folder of ours, 0700: new, empty, or begun by the same `order` (JSON values that say what is restored). Raises UsageError, Busy.

    `snapshot` is the one that the restore began with; None in a new one, until `begin`.
    """

    def __init__(self, path: Path, order: Mapping[str, Any]) -> None:
        self._path = path
        self._order = dict(order)
        self._made = not os.path.lexists(path)
        self.snapshot: str | None = None
        try:
            path.mkdir(0o700, parents=True, exist_ok=True)
            self._root = os.open(path, FOLDER_FLAGS)
        except OSError as error:
            raise UsageError(f"{path} cannot be used: {error.strerror}", "name a new or an empty folder") from error
        try:
            fcntl.flock(self._root, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if names := os.listdir(self._root):
                self.snapshot = self._marked(names)
            os.fchmod(self._root, 0o700)
        except BlockingIOError:
            os.close(self._root)
            raise Busy(f"another restore into {path} runs", "wait for it to end") from None
        except BaseException:
            os.close(self._root)
            raise

    def begin(self, snapshot: str) -> None:
        """Leave the mark. Raises OSError from the disk."""
        if self.snapshot is None:
            with self._whole((MARK,), None) as file:
                file.write(json.dumps({"nightsafe": 1, **self._order, "snapshot": snapshot}, ensure_ascii=True).encode())
            self.snapshot = snapshot

    @contextmanager
    def file(self, parts: Sequence[str], mtime: float) -> Iterator[BinaryIO]:
        """A new file at `parts` below the folder, 0600. It gets its name when the block ends well, and nothing is left when it does not.

        Raises ValueError for parts that are no plain names, FileExistsError, OSError from the disk.
        """
        if parts and parts[0].startswith(MARK):
            raise ValueError("a name that is ours")
        with self._whole(parts, mtime) as file:
            yield file

    @contextmanager
    def there(self, parts: Sequence[str]) -> Iterator[BufferedReader | None]:
        """The file that is at `parts` already, for reading; None when there is none. Raises ValueError when something else has that place."""
        try:
            folder = self._folder(parts[:-1], make=False)
        except FileNotFoundError:
            yield None
            return
        except OSError as error:
            raise ValueError("something else is in the place of its folder") from error
        try:
            descriptor = os.open(_plain(parts[-1]), FILE_FLAGS, dir_fd=folder)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise ValueError("something else is in its place") from error
            yield None
            return
        finally:
            os.close(folder)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("something else is in its place")
            yield file

    def close(self) -> None:
        """Close the folder."""
        os.close(self._root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            with suppress(OSError):
                if os.listdir(self._root) == [MARK]:  # nothing was restored
                    os.unlink(MARK, dir_fd=self._root)
        self.close()
        if error is not None and self._made:
            with suppress(OSError):  # it stays when something was written
                self._path.rmdir()

    def _marked(self, names: Sequence[str]) -> str:
        """The snapshot of the restore that this folder holds. What it left half-written goes."""
        other = f"{self._path} is not empty", "name a new or an empty folder: a restore never writes over anything"
        if MARK not in names:
            raise UsageError(*other)
        try:
            with os.fdopen(os.open(MARK, FILE_FLAGS, dir_fd=self._root), "rb") as file:
                found = json.loads(file.read(MAX_MARK_BYTES))
            snapshot = found.pop("snapshot")
            ours = found.pop("nightsafe") == 1 and isinstance(snapshot, str) and _SNAPSHOT.fullmatch(snapshot)
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise UsageError(*other) from None
        if not ours or found != json.loads(json.dumps(self._order)):
            raise UsageError(f"{self._path} holds another restore", "give the same words as then to go on with it, or name a new folder")
        for name in names:
            if _HALF.fullmatch(name):
                os.unlink(name, dir_fd=self._root)
        return str(snapshot)

    @contextmanager
    def _whole(self, parts: Sequence[str], mtime: float | None) -> Iterator[BinaryIO]:
        folder = self._folder(parts[:-1], make=True)
        temporary = f"{MARK}-{secrets.token_hex(8)}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._root)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    yield file
                    file.flush()
                    if mtime is not None:
                        os.utime(file.fileno(), (mtime, mtime))
                    os.fsync(file.fileno())
                os.link(temporary, _plain(parts[-1]), src_dir_fd=self._root, dst_dir_fd=folder)  # unlike a rename, it never replaces
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=self._root)
            os.fsync(folder)
        finally:
            os.close(folder)

    def _folder(self, parts: Sequence[str], *, make: bool) -> int:
        current = os.dup(self._root)
        try:
            for part in parts:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(_plain(part), 0o700, dir_fd=current)
                below = os.open(_plain(part), FOLDER_FLAGS, dir_fd=current)
                os.close(current)
                current = below
        except BaseException:
            os.close(current)
            raise
        return current


def full_disk(error: OSError) -> OutOfReach:
    """What a restore raises when the disk of its target refuses."""
    return OutOfReach(f"the target cannot be written: {error.strerror}", "free some space there and say the same again: it goes on where it stopped")


def _plain(name: str) -> str:
    """The name of one entry of a folder. Raises ValueError for one that leads elsewhere."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("not a plain name")
    return name
