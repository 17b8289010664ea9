"""What visitors of the page leave in the audit log: that somebody came in, was refused, or looked at names of papers.

The address is that of the browser, or of the proxy before it. Who renews a page every minute leaves a line an hour.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from gateway.audit.events import Event
from gateway.audit.log import AuditLog

ROLE = "web"
AGAIN_SECONDS = 3600.0  # after which the same visitor's look is told again
REFUSED_SECONDS = 60.0  # between two lines about wrong tokens; those between are counted
MOST_VISITORS = 1000


class Visits:
    """Records in a segment of its own, which is opened with the first line. Thread-safe. Methods raise AuditUnavailable: then nothing is shown."""

    def __init__(self, audit: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._audit = audit
        self._clock = clock
        self._log: AuditLog | None = None
        self._lock = threading.Lock()
        self._looked: OrderedDict[str, float] = OrderedDict()
        self._refused_until, self._suppressed = 0.0, 0

    def entered(self, address: str) -> None:
        """The token was right."""
        with self._lock:
            self._opened().append(Event.PAGE_ENTERED, durable=True, address=address)

    def refused(self, address: str) -> None:
        """It was not."""
        with self._lock:
            if self._clock() < self._refused_until:
                self._suppressed += 1
                return
            self._opened().append(Event.PAGE_REFUSED, durable=True, address=address, suppressed=self._suppressed)
            self._refused_until, self._suppressed = self._clock() + REFUSED_SECONDS, 0

    def looked_at_quarantine(self, address: str, found: int) -> None:
        """Names of refused papers are about to be shown."""
        with self._lock:
            now = self._clock()
            if now < self._looked.get(address, now):
                return
            self._opened().append(Event.FILES_SEARCHED, durable=True, person=ROLE, address=address, state="refused", found=found)
            self._looked[address] = now + AGAIN_SECONDS
            self._looked.move_to_end(address)
            while len(self._looked) > MOST_VISITORS:
                self._looked.popitem(last=False)

    def close(self) -> None:
        """End the segment."""
        with self._lock:
            if self._log is not None:
                self._log.close()
                self._log = None

    def _opened(self) -> AuditLog:
        self._log = self._log or AuditLog(self._audit, ROLE)
        return self._log
