"""A file that has no name until it is whole: whatever happens, `kill -9` included, nothing half-made is left."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from config.errors import OutOfReach, UsageError
from config.files import TEMPORARY_PREFIX, fsync_folder

_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)  # what file systems without O_TMPFILE answer


@contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """A new file (0600), readable and writable, that gets its name, durably, when the block ends well. Never replaces anything.

    Raises UsageError when the name is taken or its folder missing, OutOfReach when the disk refuses.
    """
    path = path.absolute()
    if os.path.lexists(path):
        raise _taken(path)
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist", "make it, or choose another place")
    try:
        descriptor, temporary = _open(path.parent)
    except OSError as error:
        raise UsageError(f"{path.parent} cannot be written: {error.strerror}", "choose a folder that you may write to") from error
    try:
        with os.fdopen(descriptor, "w+b") as file:
            try:
                yield file
                file.flush()
                os.fsync(descriptor)
                _give_name(descriptor, temporary, path)
            except FileExistsError as error:
                raise _taken(path) from error
            except OSError as error:
                raise OutOfReach(f"{path} cannot be written: {error.strerror or error}", "make space on its disk, or choose another place") from error
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                temporary.unlink()
    fsync_folder(path.parent)


def _open(folder: Path) -> tuple[int, Path | None]:
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), None
    except OSError as error:
        if error.errno not in _NO_NAMELESS:
            raise
    temporary = folder / (TEMPORARY_PREFIX + secrets.token_hex(8))
    return os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), temporary


def _give_name(descriptor: int, temporary: Path | None, path: Path) -> None:
    """By a link, which unlike a rename never replaces."""
    if temporary is not None:
        os.link(temporary, path)
        return
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:  # only with a descriptor does Python call linkat, which can follow the link in /proc
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=root, follow_symlinks=True)
    finally:
        os.close(root)


def _taken(path: Path) -> UsageError:
    return UsageError(f"{path} exists already", "choose another name; nothing is written over")
