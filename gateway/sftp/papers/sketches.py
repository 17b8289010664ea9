"""Sketches: small new papers whose name and spool file are made at CLOSE, in one go.

A name that is made at OPEN is made a second time at CLOSE, and most small papers are whole a millisecond later. So where syncing is cheap (see
`sync_cost`) a new paper under a new name stays in memory at first. It appears, as a partial like any other, before anybody can miss it: when
somebody of the client does anything but open, write and close papers, when it is opened again, when more comes than one block, in many pieces, or
not in order, when its handle is lost, and by itself after LINGER seconds. Its quota, its place in the folder and its path are taken at OPEN.

Nothing that was promised is lost by it: of a paper that is killed in its first block nothing was on the disk before either, but its name.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from config.errors import NightsafeError
from gateway.jail import Pointer, Tree
from gateway.sftp.papers.drafts import Draft, Sketch, remove_file
from gateway.store.arrival import Arrival
from gateway.store.spool import Spool, SpoolFile

log = structlog.get_logger()

LINGER = 0.2  # seconds
MOST_OF_CLIENT = 64  # sketches: 4 MiB
MOST_OF_ALL = 512


class SketchCount:
    """How many there are of all clients of the process."""

    def __init__(self) -> None:
        self.taken = 0


class Sketches:
    """One client's. Used on the event loop only."""

    def __init__(self, client: str, spool: Spool, tree: Tree, of_all: SketchCount) -> None:
        self._client = client
        self._of_all = of_all
        self._spool = spool
        self._tree = tree
        self._drafts: set[Draft] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def has_room(self) -> bool:
        """Whether one more may stay in memory."""
        return len(self._drafts) < MOST_OF_CLIENT and self._of_all.taken < MOST_OF_ALL

    def begin(self) -> Sketch:
        """For a new draft, which is to be given to `keep`."""
        return Sketch(self.appear_now, time.monotonic())

    def keep(self, draft: Draft) -> None:
        """Look after it until it has appeared."""
        self._drafts.add(draft)
        self._of_all.taken += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER, self._look)

    def forget(self, draft: Draft) -> None:
        """It is in the spool, or given up."""
        self._drafts.remove(draft)
        self._of_all.taken -= 1

    def appear(self) -> None:
        """Let all have their names. What cannot be made is not there for anybody else; whoever writes it is told at the next write, or at CLOSE."""
        for draft in list(self._drafts):
            self._try(draft)

    def appear_now(self, draft: Draft) -> None:
        """Make its spool file and its name, as a partial. Raises StoreError, Refused; nothing has changed then."""
        sketch = draft.sketch
        if sketch is None:
            return
        file = self._spool.create(draft.paper, self._client)
        try:
            if sketch.size:
                file.write(0, sketch.content)
            self._tree.put(draft.path, Pointer(draft.paper, 0, "partial"), mtime=None, durable=False)
        except BaseException:
            remove_file(file)
            raise
        self._is_in(draft, file)

    def finish(self, draft: Draft, arrival: Arrival) -> None:
        """Make its spool file, whole, and its name, both durable. Raises StoreError, Refused; nothing has changed then."""
        sketch = draft.sketch
        if sketch is None:
            return
        file = self._spool.deposit(draft.paper, self._client, sketch.content, arrival)
        try:
            self._tree.put(draft.path, Pointer(draft.paper, sketch.size, "whole"), mtime=draft.modified_at, durable=True)
        except BaseException:
            remove_file(file)
            raise
        self._is_in(draft, file)

    def _is_in(self, draft: Draft, file: SpoolFile) -> None:
        draft.is_in(file)
        self.forget(draft)

    def _try(self, draft: Draft) -> None:
        try:
            self.appear_now(draft)
        except NightsafeError as error:
            log.warning("partial.not_made", paper=draft.paper, error=error.message)

    def _look(self) -> None:
        """Those that have waited for long enough appear."""
        self._timer = None
        oldest = time.monotonic() - LINGER
        for draft in list(self._drafts):
            if draft.sketch is not None and draft.sketch.began <= oldest:
                self._try(draft)
        if self._drafts:
            self._timer = asyncio.get_running_loop().call_later(LINGER, self._look)
