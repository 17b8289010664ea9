"""Whether there is room for more: the free bytes of the disk that the spool lies on, with a reserve for the catalog and the audit log."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from gateway.jail import Refused

FRESH_SECONDS = 0.25  # how long a look at the disk is good for
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

    def check_growth(self, growth: int) -> None:
        """Raise Refused when a paper may not grow by `growth` bytes; gaps count, because the spool fills them."""
        if growth <= 0:
            return
        if growth > self.free - self._granted:
            raise Refused("no_space", NO_SPACE)
        self._granted += growth

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
        self._total = state.f_blocks * state.f_frsize
        self._granted = 0
        self._looked_at = now
