"""What it costs to make something durable where papers arrive: less than asking a thread for it, or more?

To ask a thread costs some 0.2 ms of processor time, most of it for handing the interpreter to and fro. A disk that takes longer than that must
never be waited for on the event loop. Memory (a RAM disk) and storage that needs no flush are done sooner: there the event loop does it itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger()

LOW_SECONDS = 0.00005  # for a sync
TRIES = 7
STALL_SECONDS = 0.5  # what took so long on the event loop shows that the disk is not what it was
DISTRUST_SECONDS = 60.0
_PROBE = ".sync-cost"


class SyncCost:
    """Of the disk of some folders. Whoever did something on the event loop because it `is_low` tells how long it `took`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._low = False
        self._distrusted_until = float("-inf")

    @property
    def is_low(self) -> bool:
        """Whether what has to be synced may be done on the event loop."""
        return self._low and self._clock() >= self._distrusted_until

    def measure(self, folder: Path, *others: Path) -> None:
        """Blocking: write a few bytes in `folder` and sync them. Where that cannot be done, or `others` are on another disk, it counts as high."""
        try:
            disk = os.stat(folder).st_dev
            self._low = all(os.stat(other).st_dev == disk for other in others) and _sync_seconds(folder) <= LOW_SECONDS
        except OSError as error:
            log.info("sync_cost.not_measured", error=error.strerror)
            self._low = False

    def took(self, seconds: float) -> None:
        """Something was done on the event loop. After a stall nothing is for a minute."""
        if seconds >= STALL_SECONDS:
            self._distrusted_until = self._clock() + DISTRUST_SECONDS
            log.warning("sync_cost.stalled", seconds=round(seconds, 3))


def _sync_seconds(folder: Path) -> float:
    """The least that a file and its folder take: what disturbs the machine meanwhile is no cost of the disk."""
    holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor = os.open(_PROBE, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=holder)
        try:
            return min(_sync_once(descriptor, holder) for _ in range(TRIES))
        finally:
            os.close(descriptor)
            with suppress(FileNotFoundError):  # another worker measures, too
                os.unlink(_PROBE, dir_fd=holder)
    finally:
        os.close(holder)


def _sync_once(descriptor: int, folder: int) -> float:
    os.write(descriptor, bytes(4096))
    began = time.perf_counter()
    os.fsync(descriptor)
    os.fsync(folder)
    return time.perf_counter() - began
