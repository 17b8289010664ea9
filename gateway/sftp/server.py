"""The SFTP server as a whole: its parts put together, its start, other settings while it runs, and an orderly stop.

| part | what it decides |
| --- | --- |
| `listening` | the sockets, and what SSH offers |
| `doorkeeper`, `defender` | which connections may be there |
| `logins`, `authentication` | who somebody is, and for how long |
| `sessions`, `clients` | what a session works on |
"""

from __future__ import annotations

import asyncio
import os
from functools import partial

import asyncssh
import structlog
from asyncssh.connection import SSHServerConnectionOptions

from config.settings import GatewaySettings
from gateway.jail import VirtualPath
from gateway.sftp.authentication.accounts import look_up
from gateway.sftp.authentication.login import Login
from gateway.sftp.authentication.logins import Logins
from gateway.sftp.authentication.revocation import Revocation
from gateway.sftp.defender.bans import BanStore, rules_of
from gateway.sftp.defender.defender import Defender
from gateway.sftp.defender.doorkeeper import Doorkeeper
from gateway.sftp.defender.tallies import OwnTally, Tally
from gateway.sftp.limits.space import SpaceGuard, SpaceWatch
from gateway.sftp.papers.book import Parts
from gateway.sftp.papers.clients import Clients
from gateway.sftp.papers.publish import Publisher, Tasks, settle_seconds
from gateway.sftp.papers.sources import Archive
from gateway.sftp.papers.stores import Stores
from gateway.sftp.session.pool import FairPool, Pool
from gateway.sftp.session.sessions import Sessions
from gateway.sftp.session.shares import Shares
from gateway.sftp.transport import fastpath
from gateway.sftp.transport.connection import GuardedConnection
from gateway.sftp.transport.draining import let_transfers_end
from gateway.sftp.transport.fastpath import FastConnection
from gateway.sftp.transport.listening import Listeners, ssh_options
from gateway.sftp.workers.control import Control
from gateway.sftp.workers.crew import Crew
from gateway.sftp.workers.guests import Guest

log = structlog.get_logger()

THREADS = 16  # for fsync and the like: they wait in the kernel
READING_THREADS = 8  # for what waits for a key
COPYING_THREADS = 4  # for uploads that go on, and papers that start from a copy
STOP_SECONDS = 20.0  # for requests that are being handled when the server stops
STOPPING = "the server is stopping; uploads can be resumed"


