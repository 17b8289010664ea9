"""Buffers: memory for blocks, shared by all open files of a spool, so that they are reused and their number is bounded."""

from __future__ import annotations

import threading

from gateway.store.format import STRIDE

IDLE_LIMIT = 64  # kept for reuse: 4 MiB
TAKEN_LIMIT = 1024  # soft: beyond 64 MiB in use, files keep no unfinished block in memory


class Buffers:
    """Thread-safe. A buffer that is taken holds whatever it held before."""

    def __init__(self, limit: int = TAKEN_LIMIT) -> None:
        self._limit = limit
        self._idle: list[memoryview] = []
        self._taken = 0
        self._lock = threading.Lock()

    def take(self) -> memoryview:
        """A buffer of STRIDE bytes: room for a sealed slot, or for a block."""
        with self._lock:
            self._taken += 1
            if self._idle:
                return self._idle.pop()
        return memoryview(bytearray(STRIDE))

    def give(self, buffer: memoryview) -> None:
        """Give a buffer back; the caller forgets it."""
        with self._lock:
            self._taken -= 1
            if len(self._idle) < IDLE_LIMIT:
                self._idle.append(buffer)

    @property
    def scarce(self) -> bool:
        """Whether more is in use than should be."""
        return self._taken > self._limit
