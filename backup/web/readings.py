"""What pages show, read from the catalog no more often than it can bear: however many ask, nights and logins do not notice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, TypeVar

T = TypeVar("T")

SHARE = 10  # a reading that took a second is shown for ten: at most a tenth of a core for each page
SHORTEST, LONGEST = 1.0, 60.0  # seconds


@dataclass
class Reading(Generic[T]):
    """One page's facts. `read` is called by one thread at a time; the others wait for what it finds. What it raises is kept for nobody."""

    read: Callable[[], T]
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _kept: tuple[datetime, T] | None = None
    _until: float = 0.0

    def now(self) -> tuple[datetime, T]:
        """The facts, and when they were read: now, or a moment ago."""
        with self._lock:
            begun = self.clock()
            if self._kept is None or begun >= self._until:
                self._kept = None
                moment = datetime.now(UTC)
                found = self.read()
                ended = self.clock()
                self._kept = moment, found
                self._until = ended + min(max(SHORTEST, SHARE * (ended - begun)), LONGEST)
            return self._kept