class Gateway:
    """One process's SFTP server. Lives on one event loop."""

    def __init__(self, settings: GatewaySettings, stores: Stores, crew: Crew | None = None) -> None:
        """`crew`: this is one worker of several; else it is alone."""
        self._settings = settings
        self._crew = crew
        self._stores = stores
        self._pool = Pool(THREADS)
        self._reading = Pool(READING_THREADS, "sftp-reading")
        self._copying = FairPool(COPYING_THREADS, "sftp-copying")
        self._tasks = Tasks()
        self._space = SpaceGuard(stores.folder.spool_partial, settings.reserve_bytes)
        parts = Parts(
            spool=stores.spool,
            archive=Archive(stores.spool, stores.vault, stores.keys),
            space=self._space,
            pool=self._pool,
            reading=self._reading,
            copying=self._copying,
            recorder=stores.recorder,
            settle=self._settle_seconds,
            after=Publisher(self._tasks).after,
            most_names=lambda: self._settings.max_names_in_folder,
        )
        self._clients = Clients(self._now, stores, parts, self._is_home_of)
        find = partial(look_up, stores.catalog, run=self._pool.run)
        shares = Shares()
        self._strangers = shares.strangers
        self._sessions = Sessions(self._now, stores, parts, self._clients, self._tasks, find, self._tally, crew, shares)
        banning = (BanStore(stores.folder.defender), rules_of(settings), settings.trusted_networks, stores.recorder.banned)
        self._defender = Defender(*banning, recent=crew.board.recent(crew.me) if crew else None)
        self._doorkeeper = Doorkeeper(self._now, self._defender, self._tally, crew.count if crew else 1)
        means = (self._pool, self._reading, self._defender, self._doorkeeper, self._tally)
        self._logins = Logins(self._now, stores, *means, self._sessions.new, shares)
        self._revocation = Revocation(stores.catalog, self._pool.run, lambda: self._logins.live, self._logins.revoke)
        self._control = Control(stores.folder.gateway_socket(os.getpid()), self._logins.told, self._logins.kill)
        self._listeners = Listeners()
        self._keepers: list[asyncio.Task[None]] = []
        self._options: SSHServerConnectionOptions

    async def start(self, host: str, port: int) -> int:
        """Listen; the port. What an earlier process left behind is landed first. Raises OutOfReach, SettingsError."""
        landed = await self._pool.run(self._clients.recover)
        if landed:
            log.info("gateway.recovered", landed=landed)
        self._options = await self._read_options()
        loop = asyncio.get_running_loop()
        road = FastConnection if self._settings.fast_path and fastpath.is_possible() else GuardedConnection

        def connection() -> GuardedConnection:
            return road(loop, self._options, self._doorkeeper, self._strangers)

        if self._crew is not None:
            await self._listeners.join(self._crew, connection, lambda: Guest(self._sessions))
        else:
            port = await self._listeners.open(host, port, connection)
        keeping = (
            self._clients.keep_expiring(),
            self._clients.keep_limits(),
            self._clients.keep_counts(),
            self._revocation.keep(),
            self._defender.keep(),
        )
        self._keepers = [loop.create_task(work) for work in keeping]
        if self._crew is None or self._crew.me == 0:  # one of several workers tells for all
            self._keepers.append(loop.create_task(SpaceWatch(self._space, self._stores.recorder.space).keep()))
        await self._control.start()
        return port

    async def reload(self, settings: GatewaySettings) -> None:
        """Take other settings and read the host key anew; sessions that are open go on. Raises SettingsError: then all is as before.

        The address and the port stay what they are, as do limits that a connection has met already.
        """
        before, self._settings = self._settings, settings
        try:
            self._options = await self._read_options()
        except BaseException:
            self._settings = before
            raise
        self._space.reserve_bytes = settings.reserve_bytes
        self._revocation.look_again()  # other factors may be required of a role
        self._defender.obey(rules_of(settings), settings.trusted_networks)
        if (before.host, before.port, before.workers) != (settings.host, settings.port, settings.workers):
            log.warning("gateway.needs_restart", reason="another address, port or number of workers was set")

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Take nobody in, give running transfers `stop_seconds` (less when `hurry` is set), keep partials for resuming, land what is whole."""
        self._listeners.close()
        self._control.close()
        for task in self._keepers:
            task.cancel()
        if not await let_transfers_end(self._everybody, _send_away, self._settings.stop_seconds, hurry or asyncio.Event()):
            log.info("gateway.transfers_cut")
        for one in self._everybody():
            for session in list(one.sessions):
                session.stop()
        for guest in list(self._sessions.guests):
            guest.abort()
        for connection in list(self._doorkeeper.connections):
            connection.disconnect(asyncssh.DISC_BY_APPLICATION, STOPPING)
        await self._all_gone()
        if not await self._tasks.drained(STOP_SECONDS):
            log.warning("gateway.stopped_hard")
        await self._clients.land_all()
        await self._tasks.drained(STOP_SECONDS)
        self._pool.close()
        self._sessions.close()
        self._logins.close()
        self._reading.close()
        self._copying.close()
        self._revocation.close()
        await self._defender.close()
        self._clients.close()

    def _everybody(self) -> list[Login | Guest]:
        return [*self._logins.live, *self._sessions.guests]

    async def _all_gone(self) -> None:
        """Connections end a turn of the loop or two after they were told to; only then are their sessions given up."""
        until = asyncio.get_running_loop().time() + STOP_SECONDS
        while (self._doorkeeper.connections or self._sessions.guests) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.005)

    async def _read_options(self) -> SSHServerConnectionOptions:
        return await ssh_options(self._settings, self._stores.folder, self._pool.run, partial(Login, self._logins))

    # what the parts ask

    def _now(self) -> GatewaySettings:
        """The settings that hold: a signal may bring others."""
        return self._settings

    def _settle_seconds(self, path: VirtualPath) -> float:
        return settle_seconds(path, self._settings.settle_seconds, self._settings.unfinished_name_seconds)

    def _is_home_of(self, client: str) -> bool:
        return self._crew is None or self._crew.is_mine(client)

    def _tally(self, kind: str) -> Tally:
        return OwnTally() if self._crew is None else self._crew.board.tally(kind, self._crew.me)


def _send_away(login: Login | Guest) -> None:
    if isinstance(login, Guest):
        login.abort()
    elif login.connection is not None:
        login.connection.disconnect(asyncssh.DISC_BY_APPLICATION, STOPPING)
