"""The book of one client: its names, the papers being written behind them, and whose turn it is. What is done with them: `opening`, `writing`,
`closing`, `reading`, `naming`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType

from gateway.jail import Pointer, Tree, VirtualPath
from gateway.sftp.limits.crowding import Crowding
from gateway.sftp.limits.quota import Quota
from gateway.sftp.limits.space import SpaceGuard
from gateway.sftp.papers.alarms import Alarm
from gateway.sftp.papers.drafts import Draft, Stage
from gateway.sftp.papers.sketches import SketchCount, Sketches
from gateway.sftp.papers.sources import Archive
from gateway.sftp.papers.sync_cost import SyncCost
from gateway.sftp.papers.turns import Turns
from gateway.sftp.session.pool import FairPool, Pool
from gateway.sftp.session.recording import Recorder
from gateway.store.spool import Spool

MOST_NAMES = 100_000
MOST_DRAFTS = 256  # of one client before finished ones stop waiting for a change of name: each holds a descriptor

After = Callable[[float, Draft, "Book"], Alarm]  # land the draft in so many seconds


@dataclass(frozen=True)
class Parts:
    """What all clients share. `settle` tells for a path how many seconds a finished draft waits before it lands."""

    spool: Spool
    archive: Archive
    space: SpaceGuard
    pool: Pool
    reading: Pool  # for what waits for a key: a keyd that hangs must not take the threads that uploads need
    copying: FairPool  # for what takes as long as a paper is large, one at a time of each client: nobody's downloads and logins wait for it
    recorder: Recorder
    settle: Callable[[VirtualPath], float]
    after: After
    most_names: Callable[[], int] = lambda: MOST_NAMES  # in one folder
    sync_cost: SyncCost = field(default_factory=SyncCost)  # until it is measured: high
    sketches: SketchCount = field(default_factory=SketchCount)
    ticks: Iterator[int] = field(default_factory=count)


class Book:
    """One client's. Changed on the event loop only."""

    def __init__(self, client: str, tree: Tree, parts: Parts, *, deposit_only: bool = False, quota: Quota | None = None) -> None:
        self.client = client
        self.tree = tree
        self.parts = parts
        self.deposit_only = deposit_only  # nothing on this machine opens the client's papers
        self.quota = quota or Quota()
        self.crowding = Crowding(tree.count, parts.most_names)
        self.turns = Turns()
        self.sketches = Sketches(client, parts.spool, tree, parts.sketches)
        self.drafts: dict[VirtualPath, Draft] = {}
        self._counting = asyncio.Lock()

    async def count_room(self) -> None:
        """Have it counted what the client has, where growth cannot be decided else. All its sessions want the same then: one thread at the most waits
        for it. Raises Refused."""
        async with self._counting:
            if not self.quota.ready:
                await self.parts.pool.run(self.quota.prepare)

    def tick(self) -> int:
        """The next tick; see `drafts`."""
        return next(self.parts.ticks)

    def add_name(self, path: VirtualPath) -> None:
        """A paper or a folder is about to have this new name. Raises Refused when there is no place for it; what is known of its folder decides."""
        self.crowding.check(path)
        self.quota.add_name()
        self.crowding.add(path)

    def remove_name(self, path: VirtualPath, pointer: Pointer | None = None) -> None:
        """The name is gone, and what its pointer showed."""
        self.quota.remove_name(pointer)
        self.crowding.add(path, -1)

    def enter(self, draft: Draft) -> Draft:
        """The draft is what is being written at its path."""
        self.drafts[draft.path] = draft
        return draft

    def leave(self, draft: Draft, stage: Stage) -> None:
        """It is not any more."""
        draft.stop_settling()
        draft.stage = stage
        if self.drafts.get(draft.path) is draft:
            del self.drafts[draft.path]

    @property
    def is_crowded(self) -> bool:
        """Whether there are so many drafts that none may linger."""
        return len(self.drafts) > MOST_DRAFTS

    def held(self, draft: Draft) -> _Held:
        """`async with`: hold the path that a draft has, wherever renames carry it meanwhile."""
        return _Held(self, draft)


class _Held:
    __slots__ = ("_book", "_draft", "_path")

    def __init__(self, book: Book, draft: Draft) -> None:
        self._book = book
        self._draft = draft
        self._path = ""

    async def __aenter__(self) -> None:
        while True:
            self._path = str(self._draft.path)
            await self._book.turns.take(self._path)
            if str(self._draft.path) == self._path:
                return
            self._book.turns.give(self._path)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._book.turns.give(self._path)
