"""Three lanes, so that nobody waits for a paper of 20 GiB, or for one whose checks hang: small papers go by while a large one is sealed, and
those whose checks are slow are checked beside both.

Versions of one name are numbered in the order in which they are recorded, and must not overtake each other:

- a small paper waits for a large one of the same name that was received before it (`must_wait`);
- a large paper begins only after the small lane has been through all that had landed with it (`small_is_through`);
- a slow paper had its turn before it became slow; those of its name that were received later wait for it as for a large one.

While a client has a paper in the slow lane, its others go there as well: a thousand papers that hang cost the others one short wait, not a thousand.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from config.errors import OutOfReach
from gateway.store import Arrival

LARGE_BYTES = 64 * 1024 * 1024  # of a spool file: from some tenths of a second of sealing on


class Lanes:
    """Shared by the workers of both lanes; thread-safe. `peek` tells a paper's arrival, or None when it cannot be read (it will be refused); it may
    raise OutOfReach."""

    def __init__(self, listing: Callable[[], list[str]], landed: Path, peek: Callable[[str], Arrival | None], large_bytes: int = LARGE_BYTES) -> None:
        self._listing = listing
        self._landed = landed
        self._peek = peek
        self._large_bytes = large_bytes
        self._lock = threading.Lock()
        self._large: dict[str, Arrival | None] = {}
        self._released: list[str] = []
        self._slow: dict[str, Arrival | None] = {}
        self.slow_bells: list[threading.Event] = []
        self.gave_up: Callable[[str], bool] = lambda _paper: False  # whether a lane has left a paper alone for now, or a check holds it

    def small(self) -> list[str]:
        """The landed papers for the small lane, oldest first."""
        papers = self._listing()
        large = [paper for paper in papers if self._is_large(paper)]
        with self._lock:
            known = self._large
        arrivals = {paper: known.get(paper) or self._look(paper) for paper in large}
        with self._lock:
            self._large = arrivals
            if self._slow:
                landed = set(papers)
                self._slow = {paper: arrival for paper, arrival in self._slow.items() if paper in landed}
            apart = arrivals.keys() | self._slow.keys()
        return [paper for paper in papers if paper not in apart] if apart else papers

    def small_is_through(self) -> bool:
        """The small lane has tried everything that `small` gave it. Whether the large lane has something to do now."""
        with self._lock:
            self._released = list(self._large)
            return bool(self._released)

    def large(self) -> list[str]:
        """The landed papers for the large lane, oldest first."""
        with self._lock:
            released = [paper for paper in self._released if paper not in self._slow]
        return [paper for paper in released if (self._landed / paper).exists()]

    def set_slow(self, paper: str) -> None:
        """`paper` belongs into the slow lane from now on."""
        arrival = self._look(paper)
        with self._lock:
            self._slow[paper] = arrival
        for bell in self.slow_bells:
            bell.set()

    def is_slow(self, arrival: Arrival) -> bool:
        """Whether a paper belongs there from the start: others of its client are there, and are not just held."""
        with self._lock:
            slow = [paper for paper, before in self._slow.items() if before is not None and before.client == arrival.client]
        return any((self._landed / paper).exists() and not self.gave_up(paper) for paper in slow)

    def slow(self) -> list[str]:
        """The papers for the slow lane: one of each client in turn, each client's oldest first."""
        with self._lock:
            slow = dict(self._slow)
        turns: dict[str, int] = {}
        order = []
        for paper in sorted(slow):
            client = arrival.client if (arrival := slow[paper]) else ""
            turns[client] = turns.get(client, 0) + 1
            order.append((turns[client], paper))
        return [paper for _, paper in sorted(order) if (self._landed / paper).exists()]

    def must_wait(self, arrival: Arrival) -> bool:
        """Whether a large or slow paper that is not done yet was received before, under the same name."""
        with self._lock:
            apart = self._large | self._slow
        return any(
            before is not None
            and (before.client, before.path) == (arrival.client, arrival.path)
            and (before.received_at, paper) < (arrival.received_at, arrival.paper)
            and (self._landed / paper).exists()
            and not self.gave_up(paper)
            for paper, before in apart.items()
        )

    def _look(self, paper: str) -> Arrival | None:
        try:
            return self._peek(paper)
        except OutOfReach:  # a bad place on the disk, say: whoever seals it will say so, and nobody else is to wait for it
            return None

    def _is_large(self, paper: str) -> bool:
        try:
            return os.lstat(self._landed / paper).st_size > self._large_bytes
        except FileNotFoundError:
            return False
