"""Folders and files by descriptor: the steps that the tree is made of. Raises OSError; `Translated` of the caller turns it.

Every name is resolved one component at a time from an open folder, never as a joined path, and never through a symbolic link. So whatever
others rename or plant while we walk, we end in a folder that hung below the start, or with an error.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from config.files import FILE_MODE

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a planted FIFO must not wait for its other end. O_NOCTTY: nor may a planted terminal become ours.
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_NOREPLACE = 1


def open_folder(start: int, parts: Sequence[str]) -> int:
    """A new descriptor of the folder at `parts` below the open folder `start`."""
    if not parts:
        return os.open(b".", FOLDER_FLAGS, dir_fd=start)
    current = start
    for part in parts:
        try:
            following = os.open(part.encode(), FOLDER_FLAGS, dir_fd=current)
        finally:
            if current != start:
                os.close(current)
        current = following
    return current


def open_regular(folder: int, name: bytes) -> tuple[int, os.stat_result]:
    """A descriptor for reading and the state of a regular file; anything else is refused with EISDIR or ELOOP."""
    descriptor, state = open_any(folder, name)
    if stat.S_ISREG(state.st_mode):
        return descriptor, state
    os.close(descriptor)
    raise OSError(errno.EISDIR, "is a folder")


def open_any(folder: int, name: bytes) -> tuple[int, os.stat_result]:
    """The same for a regular file or a folder; a symbolic link, FIFO, socket or device is refused with ELOOP or ENXIO."""
    descriptor = os.open(name, FILE_FLAGS, dir_fd=folder)
    try:
        state = os.fstat(descriptor)
        if stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode):
            return descriptor, state
        raise OSError(errno.ELOOP, "neither file nor folder")
    except BaseException:
        os.close(descriptor)
        raise


def create_file(folder: int, name: bytes, data: bytes, *, mtime: float | None, durable: bool) -> None:
    """Write a new file. On an error nothing is left behind."""
    descriptor = os.open(name, _NEW_FILE_FLAGS, FILE_MODE, dir_fd=folder)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if mtime is not None:
                os.utime(descriptor, (mtime, mtime))
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        os.unlink(name, dir_fd=folder)
        raise


def rename_exclusive(source_folder: int, source: bytes, target_folder: int, target: bytes, *, is_folder: bool) -> None:
    """Rename without ever replacing: EEXIST when `target` is there. Where the file system knows no RENAME_NOREPLACE, by link and unlink."""
    call = _renameat2()
    if call is not None:
        if call(source_folder, source, target_folder, target, _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(number, os.strerror(number))
    if is_folder:
        _rename_folder_checked(source_folder, source, target_folder, target)
        return
    os.link(source, target, src_dir_fd=source_folder, dst_dir_fd=target_folder, follow_symlinks=False)
    os.unlink(source, dir_fd=source_folder)


def _rename_folder_checked(source_folder: int, source: bytes, target_folder: int, target: bytes) -> None:
    """Look, then rename: a race can at worst replace an empty folder, for rename refuses a full one."""
    try:
        os.stat(target, dir_fd=target_folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source, target, src_dir_fd=source_folder, dst_dir_fd=target_folder)
        return
    raise FileExistsError(errno.EEXIST, "exists")


@cache
def _renameat2() -> ctypes._NamedFuncPointer | None:
    """glibc's renameat2 (2.28 and newer); None where libc has none."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    call.restype = ctypes.c_int
    return call


class Found(NamedTuple):
    """One thing met on a walk: its `parts` below the start, and its open parent with its `name` there."""

    parts: tuple[str, ...]
    parent: int
    name: bytes
    is_folder: bool


def scan(folder: int) -> Iterator[os.DirEntry[str]]:
    """The regular files and folders in an open folder, one by one; whatever else was planted there does not exist for us."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
                    yield entry
            except OSError:
                continue  # it went away


def text_name(entry: os.DirEntry[str]) -> str | None:
    """The name as UTF-8 whatever the locale; None when it is none, for then no client made it or can name it."""
    try:
        return os.fsencode(entry.name).decode("utf-8")
    except UnicodeDecodeError:
        return None


def walk(start: int, limit: int) -> Iterator[Found]:
    """Everything below the open folder `start`, parents first, at most `limit` levels. `Found.parent` is open until the next step only.

    Memory and descriptors are bounded by the depth, not by the number of names.
    """
    frames: list[tuple[int, Iterator[os.DirEntry[str]], tuple[str, ...]]] = []
    try:
        frames.append(_frame(start, b".", ()))
        while frames:
            folder, entries, prefix = frames[-1]
            entry = next(entries, None)
            if entry is None:
                os.close(frames.pop()[0])
                continue
            name = text_name(entry)
            if name is None:
                continue
            parts = (*prefix, name)
            is_folder = entry.is_dir(follow_symlinks=False)
            yield Found(parts, folder, name.encode(), is_folder)
            if is_folder and len(parts) < limit:
                try:
                    frames.append(_frame(folder, name.encode(), parts))
                except OSError:
                    continue  # removed or replaced while we walked
    finally:
        for folder, _, _ in frames:
            os.close(folder)


def _frame(parent: int, name: bytes, parts: tuple[str, ...]) -> tuple[int, Iterator[os.DirEntry[str]], tuple[str, ...]]:
    folder = os.open(name, FOLDER_FLAGS, dir_fd=parent)
    return folder, scan(folder), parts
