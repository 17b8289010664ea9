"""When papers go on to ingest: the settle timers, what a start finds left behind, and broken uploads that nobody takes up again."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from config.errors import NightsafeError
from gateway.jail import Pointer, Tree, VirtualPath
from gateway.sftp.book import Book
from gateway.sftp.closing import Closing
from gateway.sftp.drafts import Draft, Stage
from gateway.sftp.papers import Papers
from gateway.store.spool import Spool

log = structlog.get_logger()

UNFINISHED_SUFFIXES = (".filepart", ".part", ".partial", ".tmp")  # WinSCP, curl and browsers, rclone, many
RETRY_SECONDS = 5.0  # after a landing that failed, on a full disk for instance


def settle_seconds(path: VirtualPath, settle: float, unfinished: float) -> float:
    """How long a finished paper waits for its client to reopen or rename it. Pure."""
    return max(settle, unfinished) if path.name.lower().endswith(UNFINISHED_SUFFIXES) else settle


class Tasks:
    """Background work of one event loop: kept from the garbage collector, its failures logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` besides."""
        task = asyncio.get_running_loop().create_task(self._logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drained(self, seconds: float) -> bool:
        """Wait until all is done, also what is spawned meanwhile; False when it takes longer."""
        until = asyncio.get_running_loop().time() + seconds
        while self._tasks:
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await asyncio.wait(set(self._tasks), timeout=left)
        return True

    async def _logged(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except NightsafeError as error:
            log.warning("background.failed", error=error.message)
        except Exception as error:
            log.exception("background.crashed", exc_info=error)


class Publisher:
    """Lets finished drafts land when their time has come."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def after(self, seconds: float, draft: Draft, book: Book) -> asyncio.TimerHandle:
        """Land `draft` in `seconds`, unless the timer is cancelled."""
        return asyncio.get_running_loop().call_later(seconds, lambda: self._tasks.spawn(self._land(draft, book)))

    async def _land(self, draft: Draft, book: Book) -> None:
        try:
            await Closing(book).land(draft)
        except NightsafeError as error:
            log.warning("paper.not_landed", paper=draft.paper, error=error.message)
            if draft.stage is Stage.FINISHED:
                draft.settling = self.after(RETRY_SECONDS, draft, book)


async def land_all(clients: Iterable[Papers]) -> None:
    """Land every finished draft now: the process is about to end."""
    for papers in clients:
        for draft in list(papers.book.drafts.values()):
            try:
                await papers.closing.land(draft)
            except NightsafeError as error:
                log.warning("paper.not_landed", paper=draft.paper, error=error.message)


def recover(spool: Spool, open_tree: Callable[[str], Tree]) -> int:
    """Blocking, at start: land what an earlier process finished, its names made whole first. How many landed."""
    by_client: dict[str, list[str]] = defaultdict(list)
    for paper in spool.finished_unlanded():
        try:
            by_client[spool.describe(paper)[1].client].append(paper)
        except NightsafeError as error:
            log.warning("partial.unreadable", paper=paper, error=error.message)
    landed = 0
    for client, papers in by_client.items():
        try:
            with open_tree(client) as tree:
                _make_names_whole(tree, {paper: spool.prefix_size(paper) for paper in papers})
        except NightsafeError as error:
            log.warning("names.not_mended", client=client, error=error.message)
        for paper in papers:
            try:
                spool.land(paper)
                landed += 1
            except NightsafeError as error:
                log.warning("paper.not_landed", paper=paper, error=error.message)
    return landed


def _make_names_whole(tree: Tree, sizes: dict[str, int]) -> None:
    for path, pointer, mtime in list(tree.pointers()):
        if pointer.paper in sizes and pointer.state == "partial":
            tree.put(path, Pointer(pointer.paper, sizes[pointer.paper], "whole"), mtime=mtime, durable=True)


def stale_by_client(spool: Spool, days: float, now: datetime | None = None) -> dict[str, set[str]]:
    """Blocking: broken uploads of more than `days` ago. Those that cannot even be read are removed at once: nothing was promised for them."""
    found: dict[str, set[str]] = defaultdict(set)
    for paper in spool.stale((now or datetime.now(UTC)) - timedelta(days=days)):
        try:
            found[spool.describe(paper)[1].client].add(paper)
        except NightsafeError:
            log.info("partial.unreadable_removed", paper=paper)
            spool.remove_partial(paper)
    return found
