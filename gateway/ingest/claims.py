"""Which paper is in whose hands: kernel locks, so that two ingest processes handle each paper once.

One file, `run/ingest.claims`, of which a claim locks one byte, at an offset taken from the random part of the paper's id. Nothing is written
to it and no file is made per paper. The locks belong to the open file description (OFD): they die with the process, and two Claims of one
process exclude each other as well. Two papers that share an offset (one chance in 2^60) only wait for each other.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from config.files import make_folder

FLOCK = "hhqqi4x"  # struct flock of Linux on 64 bits: type, whence, start, length, pid
DIGITS = 15  # hex digits of the id that make the offset: 60 bits, below the largest file offset


class Claims:
    """The claims of one pipeline. Not thread-safe: one thread claims and releases."""

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def claim(self, papers: Iterable[str]) -> list[str]:
        """Those of `papers`, in order, that nobody else has in hand; they are ours until they are released. Never waits."""
        return [paper for paper in papers if self._lock(paper, fcntl.F_WRLCK)]

    def release(self, papers: Iterable[str]) -> None:
        """Let others have `papers`."""
        for paper in papers:
            self._lock(paper, fcntl.F_UNLCK)

    def close(self) -> None:
        """Release everything."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _lock(self, paper: str, kind: int) -> bool:
        request = struct.pack(FLOCK, kind, os.SEEK_SET, int(paper[-DIGITS:], 16), 1, 0)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, request)
        except (BlockingIOError, PermissionError):  # POSIX leaves EAGAIN and EACCES open
            return False
        return True
