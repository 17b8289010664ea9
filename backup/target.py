"""A folder that plaintext is restored into: every step by descriptor, no symbolic link is followed, files appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from config.errors import OutOfReach, UsageError
from config.files import TEMPORARY_PREFIX

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Target:
    """An empty folder of ours, 0700. Raises UsageError when there is anything in it already, OutOfReach when it cannot be made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made = not os.path.lexists(path)
        try:
            path.mkdir(0o700, parents=True, exist_ok=True)
            self._root = os.open(path, FOLDER_FLAGS)
        except OSError as error:
            raise UsageError(f"{path} cannot be used: {error.strerror}", "name a new or an empty folder") from error
        if os.listdir(self._root):
            os.close(self._root)
            raise UsageError(f"{path} is not empty", "name a new or an empty folder: a restore never writes over anything")
        os.fchmod(self._root, 0o700)

    @contextmanager
    def file(self, parts: Sequence[str], mtime: float) -> Iterator[BinaryIO]:
        """A new file at `parts` below the folder, 0600. It gets its name when the block ends well, and nothing is left when it does not.

        Raises ValueError for parts that are no plain names, OSError from the disk.
        """
        folder = self._folder(parts[:-1])
        temporary = TEMPORARY_PREFIX + secrets.token_hex(8)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    yield file
                    file.flush()
                    os.utime(file.fileno(), (mtime, mtime))
                    os.fsync(file.fileno())
                os.link(temporary, _plain(parts[-1]), src_dir_fd=folder, dst_dir_fd=folder)  # unlike a rename, it never replaces
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
            os.fsync(folder)
        finally:
            os.close(folder)

    def make_folder(self, parts: Sequence[str]) -> None:
        """A folder, with its parents, as far as they are missing."""
        os.close(self._folder(parts))

    def close(self) -> None:
        """Close the folder."""
        os.close(self._root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
        if error is not None and self._made:
            with suppress(OSError):  # it stays when something was written
                self._path.rmdir()

    def _folder(self, parts: Sequence[str]) -> int:
        current = os.dup(self._root)
        try:
            for part in parts:
                with suppress(FileExistsError):
                    os.mkdir(_plain(part), 0o700, dir_fd=current)
                below = os.open(part, FOLDER_FLAGS, dir_fd=current)
                os.close(current)
                current = below
        except BaseException:
            os.close(current)
            raise
        return current


def full_disk(error: OSError) -> OutOfReach:
    """What a restore raises when the disk of its target refuses."""
    return OutOfReach(f"the target cannot be written: {error.strerror}", "free some space, or restore into a folder on another disk")


def _plain(name: str) -> str:
    """The name of one entry of a folder. Raises ValueError for one that leads elsewhere."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("not a plain name")
    return name
