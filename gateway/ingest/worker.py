"""The loop around the pipeline: what is tried when. The folder of landed papers is the only queue; what is kept here is who has to wait.

- A paper that fails on its own is tried again after growing waits; after ATTEMPTS it is left alone until the next sweep. The others go on.
- When a store cannot be used (disk full, catalog locked, audit log not writable) everything pauses, with growing waits.
- A batch that fails as a whole comes back smaller, down to one paper: so the one that spoils the batch is found, and counted as failing on its own.
- A paper that a check holds is looked at again when something has changed (`Sources.epoch`), and every HELD_SECONDS.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from config.errors import Busy, NightsafeError, OutOfReach
from gateway.ingest.backoff import Backoff
from gateway.ingest.outcome import Outcome, Stopping
from gateway.jail.refused import Refused
from gateway.store.errors import VaultTooNarrow

ATTEMPTS = 3
HELD_SECONDS = 600.0
TOLD_AGAIN_SECONDS = 6 * 3600.0  # of a paper that waits alone for room
SHRINK = 8  # a failed batch comes back as an eighth
OUT_OF_MEANS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def is_shortage(error: BaseException) -> bool:
    """Whether `error` says that a store cannot be used now, rather than that something is wrong with one paper."""
    if isinstance(error, OSError):
        return error.errno in OUT_OF_MEANS
    if isinstance(error, VaultTooNarrow):  # whoever sends a thousand gaps of a terabyte must not have all others wait for room
        return False
    if isinstance(error, Refused):
        return error.code == "no_space"
    return isinstance(error, (OutOfReach, Busy, MemoryError))


class Handler(Protocol):
    """What a worker feeds: a Pipeline."""

    def handle(self, papers: Sequence[str]) -> Outcome:
        """Take a batch through all steps."""


@dataclass(frozen=True)
class Sources:
    """Where papers to be done come from: `landed` is asked on every pass, oldest first; `unreceipted` on sweeps."""

    landed: Callable[[], list[str]]
    unreceipted: Callable[[], list[str]] = list
    through: Callable[[int], None] = lambda _done: None  # told when all that `landed` gave has been tried, and how many were done
    epoch: Callable[[], int] = lambda: 0  # grows when papers that are held may go on


class Worker:
    """Feeds one pipeline. One thread calls `run` (or, in tests, `work`). Times are seconds of `clock`, which only goes forward."""

    def __init__(self, pipeline: Handler, sources: Sources, *, batch: int, sweep_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._pipeline = pipeline
        self._sources = sources
        self._most = batch
        self._batch = batch
        self._sweep_seconds = sweep_seconds
        self._clock = clock
        self._next_sweep = clock()
        self._pause = Backoff()
        self._paused_until = 0.0
        self._waiting: dict[str, tuple[Backoff, float]] = {}  # paper → its failures, and not before when
        self._held: dict[str, float] = {}  # paper → not before when
        self._narrow: dict[str, float] = {}  # paper for which the vault alone has no room → when that was told
        self._epoch = 0
        self._log = structlog.get_logger()

    def run(self, stop: threading.Event, bell: threading.Event) -> None:
        """Work whenever `bell` rings and whenever it is time, until `stop` is set (and `bell` rung)."""
        while not stop.is_set():
            bell.clear()
            bell.wait(self.work(stop.is_set))

    def work(self, stopping: Callable[[], bool] = lambda: False) -> float:
        """One pass over what is there. The seconds after which the next one is due, even if nothing lands."""
        if self._clock() < self._paused_until:
            return self._wait()
        try:
            if self._clock() >= self._next_sweep:
                self._sweep(stopping)
            done = self._pass(self._sources.landed(), stopping)
            if self._clock() >= self._paused_until:
                self._sources.through(done)
        except Exception as error:  # noqa: BLE001 - the loop outlives what it meets; a store that fails makes it pause
            self._hold_back(error, "ingest.pass_failed")
        return self._wait()

    def gave_up(self, paper: str) -> bool:
        """Whether `paper` is left alone until the next sweep."""
        return self._waiting.get(paper, (Backoff(), 0.0))[0].failures >= ATTEMPTS

    def holds(self, paper: str) -> bool:
        """Whether a check holds `paper`."""
        return paper in self._held

    # a pass

    def _sweep(self, stopping: Callable[[], bool]) -> None:
        """Give everything that was left alone another chance, and finish the receipts whose papers have left the spool."""
        self._next_sweep = self._clock() + self._sweep_seconds
        self._waiting.clear()
        self._narrow = {paper: told for paper, told in self._narrow.items() if self._clock() - told < 2 * TOLD_AGAIN_SECONDS}  # others are gone
        self._pass(self._sources.unreceipted(), stopping)

    def _pass(self, papers: Iterable[str], stopping: Callable[[], bool]) -> int:
        """How many of `papers` were done."""
        now = self._clock()
        if (epoch := self._sources.epoch()) != self._epoch:
            self._epoch = epoch
            self._held = dict.fromkeys(self._held, now)
        due = [paper for paper in papers if self._waiting.get(paper, (None, now))[1] <= now and self._held.get(paper, now) <= now]
        start = done = 0
        while start < len(due) and not stopping() and self._clock() >= self._paused_until:
            batch = due[start : start + self._batch]
            start += len(batch)
            done += self._handle(batch)
        return done

    def _handle(self, batch: list[str]) -> int:
        try:
            outcome = self._pipeline.handle(batch)
        except Exception as error:  # noqa: BLE001 - see work
            if len(batch) == 1:
                self._count(batch[0], error)
            self._batch = max(1, len(batch) // SHRINK)
            self._hold_back(error, "ingest.batch_failed")
            return 0
        self._settle(outcome)
        return len(outcome.done) + len(outcome.held)

    def _settle(self, outcome: Outcome) -> None:
        for paper in outcome.done:
            self._waiting.pop(paper, None)
            self._held.pop(paper, None)
            self._narrow.pop(paper, None)
        for paper in outcome.held:
            self._waiting.pop(paper, None)
            self._held[paper] = self._clock() + HELD_SECONDS
        shortage = None
        for paper, error in outcome.failed.items():
            if isinstance(error, Stopping):
                continue
            if isinstance(error, VaultTooNarrow):
                self._leave_alone(paper, error)
                continue
            self._count(paper, error)
            if is_shortage(error):
                shortage = error
        if shortage is not None:
            self._hold_back(shortage, "ingest.short")
            return
        self._pause = Backoff()
        self._batch = min(self._most, self._batch * 2)

    # waiting

    def _count(self, paper: str, error: Exception) -> None:
        backoff = self._waiting.get(paper, (Backoff(), 0.0))[0].next(failed=True)
        aside = backoff.failures >= ATTEMPTS
        self._waiting[paper] = (backoff, self._next_sweep if aside else self._clock() + backoff.seconds)
        event = "ingest.paper_set_aside" if aside else "ingest.paper_failed"
        self._log.error(
            event, paper=paper, attempt=backoff.failures, error=_said(error), exc_info=None if isinstance(error, NightsafeError) else error
        )

    def _leave_alone(self, paper: str, error: VaultTooNarrow) -> None:
        """Until each sweep, as long as there is no room for it. Told once and then rarely: a client may send thousands of gaps."""
        now = self._clock()
        self._waiting[paper] = (Backoff(failures=ATTEMPTS), self._next_sweep)
        if now - self._narrow.get(paper, float("-inf")) >= TOLD_AGAIN_SECONDS:
            self._narrow[paper] = now
            self._log.error("ingest.paper_set_aside", paper=paper, attempt=1, error=error.message)

    def _hold_back(self, error: Exception, event: str) -> None:
        self._pause = self._pause.next(failed=True)
        self._paused_until = self._clock() + self._pause.seconds
        self._log.error(
            event, wait_seconds=self._pause.seconds, error=_said(error), exc_info=None if isinstance(error, (NightsafeError, OSError)) else error
        )

    def _wait(self) -> float:
        """Until the pause ends, or else until the sweep or the first waiting paper."""
        now = self._clock()
        if now < self._paused_until:
            return self._paused_until - now
        return max(0.0, min([self._next_sweep, *(until for _, until in self._waiting.values())]) - now)


def _said(error: Exception) -> str:
    return error.message if isinstance(error, NightsafeError) else f"{type(error).__name__}: {error}"
