"""Many timers of a few lengths: those that wait equally long stand in one row, and the event loop has one timer for each row.

A timer of the event loop for each small paper costs as much as sealing it does.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import structlog

log = structlog.get_logger()

SLACK = 0.005  # seconds that what is due may wait for others
AT_ONCE = 4  # in one turn of the event loop; then the others come


class Alarm:
    """One that was set."""

    __slots__ = ("due", "work")

    def __init__(self, due: float, work: Callable[[], None]) -> None:
        self.due = due
        self.work: Callable[[], None] | None = work

    def cancel(self) -> None:
        """Do not ring; idempotent."""
        self.work = None


class Alarms:
    """Used on one event loop."""

    def __init__(self) -> None:
        self._rows: dict[float, deque[Alarm]] = {}

    def set(self, seconds: float, work: Callable[[], None]) -> Alarm:
        """Call `work` in `seconds`, or up to SLACK later (more when there is much to do)."""
        alarm = Alarm(time.monotonic() + seconds, work)
        row = self._rows.get(seconds)
        if row is None:
            row = self._rows[seconds] = deque()
            self._wait(seconds, alarm.due)
        row.append(alarm)
        return alarm

    def _wait(self, seconds: float, due: float) -> None:
        asyncio.get_running_loop().call_later(max(0.0, due - time.monotonic()) + SLACK, self._ring, seconds)

    def _ring(self, seconds: float) -> None:
        row, now, rung = self._rows[seconds], time.monotonic(), 0
        while row and rung < AT_ONCE and (row[0].due <= now or row[0].work is None):
            work = row.popleft().work
            if work is not None:
                rung += 1
                try:
                    work()
                except Exception as error:  # those behind it are to ring all the same
                    log.exception("background.crashed", exc_info=error)
        if not row:
            del self._rows[seconds]
        elif row[0].due <= now:
            asyncio.get_running_loop().call_soon(self._ring, seconds)
        else:
            self._wait(seconds, row[0].due)
