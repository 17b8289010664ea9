"""Which paper is in whose hands: kernel locks, so that two ingest processes handle each paper once.

One file, `run/ingest.claims`, of which a claim locks one byte, at an offset taken from the random part of the paper's id. Nothing is written
to it and no file is made per paper. The locks belong to the open file description (OFD): they die with the process, and two Claims of one
process exclude each other as well. Two papers, or clients, that share an offset (one chance in 2^59) only wait for each other.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from config.files import FILE_MODE, make_folder

FLOCK = "hhqqi4x"  # struct flock of Linux on 64 bits: type, whence, start, length, pid
CLIENTS = 2**60  # from here on lie the bytes of clients, behind those of papers
RECEIPTS = 2**61  # and behind those the bytes of receipts
DIGITS = 15  # hex digits of the id that make the offset: 60 bits, below the largest file offset


class Claims:
    """The claims of one pipeline. Not thread-safe: one thread claims and releases.

    Versions of a name are numbered in the order in which they are recorded. So in each `lane` one pipeline at a time has papers of a client in
    hand; and once a client had to be passed over, because another pipeline has it or an older paper of it, its later papers are, too, until `begin`.
    """

    def __init__(self, path: Path, lane: str = "", client_of: Callable[[str], str | None] = lambda _paper: None) -> None:
        make_folder(path.parent)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        self._lane = lane
        self._client_of = client_of
        self._clients: set[str] = set()
        self._passed_over: set[str] = set()

    def begin(self) -> None:
        """A new pass over all papers, from the oldest on."""
        self._passed_over.clear()

    def claim(self, papers: Iterable[str]) -> list[str]:
        """Those of `papers`, in order, that nobody else has in hand; they are ours until they are released. Never waits."""
        return [paper for paper in papers if self._claim(paper)]

    def release(self, papers: Iterable[str]) -> None:
        """Let others have `papers`."""
        for paper in papers:
            self._lock(_place(paper), fcntl.F_UNLCK)
        for client in self._clients:
            self._lock(self._client_place(client), fcntl.F_UNLCK)
        self._clients.clear()

    @contextmanager
    def writing(self, papers: Iterable[str]) -> Iterator[None]:
        """Alone at the receipts of `papers` while the block runs. Two lanes may have to write the same receipt, of a manifest both of whose papers
        came; what it says is then read, written and marked by one after the other. Waits; in the order of the places, so nobody waits for ever."""
        places = sorted({RECEIPTS + _place(paper) for paper in papers})
        try:
            for place in places:
                self._lock(place, fcntl.F_WRLCK, wait=True)
            yield
        finally:
            for place in places:
                self._lock(place, fcntl.F_UNLCK)

    def close(self) -> None:
        """Release everything."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _claim(self, paper: str) -> bool:
        client = self._client_of(paper)
        if client is None:
            return self._lock(_place(paper), fcntl.F_WRLCK)
        if client in self._passed_over:
            return False
        if client not in self._clients and not self._lock(self._client_place(client), fcntl.F_WRLCK):
            self._passed_over.add(client)
            return False
        self._clients.add(client)
        if self._lock(_place(paper), fcntl.F_WRLCK):
            return True
        self._passed_over.add(client)
        return False

    def _client_place(self, client: str) -> int:
        return CLIENTS + (int.from_bytes(sha256(f"{self._lane}/{client}".encode()).digest()[:8]) >> 5)

    def _lock(self, place: int, kind: int, *, wait: bool = False) -> bool:
        request = struct.pack(FLOCK, kind, os.SEEK_SET, place, 1, 0)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, request)
        except (BlockingIOError, PermissionError):  # POSIX leaves EAGAIN and EACCES open
            return False
        return True


def _place(paper: str) -> int:
    return int(paper[-DIGITS:], 16)
