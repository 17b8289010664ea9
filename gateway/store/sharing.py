"""Sharing: one partial that several processes have open. Whose turn it is, and the record that they leave each other.

While one process alone has a file open it keeps unfinished blocks in memory (`locks.SOLE`). Another that wants it says so (`locks.WANT`) and
waits; an Attendant of the first then has everything written, leaves a record and gives SOLE up. From there on each operation of anyone is
done within a turn, and leaves nothing in memory that is not on the disk.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.store import locks
from gateway.store.blocks import PaperCipher
from gateway.store.errors import SpoolBusy, spool_failure
from gateway.store.format import SHARED, SHARED_SIZE
from gateway.store.shared import NOTHING, SharedState, decode_shared

TURN_SECONDS = 30.0  # no operation takes that long, unless a disk hangs or a process was stopped in the middle of one
JOIN_SECONDS = 10.0
_PAUSE = 0.0005
_WANT_PAUSE = 0.01
_ROUND = 0.03  # seconds between two looks whether anybody waits
_LINGER = 30  # looks without an open file before the thread ends


class Sharing:
    """For one open file. Not thread-safe: its SpoolFile holds a lock."""

    def __init__(self, descriptor: int, cipher: PaperCipher) -> None:
        self._descriptor = descriptor
        self._cipher = cipher
        self._seen: bytes | None = None
        self.sequence = 0

    def take_turn(self) -> None:
        """Raises SpoolBusy when somebody else's takes too long."""
        if not locks.hold_within(self._descriptor, locks.TURN, TURN_SECONDS, _PAUSE):
            raise SpoolBusy("another process is busy with this partial and does not end", "look at its processes, and at the disk")

    def give_turn(self) -> None:
        """Others may go on."""
        locks.release(self._descriptor, locks.TURN)

    def changed(self) -> bool:
        """Whether the record is another one than this process saw last."""
        try:
            raw = os.pread(self._descriptor, SHARED_SIZE, SHARED)
        except OSError as error:
            raise spool_failure(error, "reading a paper") from error
        if raw == self._seen:
            return False
        self._seen = raw
        return True

    def record(self) -> SharedState | None:
        """The record that `changed` saw; None when there is none that counts."""
        state = decode_shared(self._seen or b"", self._cipher.shared_mac)
        if state is not None:
            self.sequence = state.sequence
        return state

    def write(self, state: SharedState) -> None:
        """Leave this record. Raises StoreFailed; it counts as not seen then."""
        self._seen = None
        raw = state.encode(self._cipher.shared_mac)
        try:
            os.pwrite(self._descriptor, raw, SHARED)
        except OSError as error:
            raise spool_failure(error, "writing a paper") from error
        self.sequence = state.sequence
        self._seen = raw

    def forget(self) -> None:
        """Look at the file anew in the next turn."""
        self._seen = None


def clear_record(descriptor: int) -> bool:
    """Zeros in place of the record; whether there was one. Raises OSError."""
    if os.pread(descriptor, SHARED_SIZE, SHARED) in (NOTHING, b""):
        return False
    os.pwrite(descriptor, NOTHING, SHARED)
    return True


def become_sole(descriptor: int, folder: int) -> bool:
    """For one who has ALIVE: wait until nobody keeps anything of the file in memory, and hold SOLE. False when that takes too long.

    That somebody waits is told at the file and at its open `folder`: so those who have many files open need to look at one place.
    """
    if locks.hold(descriptor, locks.SOLE):
        return True
    # a descriptor of its own: threads that wait must not give up each other's lock
    board = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        locks.share(descriptor, locks.WANT)
        locks.share(board, locks.WANT)
        return locks.hold_within(descriptor, locks.SOLE, JOIN_SECONDS, _WANT_PAUSE)
    finally:
        os.close(board)
        locks.release(descriptor, locks.WANT)


class Attended(Protocol):
    """What an Attendant looks after."""

    def share_if_wanted(self) -> None:
        """Give SOLE up when somebody waits for it. Returns at once when the file is in use."""


class Attendant:
    """A thread that looks, while there are open files, whether another process waits for one."""

    def __init__(self, files: Callable[[], Iterable[Attended]], is_wanted: Callable[[], bool], tidy: Callable[[], bool]) -> None:
        """`is_wanted` tells whether anybody waits for any file; `tidy` is called in each round, and tells whether it has to be again."""
        self._files = files
        self._is_wanted = is_wanted
        self._tidy = tidy
        self._lock = threading.Lock()
        self._idle = 0
        self._runs = False

    def attend(self) -> None:
        """A file was opened."""
        with self._lock:
            self._idle = 0
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._rounds, name="spool-attendant", daemon=True).start()

    def _rounds(self) -> None:
        while True:
            again = self._tidy()
            files = list(self._files())
            if files and self._is_wanted():
                for file in files:
                    with contextlib.suppress(Exception):  # its own users see what is wrong with it
                        file.share_if_wanted()
            with self._lock:
                self._idle = 0 if files or again else self._idle + 1
                if self._idle > _LINGER:
                    self._runs = False
                    return
            time.sleep(_ROUND)
