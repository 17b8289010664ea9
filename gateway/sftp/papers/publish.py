"""When papers go on to ingest: the settle timers, what a start finds left behind, and broken uploads that nobody takes up again."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog

from config.errors import NightsafeError
from gateway.jail import Pointer, Tree, VirtualPath
from gateway.jail.permissions import is_unfinished_name
from gateway.sftp.papers.alarms import Alarm, Alarms
from gateway.sftp.papers.book import Book
from gateway.sftp.papers.closing import Closing
from gateway.sftp.papers.drafts import Draft, Stage
from gateway.sftp.papers.papers import Papers
from gateway.store.errors import SpoolGone
from gateway.store.spool import Spool

log = structlog.get_logger()

RETRY_SECONDS = 5.0  # after a landing that failed, on a full disk for instance


def settle_seconds(path: VirtualPath, settle: float, unfinished: float) -> float:
    """How long a finished paper waits for its client to reopen or rename it. Pure."""
    return max(settle, unfinished) if is_unfinished_name(path) else settle


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
        self._alarms = Alarms()

    def after(self, seconds: float, draft: Draft, book: Book) -> Alarm:
        """Land `draft` in `seconds`, unless the alarm is cancelled."""
        return self._alarms.set(seconds, partial(self._land, draft, book))

    def _land(self, draft: Draft, book: Book) -> None:
        try:
            if not Closing(book).land_at_once(draft):
                self._tasks.spawn(self._land_later(draft, book))
        except NightsafeError as error:
            self._try_again(draft, book, error)

    async def _land_later(self, draft: Draft, book: Book) -> None:
        try:
            await Closing(book).land(draft)
        except NightsafeError as error:
            self._try_again(draft, book, error)

    def _try_again(self, draft: Draft, book: Book, error: NightsafeError) -> None:
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


def recover(
    spool: Spool,
    open_tree: Callable[[str], Tree],
    told: Callable[[str, str], None] = lambda _client, _paper: None,
    mine: Callable[[str], bool] = lambda _client: True,
) -> int:
    """Blocking, at start, before anybody is let in: land what an earlier process finished, and mend the names of what it left.

    A name whose paper is finished becomes whole; one whose upload broke off shows how much of it is there. `told` hears (client, paper) of
    each that landed. Only clients that are `mine`: another worker may be at work for the others. How many landed.
    """
    finished, broken = _by_client(spool, spool.finished_unlanded()), _by_client(spool, spool.stale(datetime.now(UTC) + timedelta(days=1)))
    landed = 0
    for client in filter(mine, finished.keys() | broken.keys()):
        try:
            with open_tree(client) as tree:
                _mend_names(tree, spool, finished[client], broken[client])
        except NightsafeError as error:
            log.warning("names.not_mended", client=client, error=error.message)
        landed += _land(spool, client, finished[client], told)
    return landed


def left_behind_by_client(spool: Spool) -> dict[str, set[str]]:
    """Blocking: finished papers that nobody has in hand. At the start each should have landed, but then the disk may have been full, say."""
    return _by_client(spool, spool.finished_unlanded())


def land_left_behind(spool: Spool, tree: Tree, client: str, papers: set[str], told: Callable[[str, str], None]) -> int:
    """Blocking, while nobody else works with the client's papers: the same as `recover` for those that are left still; how many landed."""
    papers = papers.intersection(spool.finished_unlanded())
    try:
        _mend_names(tree, spool, papers, set())
    except NightsafeError as error:
        log.warning("names.not_mended", client=client, error=error.message)
    return _land(spool, client, papers, told)


def _land(spool: Spool, client: str, papers: set[str], told: Callable[[str, str], None]) -> int:
    landed = 0
    for paper in sorted(papers):
        try:
            spool.land(paper)
        except NightsafeError as error:
            log.warning("paper.not_landed", paper=paper, error=error.message)
        else:
            told(client, paper)
            landed += 1
    return landed


def _by_client(spool: Spool, papers: Iterable[str]) -> dict[str, set[str]]:
    """Papers by the client that their header names; those that cannot be read are left alone, to expire."""
    found: dict[str, set[str]] = defaultdict(set)
    for paper in papers:
        try:
            found[spool.describe(paper)[1].client].add(paper)
        except SpoolGone:
            continue  # another worker removed it meanwhile, or there is nothing of it but its name
        except NightsafeError as error:
            log.info("partial.unreadable", paper=paper, error=error.message)
    return found


def _mend_names(tree: Tree, spool: Spool, finished: set[str], broken: set[str]) -> None:
    for path, pointer, mtime in list(tree.pointers()):
        if pointer.state != "partial" or pointer.paper not in finished | broken:
            continue
        size, whole = spool.prefix_size(pointer.paper), pointer.paper in finished
        if whole or size != pointer.size:
            tree.put(path, Pointer(pointer.paper, size, "whole" if whole else "partial"), mtime=mtime, durable=whole)


def stale_by_client(spool: Spool, days: float, now: datetime | None = None) -> dict[str, set[str]]:
    """Blocking: broken uploads of more than `days` ago. Those that cannot even be read are removed at once: nothing was promised for them."""
    limit = (now or datetime.now(UTC)) - timedelta(days=days)
    stale = spool.stale(limit)
    found = _by_client(spool, stale)
    unknown = set(stale).difference(*found.values())
    for paper in unknown.intersection(spool.stale(limit) if unknown else ()):  # but those that another worker removed meanwhile
        log.info("partial.unreadable_removed", paper=paper)
        spool.remove_partial(paper)
    return found
