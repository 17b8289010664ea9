"""Clients: what one process keeps of each client that is at home in it: papers, room, limits, and the broken uploads that expire."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable

import structlog

from config.errors import NightsafeError
from config.lasting import LastingFault
from config.settings import GatewaySettings
from gateway.catalog import Client
from gateway.catalog.database import Changes
from gateway.catalog.limits import Limits
from gateway.jail import Tree
from gateway.sftp.limits.rooms import Rooms
from gateway.sftp.papers.book import Parts
from gateway.sftp.papers.papers import Papers
from gateway.sftp.papers.publish import land_all, land_left_behind, left_behind_by_client, recover, stale_by_client
from gateway.sftp.papers.stores import Stores

log = structlog.get_logger()

SHARE = 8  # one client may hold this part of the process's descriptors
MOST_IDLE = 64  # clients without sessions whose folders stay open; each has two descriptors, and more where it has limits
EXPIRY_SECONDS = 3600.0
POLL_SECONDS = 0.25  # between looks whether the catalog was changed
COUNT_SECONDS = 2.0  # between counts of what clients have whose papers are open


class Clients:
    """Used on the event loop. `is_home` tells whether a client, by name, is at home here."""

    def __init__(self, settings: Callable[[], GatewaySettings], stores: Stores, parts: Parts, is_home: Callable[[str], bool]) -> None:
        self._settings = settings
        self._stores = stores
        self._parts = parts
        self.is_home = is_home
        self._papers: dict[str, Papers] = {}  # the longest unused first
        self._tidy_at = 2 * MOST_IDLE
        self._rooms = Rooms(stores.folder)
        self._changes: Changes | None = None  # made by the first look
        self._limits: dict[str, Limits] = {}  # as they were read last
        self._read_at = float("-inf")  # and when, by time.monotonic
        self._stale = True  # something was committed that was not looked at yet

    def recover(self) -> int:
        """Blocking, before anybody is let in: learn what a sync costs here, and land what an earlier process had finished; how many papers."""
        self._parts.sync_cost.measure(self._stores.folder.spool_partial, self._stores.folder.jails)
        return recover(self._stores.spool, self._open_tree, self._stores.recorder.landed_at_start, self.is_home)

    def papers_of(self, client: Client, known_at: float) -> Papers:
        """The client's papers, with the limits that it has now. Raises Refused when its folders are away.

        `client` is what the catalog said at `known_at`: at a login perhaps, long before its session.
        """
        papers = self._of(client.name)
        papers.take_limits(client.limits if known_at > self._read_at else self._limits.get(client.name, client.limits))
        papers.book.deposit_only = client.custody == "deposit-only"
        return papers

    def _of(self, client: str) -> Papers:
        """The one Papers of a client that there is here: two would not know of each other what they do."""
        papers = self._papers.pop(client, None)
        if papers is None:
            tree = self._open_tree(client)
            papers = Papers(client, tree, self._parts, self._handles_of_one(), self._rooms.of(client, tree))
            self._tidy()
        self._papers[client] = papers
        return papers

    async def land_all(self) -> None:
        """Land every finished paper now: the process is about to end."""
        await land_all(self._papers.values())

    def close(self) -> None:
        """Give back what is shared with other processes, and the trees."""
        if self._changes is not None:
            self._changes.close()
        for papers in self._papers.values():
            papers.close()

    def _tidy(self) -> None:
        """Close the papers of clients that nobody uses any more, but for the latest. Looked for when there are twice as many as the last time."""
        if len(self._papers) < self._tidy_at:
            return
        idle = [name for name, papers in self._papers.items() if papers.is_idle]
        for name in idle[: max(0, len(idle) - MOST_IDLE)]:
            self._papers.pop(name).close()
        self._tidy_at = 2 * max(MOST_IDLE, len(self._papers))

    def _handles_of_one(self) -> int:
        """Handles that all sessions of one client may hold together."""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return max(self._settings().max_handles, descriptors // SHARE)

    def _open_tree(self, client: str) -> Tree:
        return Tree(self._stores.folder.jail(client))

    # limits

    async def keep_limits(self) -> None:
        """Until cancelled: what an operator changes holds within a second, for sessions that are open, too."""
        fault = LastingFault("limits.not_read")
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if not self._papers:
                continue
            try:
                if found := await self._parts.pool.run(self._changed_limits):
                    self._limits, self._read_at = found, time.monotonic()
                for client, limits in found.items():
                    if client in self._papers:
                        self._papers[client].take_limits(limits)
                fault.over()
            except Exception as error:  # noqa: BLE001 - the limits of before hold on
                fault.met(error)

    def _changed_limits(self) -> dict[str, Limits]:
        """Blocking: those of all clients, when anybody committed anything to the catalog since the last look."""
        self._changes = self._changes or self._stores.catalog.changes()
        self._stale = self._changes.happened() or self._stale
        found = self._stores.catalog.limits() if self._stale else {}
        self._stale = False  # only now: a failure above must not hide the change
        return found

    async def keep_counts(self) -> None:
        """Until cancelled: now and then what clients with open papers have is counted anew."""
        faults: dict[str, LastingFault] = {}
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            busy = [(client, papers) for client, papers in self._papers.items() if papers.handles.taken or papers.book.drafts]
            for client, papers in busy:
                papers.book.sketches.appear()  # their names are to be counted, too
                try:
                    await self._parts.reading.run(papers.quota.count_again)
                except Exception as error:  # noqa: BLE001 - the count of before holds on
                    faults.setdefault(client, LastingFault("quota.not_counted")).met(error, client=client)
                else:
                    if client in faults:
                        faults.pop(client).over()

    # broken uploads

    async def keep_expiring(self) -> None:
        """Until cancelled: land what could not land when it should have, remove the broken uploads that nobody took up again."""
        while True:
            try:
                await self.land_left_behind()
                await self.expire()
            except NightsafeError as error:
                log.warning("expiry.failed", error=error.message)
            except Exception as error:
                log.exception("expiry.crashed", exc_info=error)
            await asyncio.sleep(EXPIRY_SECONDS)

    async def land_left_behind(self) -> None:
        """Finished papers that an earlier process left, and that could not land at our start."""
        found = await self._parts.pool.run(lambda: left_behind_by_client(self._stores.spool))
        for client, papers in found.items():
            if not self.is_home(client):
                continue
            try:
                await self._land_of(client, papers)
            except NightsafeError as error:  # as below
                log.warning("papers.not_landed", client=client, error=error.message)

    async def _land_of(self, client: str, papers: set[str]) -> None:
        known, stores = self._of(client), self._stores
        known.users.add(self)
        try:
            async with known.book.turns.all():
                left = papers - {draft.paper for draft in known.book.drafts.values()}
                told = stores.recorder.landed_at_start
                await self._parts.pool.run(lambda: land_left_behind(stores.spool, known.tree, client, left, told))
        finally:
            known.users.discard(self)

    async def expire(self) -> None:
        """Remove them once."""
        stale = await self._parts.pool.run(lambda: stale_by_client(self._stores.spool, self._settings().partial_days))
        for client, papers in stale.items():
            if not self.is_home(client):
                continue
            try:
                await self._expire_of(client, papers)
            except NightsafeError as error:  # a client whose folders are gone, say: the others' turn comes all the same
                log.warning("partials.not_expired", client=client, error=error.message)

    async def _expire_of(self, client: str, papers: set[str]) -> None:
        known = self._of(client)
        known.users.add(self)
        try:
            count = await known.names.expire(papers)
            log.info("partials.expired", client=client, count=count)
        finally:
            known.users.discard(self)
