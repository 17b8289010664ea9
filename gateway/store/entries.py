"""Files of the spool by name, below the descriptor of their folder; and errors of ours for those of the system."""

from __future__ import annotations

import os
from contextlib import suppress
from types import TracebackType

from gateway.store.errors import SpoolDamaged, SpoolGone, spool_failure
from gateway.store.format import HEADER_SIZE, FormatError, SpoolHeader, decode_header
from gateway.store.ids import is_paper_id


class translated:
    """`with translated("opening a paper"):` turns OSError and FormatError of its block into errors of ours."""

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, OSError):
            raise spool_failure(error, self._doing) from error
        if isinstance(error, FormatError):
            raise SpoolDamaged(f"a paper in the spool is damaged: {error}") from error


def papers_in(folder: int) -> list[str]:
    """Ids of the papers in a folder, oldest first. A descriptor of its own each time: threads that list one at once would share its offset."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return sorted(name for name in os.listdir(descriptor) if is_paper_id(name))
    finally:
        os.close(descriptor)


def open_file(folder: int, paper: str, flags: int) -> int | None:
    """A descriptor of the paper's file, which no link stands for; None when there is none. Raises OSError."""
    try:
        return os.open(paper, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return None


def read_header(paper: str, descriptor: int) -> SpoolHeader:
    """Raises FormatError for a damaged header page or another paper's, OSError."""
    header = decode_header(os.pread(descriptor, HEADER_SIZE, 0))
    if header.paper != paper:
        raise FormatError("it is another paper's file")
    return header


def read_partial_header(paper: str, descriptor: int) -> SpoolHeader:
    """As `read_header`; SpoolGone when the header page is not all there: the writer died before anything else was written."""
    if has_nothing(descriptor):
        raise SpoolGone("this partial has nothing in it yet")
    return read_header(paper, descriptor)


def has_nothing(descriptor: int) -> bool:
    """Whether a partial has not even its header page."""
    return os.fstat(descriptor).st_size < HEADER_SIZE


def exists(folder: int, paper: str) -> bool:
    """Whether there is something under the paper's name. Raises OSError."""
    try:
        os.stat(paper, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def same_file(folder: int, paper: str, descriptor: int) -> bool:
    """Whether the name still leads to this open file."""
    try:
        return os.path.samestat(os.stat(paper, dir_fd=folder, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def unlink(folder: int, paper: str) -> None:
    """Remove the paper's file, not durably; nothing when there is none. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(paper, dir_fd=folder)
