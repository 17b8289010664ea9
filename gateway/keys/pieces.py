"""Small files that are written once; and, where one has to be, replaced as a whole."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from config.files import FILE_MODE, TEMPORARY_PREFIX, fsync_folder, make_folder, write_all

MAX_PIECE_BYTES = 256 * 1024


def write_new(path: Path, data: bytes) -> None:
    """Make `path` with `data`, whole and durable. Raises FileExistsError when it is there; what is there stays as it was."""
    make_folder(path.parent)
    temporary = path.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(temporary, path)  # unlike a rename, a link never replaces
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def replace_piece(path: Path, data: bytes) -> None:
    """Put `data` in the place of what `path` holds, whole and durable, with the time that it has. Raises OSError when there is no such file."""
    time = path.stat().st_mtime_ns
    temporary = path.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            write_all(descriptor, data)
            os.utime(descriptor, ns=(time, time))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def open_plain(path: Path) -> int:
    """A descriptor of a regular file, for reading; no link is followed, no pipe waited for. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a plain file", str(path))


def read_piece(path: Path, limit: int = MAX_PIECE_BYTES) -> bytes:
    """The whole of a small file. Raises OSError: FileNotFoundError when it is missing, others when it is a link, no plain file, or too long."""
    with open(open_plain(path), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it is longer than {limit} bytes", str(path))
    return data
