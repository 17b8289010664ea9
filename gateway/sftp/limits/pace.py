"""Speed limits: how fast one client may upload and download, over all its sessions and all workers. Nothing here waits; sessions do, one by one.

The time up to which a client's bytes are paid for stands in a small file in `run/` that the workers share. A process pays there for a twentieth of a
second ahead; so a fast transfer touches the file twenty times a second, and a client without limits never does.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from config.files import FILE_MODE
from config.lasting import LastingFault
from gateway.store import locks

BURST_SECONDS = 0.5  # that may be had at once after a pause
AHEAD_SHARE = 20  # of what one second may have is paid for at a time
BUSY_SECONDS, BUSY_PAUSE = 0.2, 0.0002
UP, DOWN = 0, 1

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_CELL = struct.Struct("<36s2q")  # the boot; nanoseconds of its monotonic clock, which all processes share
_CHANGING = 1 << 61


class SharedTimes:
    """The file. Raises OSError."""

    def __init__(self, path: Path, boot: bytes | None = None) -> None:
        self._boot = (_BOOT.read_bytes() if boot is None else boot)[:36].ljust(36, b"\0")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)

    def pay(self, way: int, nanoseconds: int, now: int) -> int:
        """Add to the time of `way` (UP or DOWN); what it is now. A file that another process holds for long is read and not changed."""
        held = locks.hold_within(self._descriptor, _CHANGING, BUSY_SECONDS, BUSY_PAUSE)
        try:
            raw = os.pread(self._descriptor, _CELL.size, 0)
            boot, up, down = _CELL.unpack(raw) if len(raw) == _CELL.size else (b"", 0, 0)
            times: list[int] = [up, down]
            if boot != self._boot:
                times = [0, 0]
            times[way] = max(times[way], now) + nanoseconds
            if held:
                os.pwrite(self._descriptor, _CELL.pack(self._boot, *times), 0)
            return times[way]
        finally:
            if held:
                locks.release(self._descriptor, _CHANGING)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Pace:
    """One client's, in this process; used on the event loop. `upload` and `download` are bytes a second, None for no limit."""

    def __init__(self, open_times: Callable[[], SharedTimes] | None = None, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._open_times = open_times
        self._clock = clock
        self._times: SharedTimes | None = None
        self._rates: list[int | None] = [None, None]
        self._paid = [0, 0]  # bytes
        self._until = 0
        self._fault = LastingFault("pace.not_shared")
        self.is_limited = False

    def limit(self, upload: int | None, download: int | None) -> None:
        """Set both."""
        self._rates = [upload, download]
        self.is_limited = upload is not None or download is not None

    def moved(self, way: int, count: int) -> None:
        """`count` bytes went through."""
        rate = self._rates[way]
        if rate is None:
            return
        self._paid[way] -= count
        if self._paid[way] >= 0:
            return
        paying = -self._paid[way] + rate // AHEAD_SHARE
        self._paid[way] = rate // AHEAD_SHARE
        self._until = max(self._until, self._pay(way, paying * 10**9 // max(1, rate)) - int(BURST_SECONDS * 10**9))

    def _pay(self, way: int, nanoseconds: int) -> int:
        now = self._clock()
        try:
            if self._times is None and self._open_times is not None:
                self._times = self._open_times()
            if self._times is not None:
                return self._times.pay(way, nanoseconds, now)
        except OSError as error:
            self._fault.met(error)
        return max(self._until, now) + nanoseconds

    @property
    def wait_seconds(self) -> float:
        """How long the next request of a session has to wait."""
        return max(0.0, (self._until - self._clock()) / 10**9)

    def close(self) -> None:
        """Close what is open."""
        if self._times is not None:
            self._times.close()
            self._times = None
