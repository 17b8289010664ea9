"""Two lanes, so that nobody waits for a paper of 20 GiB: small papers go by while a large one is sealed.

Versions of one name are numbered in the order in which they are recorded, and must not overtake each other:

- a small paper waits for a large one of the same name that was received before it (`must_wait`);
- a large paper begins only after the small lane has been through all that had landed with it (`small_is_through`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from gateway.store import Arrival

LARGE_BYTES = 64 * 1024 * 1024  # of a spool file: from some tenths of a second of sealing on


class Lanes:
    """Shared by the workers of both lanes; thread-safe. `peek` tells a paper's arrival, or None when it cannot be read (it will be refused)."""

    def __init__(self, listing: Callable[[], list[str]], landed: Path, peek: Callable[[str], Arrival | None], large_bytes: int = LARGE_BYTES) -> None:
        self._listing = listing
        self._landed = landed
        self._peek = peek
        self._large_bytes = large_bytes
        self._lock = threading.Lock()
        self._large: dict[str, Arrival | None] = {}
        self._released: list[str] = []
        self.gave_up: Callable[[str], bool] = lambda _paper: False  # whether the large lane has left a paper alone for now

    def small(self) -> list[str]:
        """The landed papers for the small lane, oldest first."""
        papers = self._listing()
        large = [paper for paper in papers if self._is_large(paper)]
        with self._lock:
            known = self._large
        arrivals = {paper: known[paper] if paper in known else self._peek(paper) for paper in large}
        with self._lock:
            self._large = arrivals
        return [paper for paper in papers if paper not in arrivals] if arrivals else papers

    def small_is_through(self) -> bool:
        """The small lane has tried everything that `small` gave it. Whether the large lane has something to do now."""
        with self._lock:
            self._released = list(self._large)
            return bool(self._released)

    def large(self) -> list[str]:
        """The landed papers for the large lane, oldest first."""
        with self._lock:
            released = list(self._released)
        return [paper for paper in released if (self._landed / paper).exists()]

    def must_wait(self, arrival: Arrival) -> bool:
        """Whether a large paper that is not done yet was received before, under the same name."""
        with self._lock:
            large = dict(self._large)
        return any(
            before is not None
            and paper != arrival.paper
            and (before.client, before.path) == (arrival.client, arrival.path)
            and before.received_at <= arrival.received_at
            and (self._landed / paper).exists()
            and not self.gave_up(paper)
            for paper, before in large.items()
        )

    def _is_large(self, paper: str) -> bool:
        try:
            return os.stat(self._landed / paper).st_size > self._large_bytes
        except FileNotFoundError:
            return False
