"""Whether there is room for more: free bytes and inodes of the disk that the spool lies on, with a reserve for the catalog and the audit log."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from config.errors import NightsafeError
from config.inodes import lacks_inodes
from config.lasting import LastingFault
from gateway.jail import Refused

FRESH_SECONDS = 0.25  # how long a look at the disk is good for
WATCH_SECONDS = 2.0
NO_SPACE = "no space left on the server; nothing that was acknowledged is lost"


class SpaceGuard:
    """Looks at the disk of `folder`, a few times a second at the most."""

    def __init__(self, folder: Path, reserve_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self.reserve_bytes = reserve_bytes
        self._clock = clock
        self._looked_at = float("-inf")
        self._free = 0
        self._total = 0
        self._granted = 0  # bytes let through since the last look

    def check(self) -> None:
        """Raise Refused when uploads are not taken at the moment."""
        if self.free <= 0:
            raise Refused("no_space", NO_SPACE)

    def check_growth(self, growth: int, coming: int) -> None:
        """Raise Refused when a paper may not grow by `growth` bytes, of which `coming` are about to be written.

        Gaps count, because they may be filled, and are when the paper is sealed. But they take no room yet, so they take none from others: else a
        few requests for the largest gap that there is room for would have every upload of everybody else refused.
        """
        if growth <= 0:
            return
        if growth > roughly(max(0, self.free - self._granted)):
            raise Refused("no_space", NO_SPACE)
        self._granted += coming

    @property
    def free(self) -> int:
        """Bytes beyond the reserve; may be negative."""
        self._look()
        return self._free

    @property
    def total(self) -> int:
        """Bytes of the disk in all."""
        self._look()
        return self._total

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked_at < FRESH_SECONDS:
            return
        state = os.statvfs(self._folder)
        self._free = state.f_bavail * state.f_frsize - self.reserve_bytes
        if lacks_inodes(state):
            self._free = min(self._free, 0)
        self._total = state.f_blocks * state.f_frsize
        self._granted = 0
        self._looked_at = now


def roughly(room: int) -> int:
    """Bytes that a disk has, or has free, an eighth less at the most: a client must not see by what it is told, or refused, what others send, nor
    what machine this is."""
    return room >> (shift := max(0, room.bit_length() - 4)) << shift


class SpaceWatch:
    """Looks whether anybody uploads or not, and tells once when the reserve is reached and once when there is room again.

    `tell` gets whether it is short, the free bytes in all and the reserve; it may raise NightsafeError, and is asked again then.
    """

    def __init__(self, space: SpaceGuard, tell: Callable[[bool, int, int], None]) -> None:
        self._space = space
        self._tell = tell
        self._short = False

    def look(self) -> None:
        """One look at the disk. Raises OSError, NightsafeError."""
        reserve, beyond = self._space.reserve_bytes, self._space.free
        short = beyond <= 0
        if short != self._short:
            self._tell(short, beyond + reserve, reserve)
            self._short = short

    async def keep(self) -> None:
        """Watch until cancelled."""
        fault = LastingFault("space.not_watched")
        while True:
            try:
                self.look()
                fault.over()
            except (OSError, NightsafeError) as error:
                fault.met(error)
            await asyncio.sleep(WATCH_SECONDS)
