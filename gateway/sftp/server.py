"""The SFTP server as a whole: listening, who is let in, sessions and their ends, an orderly stop."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import os
import resource
import secrets
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import asyncssh
import structlog
from asyncssh.connection import SSHServerConnectionOptions

from config.errors import NightsafeError, OutOfReach, SettingsError
from config.folder import DataFolder
from config.settings import GatewaySettings
from gateway.audit.events import Event
from gateway.catalog import Client, Person
from gateway.catalog.factors import Combination, combinations
from gateway.jail import Tree, VirtualPath
from gateway.jail.shelf import PlainShelf
from gateway.keys.keyring import USER_CA, Keyring
from gateway.sftp import fastpath
from gateway.sftp.accounts import Account, CertificateFacts, find
from gateway.sftp.algorithms import COMPRESSION, algorithms
from gateway.sftp.authentication import Login
from gateway.sftp.bans import BanStore, rules_of
from gateway.sftp.book import Parts
from gateway.sftp.control import Control
from gateway.sftp.crew import Crew
from gateway.sftp.defender import SILENT_POINTS, Defender
from gateway.sftp.desk import Desk
from gateway.sftp.draining import let_transfers_end
from gateway.sftp.fastpath import FastConnection
from gateway.sftp.guests import Guest
from gateway.sftp.hello import Hello
from gateway.sftp.operations import Operations
from gateway.sftp.papers import Papers
from gateway.sftp.passwords import PasswordChecks
from gateway.sftp.pool import Pool
from gateway.sftp.publish import Publisher, Tasks, land_all, recover, settle_seconds, stale_by_client
from gateway.sftp.recording import Recorder, SessionRecord
from gateway.sftp.relay import AnySession, RelaySession
from gateway.sftp.remote import RemotePart
from gateway.sftp.revocation import Revocation, Watched
from gateway.sftp.rooms import Rooms
from gateway.sftp.session import SftpSession
from gateway.sftp.sources import Archive, PaperKeys
from gateway.sftp.space import SpaceGuard
from gateway.sftp.tallies import OwnTally, Tally
from gateway.sftp.transport import GuardedConnection
from gateway.sftp.visitor import Visitor
from gateway.store.spool import Spool
from gateway.store.vault import Vault

log = structlog.get_logger()

THREADS = 16  # for fsync and the like: they wait in the kernel
BACKLOG = 512
ACCEPTED_AT_ONCE = 4  # in one turn of the event loop: the others have theirs soon, and workers share a burst of connections
READING_THREADS = 8  # for what waits for a key
SHARE = 8  # one client may hold this part of the process's descriptors
EXPIRY_SECONDS = 3600.0
LIMITS_SECONDS = 2.0  # between looks at the limits of clients whose papers are open
STOP_SECONDS = 20.0  # for requests that are being handled when the server stops
FIRST_FACTORS_SECONDS = 1.0  # how long it takes at the most until a first password is asked for
ABORT_SECONDS = 0.5  # between a goodbye and the end of the connection
STOPPING = "the server is stopping; uploads can be resumed"
SERVER_VERSION = "Nightsafe"


@dataclass(frozen=True)
class Stores:
    """Where names, content and keys come from."""

    folder: DataFolder
    catalog: Watched
    spool: Spool
    vault: Vault
    keys: PaperKeys
    recorder: Recorder


class Gateway:
    """One process's SFTP server; the host of its logins and the gate of its connections. Lives on one event loop."""

    def __init__(self, settings: GatewaySettings, stores: Stores, crew: Crew | None = None) -> None:
        """`crew`: this is one worker of several; else it is alone."""
        self._settings = settings
        self._crew = crew
        self._stores = stores
        self._pool = Pool(THREADS)
        self._reading = Pool(READING_THREADS, "sftp-reading")
        self._tasks = Tasks()
        self._space = SpaceGuard(stores.folder.spool_partial, settings.reserve_bytes)
        self._parts = Parts(
            spool=stores.spool,
            archive=Archive(stores.spool, stores.vault, stores.keys),
            space=self._space,
            pool=self._pool,
            reading=self._reading,
            recorder=stores.recorder,
            settle=self._settle_seconds,
            after=Publisher(self._tasks).after,
        )
        self._papers: dict[str, Papers] = {}
        self._rooms = Rooms(stores.folder)
        self._keeper: asyncio.Task[None] | None = None
        self._connections: set[GuardedConnection] = set()
        self._guests: set[Guest] = set()
        self._everyone = self._tally("connections")
        self._unauthenticated = self._tally("unauthenticated")
        self._logins_of = self._tally("logins")
        self._logins: set[Login] = set()
        self._sessions_of: Counter[str] = Counter()
        self._servers: list[asyncio.AbstractServer] = []
        self._options_now: SSHServerConnectionOptions
        self._expiry: asyncio.Task[None] | None = None
        self._revocation = Revocation(stores.catalog, self._pool.run, lambda: self._logins, self._revoke)
        self._watch: asyncio.Task[None] | None = None
        self._passwords = PasswordChecks()
        self._defender = Defender(
            BanStore(stores.folder.defender), rules_of(settings), settings.trusted_networks, lambda ban: stores.recorder.banned(ban)
        )
        self._defence: asyncio.Task[None] | None = None
        self._control = Control(stores.folder.gateway_socket(os.getpid()), self._tell_logins, self._kill)
        self._first: Combination = frozenset({"publickey"})
        self._first_until = 0.0

    # life

    async def start(self, host: str, port: int) -> int:
        """Listen; the port. What an earlier process left behind is landed first. Raises OutOfReach, SettingsError."""
        stores = self._stores
        landed = await self._pool.run(lambda: recover(stores.spool, self._open_tree, stores.recorder.landed_at_start, self._is_home_of))
        if landed:
            log.info("gateway.recovered", landed=landed)
        self._options_now = await self._options()
        loop = asyncio.get_running_loop()
        road = FastConnection if self._settings.fast_path and fastpath.is_possible() else GuardedConnection

        def connection() -> GuardedConnection:
            return road(loop, self._options_now, self)

        if self._crew is not None:
            await self._open_up(self._crew, connection)
        else:
            try:
                server = await loop.create_server(connection, host, port, backlog=ACCEPTED_AT_ONCE)
            except OSError as error:
                raise cannot_listen(host, port, error) from error
            for listening in server.sockets:
                with socket.socket(fileno=os.dup(listening.fileno())) as again:
                    again.listen(BACKLOG)  # asyncio takes one number for both
            self._servers.append(server)
            port = int(server.sockets[0].getsockname()[1])
        self._expiry = loop.create_task(self._expire_now_and_then())
        self._keeper = loop.create_task(self._keep_limits())
        self._watch = loop.create_task(self._revocation.keep())
        self._defence = loop.create_task(self._defender.keep())
        await self._control.start()
        return port

    async def _open_up(self, crew: Crew, connection: Callable[[], GuardedConnection]) -> None:
        """Take connections from the sockets that all workers share, and guests at the door of this one."""
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_unix_server(lambda: Guest(self), sock=crew.doors[crew.me]))
        for listener in crew.listeners:
            self._servers.append(await loop.create_server(connection, sock=listener, backlog=ACCEPTED_AT_ONCE))
            listener.listen(BACKLOG)  # asyncio takes the number of connections that it accepts at once for the kernel's queue, too

    async def reload(self, settings: GatewaySettings) -> None:
        """Take other settings and read the host key anew; sessions that are open go on. Raises SettingsError: then all is as before.

        The address and the port stay what they are, as do limits that a connection has met already.
        """
        before, self._settings = self._settings, settings
        try:
            self._options_now = await self._options()
        except BaseException:
            self._settings = before
            raise
        self._space.reserve_bytes = settings.reserve_bytes
        if (before.host, before.port, before.workers) != (settings.host, settings.port, settings.workers):
            log.warning("gateway.needs_restart", reason="another address, port or number of workers was set")

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Take nobody in, give running transfers `stop_seconds` (less when `hurry` is set), keep partials for resuming, land what is whole."""
        for server in self._servers:
            server.close()
        self._control.close()
        for task in (self._expiry, self._watch, self._keeper, self._defence):
            if task is not None:
                task.cancel()
        whole = await let_transfers_end(lambda: [*self._logins, *self._guests], _send_away, self._settings.stop_seconds, hurry or asyncio.Event())
        if not whole:
            log.info("gateway.transfers_cut")
        for login in list(self._logins):
            for session in list(login.sessions):
                session.stop()
        for guest in list(self._guests):
            for session in list(guest.sessions):
                session.stop()
            guest.abort()
        for connection in list(self._connections):
            connection.disconnect(asyncssh.DISC_BY_APPLICATION, STOPPING)
        await self._all_gone()
        if not await self._tasks.drained(STOP_SECONDS):
            log.warning("gateway.stopped_hard")
        await land_all(self._papers.values())
        await self._tasks.drained(STOP_SECONDS)
        self._pool.close()
        self._passwords.close()
        self._reading.close()
        self._revocation.close()
        await self._defender.close()
        for papers in self._papers.values():
            papers.close()

    async def _all_gone(self) -> None:
        """Connections end a turn of the loop or two after they were told to; only then are their sessions given up."""
        until = asyncio.get_running_loop().time() + STOP_SECONDS
        while (self._connections or self._guests) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.005)

    async def _options(self) -> SSHServerConnectionOptions:
        offered = algorithms(self._settings.algorithms)
        path = self._stores.folder.host_key
        if self._settings.algorithms == "nist":
            path = self._stores.folder.nist_host_key
            if not path.exists():
                raise SettingsError("there is no host key for the policy 'nist'", "make it with: nightsafe host-key --nist")
        try:
            host_key = await self._pool.run(lambda: asyncssh.read_private_key(path))
        except (OSError, asyncssh.KeyImportError) as error:
            raise SettingsError(f"the host key {path.name} cannot be read: {error}", "restore keys/host from a backup of the keys") from error
        options: SSHServerConnectionOptions = await SSHServerConnectionOptions.construct(
            config=None,
            server_factory=partial(Login, self),
            server_version=SERVER_VERSION,
            server_host_keys=[host_key],
            kex_algs=list(offered.key_exchange),
            encryption_algs=list(offered.encryption),
            mac_algs=list(offered.mac),
            compression_algs=list(COMPRESSION),
            signature_algs=list(offered.signatures),
            public_key_auth=True,
            password_auth=True,
            kbdint_auth=True,
            host_based_auth=False,
            gss_host=None,
            x509_trusted_certs=None,
            allow_pty=False,
            agent_forwarding=False,
            x11_forwarding=False,
            line_editor=False,
            encoding=None,
            login_timeout=self._settings.login_seconds,
            keepalive_interval=0,
        )
        return options

    def _settle_seconds(self, path: VirtualPath) -> float:
        return settle_seconds(path, self._settings.settle_seconds, self._settings.unfinished_name_seconds)

    # the gate

    @property
    def max_auth_attempts(self) -> int:
        return self._settings.max_auth_attempts

    def admit(self, connection: GuardedConnection) -> bool:
        if self._defender.refuses(connection.address):
            return False
        settings = self._settings
        if self._everyone.total >= settings.max_connections or self._unauthenticated.total >= settings.max_unauthenticated:
            return False
        if self._unauthenticated.of(connection.address) >= settings.max_unauthenticated_per_address:
            return False
        self._connections.add(connection)
        self._everyone.add("")
        self._unauthenticated.add(connection.address)
        return True

    def gone(self, connection: GuardedConnection) -> None:
        self._connections.discard(connection)
        self._everyone.drop("")
        if not connection.is_logged_in:
            if connection.spoke and not connection.failures:
                self._defender.failed(connection.address, SILENT_POINTS)
            self._unauthenticated.drop(connection.address)

    def _tally(self, kind: str) -> Tally:
        return OwnTally() if self._crew is None else self._crew.board.tally(kind, self._crew.me)

    # the host of logins

    @property
    def notice(self) -> str:
        return self._settings.notice

    async def look_up(self, name: str) -> Account | None:
        try:
            return await self._pool.run(lambda: find(self._stores.catalog, name))
        except NightsafeError as error:
            log.warning("login.catalog_unavailable", error=error.message)
            return None

    async def first_factors(self) -> Combination:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._first_until:
            self._first_until = loop.time() + FIRST_FACTORS_SECONDS
            try:
                passwords = await self._pool.run(self._stores.catalog.any_password)
            except NightsafeError as error:
                log.warning("login.catalog_unavailable", error=error.message)
            else:
                self._first = frozenset({"publickey", "password"} if passwords else {"publickey"})
        return self._first

    def wanted(self, person: Person) -> tuple[Combination, ...]:
        settings = self._settings
        of_role = {"client": settings.require_client, "staff": settings.require_staff, "auditor": settings.require_auditor}[person.role]
        return combinations(person.require, of_role, totp=person.totp)

    async def check_password(self, kept: str | None, password: str, address: str) -> bool:
        return await self._passwords.check(kept, password, address)

    async def check_code(self, person: str, code: str) -> bool:
        try:
            return await self._reading.run(lambda: self._stores.keys.check_code(person, code))
        except NightsafeError as error:
            log.warning("login.code_not_checked", person=person, error=error.message)
            return False

    async def check_certificate(self, signer: bytes, facts: CertificateFacts) -> bool:
        try:
            return await self._pool.run(lambda: self._is_good(signer, facts))
        except NightsafeError as error:
            log.warning("login.certificate_not_checked", error=error.message)
            return False

    def _is_good(self, signer: bytes, facts: CertificateFacts) -> bool:
        """Blocking: certificates are rare, and the CA may have been made since the start."""
        revoked = self._stores.catalog.is_revoked(facts.serial, facts.key_id, facts.fingerprint)
        return signer == user_ca(self._stores.folder) and not revoked

    def login_failed(self, login: Login, reason: str) -> None:
        self._defender.failed(login.address, login.attempts)
        facts: dict[str, Any] = {"person": login.asked, "address": login.address, "software": login.software, "attempts": login.attempts}
        if self._stores.recorder.login_failed(**facts, reason=reason):
            # fail2ban and CrowdSec read this line: config/fail2ban, config/crowdsec. What strangers choose comes after the address.
            log.warning("login.failed", address=login.address, attempts=login.attempts, reason=reason, person=login.asked)

    def logged_in(self, login: Login) -> None:
        if login.connection is None or login.account is None:
            return
        try:
            self._stores.recorder.logged_in(login.account.person, self._facts_of(login))
        except NightsafeError as error:  # what cannot be recorded does not happen
            log.warning("login.not_recorded", error=error.message)
            login.connection.disconnect(asyncssh.DISC_BY_APPLICATION, "no logins at the moment; please try again later")
            return
        self._unauthenticated.drop(login.connection.address)
        self._logins.add(login)
        self._logins_of.add(login.asked)
        if self._logins_of.of(login.asked) > self._settings.max_sessions_per_person:
            log.info("login.too_many", person=login.asked)
            login.connection.disconnect(asyncssh.DISC_TOO_MANY_CONNECTIONS, "you have too many connections already")
            return
        self._watch_idle(login)

    def _facts_of(self, login: Login) -> dict[str, Any]:
        """What the audit log keeps of a login."""
        shown = login.shown
        facts: dict[str, Any] = {"address": login.address, "software": login.software, "login": login.id, "factors": sorted(shown.factors)}
        if shown.fingerprint:
            facts["fingerprint"] = shown.fingerprint
        if shown.certificate is not None:
            facts["certificate"] = {"serial": shown.certificate.serial, "id": shown.certificate.key_id}
        if self.notice:
            facts["notice"] = notice_version(self._settings)
        return facts

    def ended(self, login: Login) -> None:
        if login in self._logins:
            self._logins.discard(login)
            self._logins_of.drop(login.asked)

    def new_session(self, login: Login) -> AnySession:
        client, crew = login.client, self._crew
        if crew is not None and client is not None and login.person is not None and not crew.is_mine(client.name):
            hello = Hello(login.person.name, client.name, login.address, login.software)
            return RelaySession(crew.path_of(client.name), hello, partial(self._leave, login), login.touch)
        return SftpSession(partial(self._enter, login), partial(self._leave, login), login.touch)

    def _watch_idle(self, login: Login) -> None:
        loop = asyncio.get_running_loop()
        left = self._settings.idle_seconds - (loop.time() - login.touched_at)
        if login.connection is None:
            return
        if left <= 0 and not login.is_busy:
            log.info("session.idle", person=login.asked)
            login.connection.disconnect(asyncssh.DISC_BY_APPLICATION, "idle for too long")
            loop.call_later(5.0, login.connection.abort)
            return
        loop.call_later(max(left, 1.0), self._watch_idle, login)

    def _revoke(self, login: Login, why: str) -> None:
        """Nothing more is handled for this login; what is open is given up as broken off, and can be resumed once it may log in again."""
        person = login.person
        if login.connection is None or person is None:
            return
        self._end(login)
        self._stores.recorder.revoked(person=person.name, client=person.client, address=login.address, software=login.software, reason=why)

    def _end(self, login: Login) -> None:
        """Handle nothing more for a login, and end its connection."""
        for session in list(login.sessions):
            session.stop()
        if login.connection is not None:
            login.connection.disconnect(asyncssh.DISC_BY_APPLICATION, "your access has ended")
            asyncio.get_running_loop().call_later(ABORT_SECONDS, login.connection.abort)  # a peer that takes nothing any more

    def _tell_logins(self) -> list[dict[str, Any]]:
        """Who is logged in here, for `nightsafe sessions`."""
        return [login.facts() for login in self._logins]

    def _kill(self, number: str, by: str) -> bool:
        for login in self._logins:
            if login.id == number and login.connection is not None:
                self._end(login)
                self._stores.recorder.killed(person=login.asked, address=login.address, login=login.id, by=by)
                return True
        return False

    # sessions

    def _enter(self, login: Login | Guest, session: SftpSession) -> Operations | Desk | None:
        """SFTP was asked for. None refuses."""
        account = login.account
        if account is None:
            return None
        person, client = account.person, login.client
        if self._sessions_of[person.name] >= self._settings.max_sessions_per_person:
            log.info("session.too_many", person=person.name)
            return None
        visitor = Visitor(person.name, client.name if client else "", secrets.token_hex(8), login.address, login.software, person.role)
        record = SessionRecord(self._stores.recorder, visitor)
        give_back: Callable[[], None] = lambda: None  # noqa: E731
        try:
            if client is not None:
                papers = self._papers_of(client)
                give_back = papers.take_place()
            record.record(Event.SESSION_OPENED)
        except NightsafeError as error:
            log.warning("session.refused", person=person.name, error=error.message)
            give_back()
            return None
        self._sessions_of[person.name] += 1
        session.opened_as(person.name, record, give_back)
        return self._operations(papers, visitor, record) if client is not None else self._desk(account, visitor, record)

    def _operations(self, papers: Papers, visitor: Visitor, record: SessionRecord, number: int = 0) -> Operations:
        most = self._settings.max_handles
        return Operations(papers, visitor, record, self._pool.run, self._space, most, role=visitor.role, number=number)

    def _desk(self, account: Account, visitor: Visitor, record: SessionRecord) -> Desk:
        clients = {client.name: client for client in account.clients}

        def open_client(name: str, number: int) -> Operations | RemotePart:
            if self._crew is not None and not self._crew.is_mine(name):
                hello = Hello(visitor.person, name, visitor.address, visitor.software, visitor.session, number)
                return RemotePart(self._crew.path_of(name), hello)
            inside = replace(visitor, client=name)
            return self._operations(self._papers_of(clients[name]), inside, record.inside(inside), number)

        evidence = PlainShelf(self._stores.folder.evidence) if account.person.role == "auditor" else None
        most = self._settings.max_handles
        return Desk(visitor, record, self._pool.run, clients=list(clients), open_client=open_client, max_handles=most, evidence=evidence)

    def _leave(self, login: Login | Guest, session: AnySession) -> None:
        login.sessions.discard(session)
        self._tasks.spawn(self._close(session))

    async def _close(self, session: AnySession) -> None:
        try:
            await session.finished()
        finally:
            if session.person is not None:
                _count_down(self._sessions_of, session.person)
            session.record_end()

    # guests: sessions of clients that are at home here, whose connection is with another worker

    async def receive(self, guest: Guest, hello: Hello) -> SftpSession | None:
        self._guests.add(guest)
        account = await self.look_up(hello.person)
        client = next((client for client in account.clients if client.name == hello.client), None) if account is not None else None
        if account is None or client is None or not self._is_home_of(client.name):
            log.warning("guest.refused", person=hello.person, client=hello.client)
            return None
        guest.account, guest.client = account, client if account.person.role == "client" else None
        enter = partial(self._enter, guest) if guest.client is not None else partial(self._enter_part, guest, client, hello)
        return SftpSession(enter, partial(self._leave, guest), guest.touch)

    def _enter_part(self, guest: Guest, client: Client, hello: Hello, _session: SftpSession) -> Operations | None:
        """One client's folders, in a session that another worker has counted and recorded."""
        if guest.account is None:
            return None
        person = guest.account.person
        visitor = Visitor(person.name, client.name, hello.session, hello.address, hello.software, person.role)
        try:
            return self._operations(self._papers_of(client), visitor, SessionRecord(self._stores.recorder, visitor), hello.number)
        except NightsafeError as error:
            log.warning("session.refused", person=person.name, error=error.message)
            return None

    def guest_gone(self, guest: Guest) -> None:
        self._guests.discard(guest)

    def _is_home_of(self, client: str) -> bool:
        return self._crew is None or self._crew.is_mine(client)

    def _papers_of(self, client: Client) -> Papers:
        papers = self._papers.get(client.name)
        if papers is None:
            tree = self._open_tree(client.name)
            papers = self._papers[client.name] = Papers(client.name, tree, self._parts, self._handles_of_one(), self._rooms.of(client.name, tree))
        papers.take_limits(client.limits)
        papers.book.deposit_only = client.custody == "deposit-only"
        return papers

    def _handles_of_one(self) -> int:
        """Handles that all sessions of one client may hold together."""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return max(self._settings.max_handles, descriptors // SHARE)

    def _open_tree(self, client: str) -> Tree:
        return Tree(self._stores.folder.jail(client))

    # limits

    async def _keep_limits(self) -> None:
        """What an operator changes holds for sessions that are open, too; and now and then all is counted anew."""
        while True:
            await asyncio.sleep(LIMITS_SECONDS)
            busy = [(client, papers) for client, papers in self._papers.items() if papers.handles.taken or papers.book.drafts]
            for client, papers in busy:
                try:
                    known = await self._pool.run(partial(self._stores.catalog.client, client))
                    if known is not None:
                        papers.take_limits(known.limits)
                    await self._reading.run(papers.quota.count_again)
                except Exception as error:  # noqa: BLE001 - the limits of before hold on
                    log.warning("limits.not_read", client=client, error=str(error))

    # broken uploads

    async def _expire_now_and_then(self) -> None:
        while True:
            try:
                await self._expire()
            except NightsafeError as error:
                log.warning("expiry.failed", error=error.message)
            except Exception as error:
                log.exception("expiry.crashed", exc_info=error)
            await asyncio.sleep(EXPIRY_SECONDS)

    async def _expire(self) -> None:
        stale = await self._pool.run(lambda: stale_by_client(self._stores.spool, self._settings.partial_days))
        for client, papers in stale.items():
            if not self._is_home_of(client):
                continue
            try:
                await self._expire_of(client, papers)
            except NightsafeError as error:  # a client whose folders are gone, say: the others' turn comes all the same
                log.warning("partials.not_expired", client=client, error=error.message)

    async def _expire_of(self, client: str, papers: set[str]) -> None:
        known = self._papers.get(client) or Papers(client, self._open_tree(client), self._parts)
        try:
            count = await known.names.expire(papers)
            log.info("partials.expired", client=client, count=count)
        finally:
            if client not in self._papers:
                known.tree.close()


def user_ca(folder: DataFolder) -> bytes | None:
    """Blocking: the public half of the CA for logins in its wire form; None where there is none."""
    try:
        return base64.b64decode(Keyring(folder).public_half(USER_CA).split()[1], validate=True)
    except (NightsafeError, IndexError, ValueError):
        return None


def notice_version(settings: GatewaySettings) -> str:
    """The version that the firm gave its banner, or else a name for this very text."""
    return settings.notice_version or "sha256:" + hashlib.sha256(settings.notice.encode()).hexdigest()[:16]


def _send_away(login: Login | Guest) -> None:
    if isinstance(login, Guest):
        login.abort()
    elif login.connection is not None:
        login.connection.disconnect(asyncssh.DISC_BY_APPLICATION, STOPPING)


def _count_down(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if counter[name] <= 0:
        del counter[name]


def cannot_listen(host: str, port: int, error: OSError) -> OutOfReach:
    """The error for a port that cannot be listened on."""
    place = f"{host} port {port}"
    if error.errno == errno.EADDRINUSE:
        return OutOfReach(f"{place} is taken by another program", "stop it, or set [gateway] port in the settings (0 takes a free one)")
    if error.errno == errno.EACCES:
        return OutOfReach(f"this user may not listen on {place}", "ports below 1024 need CAP_NET_BIND_SERVICE; the default is 2022")
    if error.errno == errno.EADDRNOTAVAIL:
        return OutOfReach(f"this machine does not have the address {host}", "set [gateway] host in the settings to one that it has, or to 0.0.0.0")
    return OutOfReach(f"the server cannot listen on {place}: {error.strerror or error}", "check [gateway] host and port in the settings")
