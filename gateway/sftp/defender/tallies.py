"""Counts that bound what strangers and people may have at once: in one process, or over all workers through memory that they share.

Each worker writes its own cells only, and everybody reads all of them: there is nothing to lock, and nothing that a killed worker leaves
locked. When a worker is gone its cells are cleared. Names fall into cells by a keyed hash that no stranger can aim at; two that share one
are counted together, which with as many cells as there are costs nobody anything.
"""

from __future__ import annotations

import mmap
import secrets
from collections import Counter
from hashlib import blake2b
from typing import Protocol

CELLS = 1 << 14
KINDS = ("connections", "unauthenticated", "logins", "sessions", "points", "older points")
STEPS = 4  # that a point has: cells hold whole numbers


class Tally(Protocol):
    """How many of one kind there are, by name."""

    def add(self, name: str) -> None:
        """One more."""
        ...

    def drop(self, name: str) -> None:
        """One fewer."""
        ...

    def of(self, name: str) -> int:
        """How many there are under that name."""
        ...

    @property
    def total(self) -> int:
        """How many there are."""
        ...


class OwnTally:
    """Of one process that is alone."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.total = 0

    def add(self, name: str) -> None:
        """See Tally."""
        self._counts[name] += 1
        self.total += 1

    def drop(self, name: str) -> None:
        """See Tally."""
        self.total -= 1
        self._counts[name] -= 1
        if self._counts[name] <= 0:
            del self._counts[name]

    def of(self, name: str) -> int:
        """See Tally."""
        return self._counts[name]


class Board:
    """Memory for the tallies of `workers` processes that are forked from this one."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._secret = secrets.token_bytes(16)
        self._cells = memoryview(mmap.mmap(-1, len(KINDS) * workers * (CELLS + 1) * 4)).cast("I")

    def tally(self, kind: str, worker: int) -> SharedTally:
        """The tally of one kind as `worker` keeps it."""
        rows = [self._row(kind, number) for number in range(self.workers)]
        return SharedTally(rows, worker, self._secret)

    def recent(self, worker: int) -> Recent:
        """The points of the last moments as `worker` keeps them."""
        return Recent(self.tally("points", worker), self.tally("older points", worker))

    def clear(self, worker: int) -> None:
        """Nothing is left of what a worker counted: it is dead."""
        for kind in KINDS:
            _clear(self._row(kind, worker))

    def _row(self, kind: str, worker: int) -> memoryview:
        start = (KINDS.index(kind) * self.workers + worker) * (CELLS + 1)
        return self._cells[start : start + CELLS + 1]


class SharedTally:
    """Of several processes. The last cell of a row is its sum."""

    def __init__(self, rows: list[memoryview], worker: int, secret: bytes) -> None:
        self._rows = rows
        self._own = rows[worker]
        self._secret = secret

    def add(self, name: str, count: int = 1) -> None:
        """See Tally."""
        cell = self._cell(name)
        self._own[cell] += count
        self._own[CELLS] += count

    def drop(self, name: str) -> None:
        """See Tally."""
        cell = self._cell(name)
        self._own[cell] -= 1
        self._own[CELLS] -= 1

    def of(self, name: str) -> int:
        """See Tally."""
        cell = self._cell(name)
        return sum(row[cell] for row in self._rows)

    @property
    def total(self) -> int:
        """See Tally."""
        return sum(row[CELLS] for row in self._rows)

    def clear(self) -> None:
        """Nothing is left of what this worker counted."""
        _clear(self._own)

    def _cell(self, name: str) -> int:
        return int.from_bytes(blake2b(name.encode("utf-8", "surrogateescape"), key=self._secret, digest_size=4).digest(), "big") % CELLS


class Recent:
    """What addresses did in the last moments, in points, over all workers: before any of them has written it, and until all have read what came of
    it. So each worker's points stay for one turn, half a second, after they were written.
    """

    def __init__(self, now: SharedTally, before: SharedTally) -> None:
        self._now, self._before = now, before

    def add(self, name: str, points: float) -> None:
        """So many more."""
        self._now.add(name, round(points * STEPS))

    def of(self, name: str) -> float:
        """How many there are under that name."""
        return (self._now.of(name) + self._before.of(name)) / STEPS

    def turn(self) -> None:
        """This worker's points have been written."""
        self._now, self._before = self._before, self._now
        self._now.clear()


def _clear(row: memoryview) -> None:
    row[:] = memoryview(bytes(len(row) * 4)).cast("I")
