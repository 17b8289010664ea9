"""Files that appear whole or not at all, and folders that remember it.

Every function here returns only after the disk has been told (fsync of file and folder), unless it says otherwise.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"
PIECE_BYTES = 1024 * 1024

# What files and folders of the data folder are made with. It is the most that any installation allows: the umask of our processes (077) takes
# the group's part away, or, where each role has its own user, the list of rights that the folder hands down decides (config.owners).
FILE_MODE, FOLDER_MODE = 0o660, 0o770
UMASK = 0o077


def fsync_folder(folder: Path | int) -> None:
    """Make the entries of `folder` (a path or an open descriptor) durable."""
    if isinstance(folder, int):
        os.fsync(folder)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_shared(path: Path, flags: int = 0) -> int:
    """A descriptor of a file that several users share (a lock, say), made when it is not there yet; for reading alone where that is all we may.

    Never O_CREAT on what is there: in a folder like /tmp the kernel refuses that for files of others (fs.protected_regular). Raises OSError.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            return os.open(path, flags | os.O_RDWR)
        except PermissionError:
            return os.open(path, flags | os.O_RDONLY)
        except FileNotFoundError:
            with suppress(FileExistsError):
                return os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data`; a short write is continued. Raises OSError (ENOSPC…)."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_whole(path: Path, data: bytes, mode: int = FILE_MODE) -> None:
    """Replace `path` by `data`: temporary name in the same folder, fsync, rename, fsync of the folder."""
    write_whole_pieces(path, (data,), mode)


def write_whole_pieces(path: Path, pieces: Iterable[bytes], mode: int = FILE_MODE) -> None:
    """The same with what does not fit into memory."""
    temporary = path.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        try:
            for piece in pieces:
                write_all(descriptor, piece)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def copy_whole(source: Path, target: Path) -> None:
    """Replace `target` by a copy of the regular file `source`, which is no link."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        write_whole_pieces(target, iter(lambda: file.read(PIECE_BYTES), b""))


def carry(source: Path, target: Path) -> None:
    """Move the file `source` to `target`, on whatever disk that lies. Raises OSError: FileNotFoundError when it is not there."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_whole(source, target)
        os.unlink(source)
        return
    fsync_folder(target.parent)


def make_folder(path: Path, mode: int = FOLDER_MODE) -> None:
    """Make `path` and its missing parents, durably; an existing folder is left as it is."""
    missing = []
    current = path
    while not current.exists():
        missing.append(current)
        current = current.parent
    for folder in reversed(missing):
        try:
            folder.mkdir(mode)
        except FileExistsError:
            continue
        fsync_folder(folder.parent)


@contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """A descriptor of `path`, closed at the end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
