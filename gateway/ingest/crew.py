"""The workers of an ingest process: one for small papers, one for large ones, and some for those whose checks are slow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from config.settings import IngestSettings
from gateway.ingest.checking import Changes
from gateway.ingest.lanes import LARGE_BYTES, Lanes
from gateway.ingest.parts import Parts
from gateway.ingest.pipeline import THREADS, Pipeline
from gateway.ingest.sealing import peek
from gateway.ingest.worker import Sources, Worker

SLOW = 2  # papers whose checks are slow, at once


class Crew:
    """The workers of a process: one for small papers, one for large ones, and SLOW for those whose checks are slow."""

    def __init__(self, stack: ExitStack, parts: Parts, changes: Changes, settings: IngestSettings) -> None:
        self._stack = stack
        self._changes = changes
        self._settings = settings
        self._lanes = lanes = Lanes(parts.spool.landed_papers, parts.landed, lambda paper: peek(parts, paper))
        quick = replace(parts, must_wait=lanes.must_wait, is_slow=lanes.is_slow, hand_over=lanes.set_slow)
        self.workers: list[Worker] = []
        self.bells: list[threading.Event] = []
        small = replace(quick, quick_bytes=LARGE_BYTES)  # lanes go by what lies in the spool, where gaps take no room
        self._add("small", small, THREADS, lanes.small, settings.batch, self._small_through, lambda: [one.id for one in parts.catalog.unreceipted()])
        self._add("large", quick, 1, lanes.large, 1, self._others_through)
        for _ in range(SLOW):
            self._add("slow", replace(quick, way="thorough"), 1, lanes.slow, 1, self._others_through)
        lanes.gave_up = lambda paper: any(worker.gave_up(paper) or worker.holds(paper) for worker in self.workers)
        lanes.slow_bells = self.bells[2:]
        changes.bells = self.bells

    def _add(
        self,
        lane: str,
        parts: Parts,
        threads: int,
        listing: Callable[[], list[str]],
        batch: int,
        through: Callable[[int], None],
        unreceipted: Callable[[], list[str]] = list,
    ) -> None:
        pipeline = self._stack.enter_context(Pipeline(parts, threads=threads, lane=lane))

        def landed() -> list[str]:
            pipeline.begin()
            return listing()

        sources = Sources(landed, unreceipted, through, self._changes.epoch)
        self.workers.append(Worker(pipeline, sources, batch=batch, sweep_seconds=self._settings.sweep_seconds))
        self.bells.append(threading.Event())

    def _small_through(self, _done: int) -> None:
        if self._lanes.small_is_through():
            self.bells[1].set()

    def _others_through(self, done: int) -> None:
        if done:  # papers of the same name may have waited
            self.bells[0].set()
