"""How many sessions one client has at once, over all workers: each holds a byte of a file in `run/` by a kernel lock, which ends with its process.

Where there is no limit no file is opened. Sessions that began so are counted in the process alone, which is home to all of the client's, for a limit
that is set later.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from config.files import FILE_MODE
from gateway.store import locks


class Places:
    """One client's, in this process; used on the event loop. `open_file` gives the path of the file, made when it is first needed."""

    def __init__(self, path: Callable[[], Path]) -> None:
        self._path = path
        self._descriptor = -1
        self._taken: set[int] = set()
        self._unbounded = 0

    def enter(self) -> None:
        """A session begins without a limit; `leave` is called at its end."""
        self._unbounded += 1

    def leave(self) -> None:
        """See `enter`."""
        self._unbounded -= 1

    def take(self, limit: int) -> int | None:
        """A place below `limit`, to be given back; None when all are taken. Raises OSError."""
        if self._unbounded + len(self._taken) >= limit:  # the limit may have been lower, higher or none when they began
            return None
        if self._descriptor < 0:
            self._descriptor = os.open(self._path(), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        for number in range(limit):
            if number not in self._taken and locks.hold(self._descriptor, number):
                self._taken.add(number)
                return number
        return None

    def give(self, number: int) -> None:
        """The place is free again."""
        if number in self._taken:
            self._taken.discard(number)
            locks.release(self._descriptor, number)

    def close(self) -> None:
        """Give back all."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._taken.clear()
