"""Sessions: what an SFTP session is given when it begins, here or for a guest from another worker, and what becomes of it at its end."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import structlog

from config.errors import NightsafeError
from config.settings import GatewaySettings
from gateway.audit.events import Event
from gateway.catalog import Client
from gateway.jail.shelf import PlainShelf
from gateway.sftp.authentication.accounts import Account
from gateway.sftp.authentication.login import Login
from gateway.sftp.defender.tallies import Tally
from gateway.sftp.papers.book import Parts
from gateway.sftp.papers.clients import Clients
from gateway.sftp.papers.papers import Papers
from gateway.sftp.papers.publish import Tasks
from gateway.sftp.papers.stores import Stores
from gateway.sftp.session.desk import Desk
from gateway.sftp.session.operations import Operations
from gateway.sftp.session.pool import FairPool
from gateway.sftp.session.recording import SessionRecord
from gateway.sftp.session.session import SftpSession
from gateway.sftp.session.shares import Shares
from gateway.sftp.session.visitor import Visitor
from gateway.sftp.workers.crew import Crew
from gateway.sftp.workers.guests import Guest
from gateway.sftp.workers.hello import Hello
from gateway.sftp.workers.relay import AnySession, RelaySession
from gateway.sftp.workers.remote import RemotePart

log = structlog.get_logger()

LOOKING_THREADS = 2  # for reading folders and counting, one for each person: work for a processor, of which more threads make no more


class Sessions:
    """The sessions of one process, and the host of its guests. `tally` gives the count of a kind over all workers; without a `crew` this is all."""

    def __init__(
        self,
        settings: Callable[[], GatewaySettings],
        stores: Stores,
        parts: Parts,
        clients: Clients,
        tasks: Tasks,
        look_up: Callable[[str], Awaitable[Account | None]],
        tally: Callable[[str], Tally],
        crew: Crew | None,
        shares: Shares,
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._parts = parts
        self._clients = clients
        self._tasks = tasks
        self._look_up = look_up
        self._crew = crew
        self._looking = FairPool(LOOKING_THREADS, "sftp-looking")
        self._by_person = tally("sessions")
        self._shares = shares
        self.guests: set[Guest] = set()

    def close(self) -> None:
        """Wait for the threads."""
        self._looking.close()

    def new(self, login: Login) -> AnySession:
        """A session for somebody who has logged in; at the home of their client, which may be another worker."""
        client, crew = login.client, self._crew
        if crew is not None and client is not None and login.person is not None and not crew.is_mine(client.name):
            hello = Hello(login.person.name, client.name, login.address, login.software)
            return RelaySession(crew.path_of(client.name), hello, partial(self._leave, login), login.touch)
        share = self._shares.of(login.person.name if login.person is not None else "")
        return SftpSession(partial(self.enter, login), partial(self._leave, login), login.touch, share)

    def enter(self, login: Login | Guest, session: SftpSession) -> Operations | Desk | None:
        """SFTP was asked for. None refuses."""
        account = login.account
        if account is None:
            return None
        person, client = account.person, login.client
        if self._by_person.of(person.name) >= self._settings().max_sessions_per_person:
            log.info("session.too_many", person=person.name)
            return None
        visitor = Visitor(person.name, client.name if client else "", secrets.token_hex(8), login.address, login.software, person.role)
        record = SessionRecord(self._stores.recorder, visitor)
        give_back: Callable[[], None] = lambda: None  # noqa: E731
        try:
            if client is not None:
                papers = self._clients.papers_of(client, account.found_at)
                give_back = papers.take_place()
            record.record(Event.SESSION_OPENED)
        except NightsafeError as error:
            log.warning("session.refused", person=person.name, error=error.message)
            give_back()
            return None
        self._by_person.add(person.name)
        session.opened_as(person.name, record, give_back)
        return self._operations(papers, visitor, record) if client is not None else self._desk(account, visitor, record)

    def _operations(self, papers: Papers, visitor: Visitor, record: SessionRecord, number: int = 0) -> Operations:
        parts, most = self._parts, self._settings().max_handles
        run = partial(self._looking.run, visitor.person)
        means = (papers, visitor, record, run, parts.space, most)
        return Operations(*means, role=visitor.role, number=number, read_only=self._settings().read_only)

    def _desk(self, account: Account, visitor: Visitor, record: SessionRecord) -> Desk:
        clients = {client.name: client for client in account.clients}

        def open_client(name: str, number: int) -> Operations | RemotePart:
            if self._crew is not None and not self._crew.is_mine(name):
                hello = Hello(visitor.person, name, visitor.address, visitor.software, visitor.session, number)
                return RemotePart(self._crew.path_of(name), hello)
            inside = replace(visitor, client=name)
            return self._operations(self._clients.papers_of(clients[name], account.found_at), inside, record.inside(inside), number)

        evidence = PlainShelf(self._stores.folder.evidence) if account.person.role == "auditor" else None
        most = self._settings().max_handles
        run = partial(self._looking.run, visitor.person)
        return Desk(visitor, record, run, clients=list(clients), open_client=open_client, max_handles=most, evidence=evidence)

    def _leave(self, login: Login | Guest, session: AnySession) -> None:
        login.sessions.discard(session)
        self._tasks.spawn(self._close(session))

    async def _close(self, session: AnySession) -> None:
        try:
            await session.finished()
        finally:
            if session.person is not None:
                self._by_person.drop(session.person)
            session.record_end()

    # guests: sessions of clients that are at home here, whose connection is with another worker

    async def receive(self, guest: Guest, hello: Hello) -> SftpSession | None:
        """See `guests.Host`."""
        self.guests.add(guest)
        account = await self._look_up(hello.person)
        client = next((client for client in account.clients if client.name == hello.client), None) if account is not None else None
        if account is None or client is None or not self._clients.is_home(client.name):
            log.warning("guest.refused", person=hello.person, client=hello.client)
            return None
        guest.account, guest.client = account, client if account.person.role == "client" else None
        enter = partial(self.enter, guest) if guest.client is not None else partial(self._enter_part, guest, client, hello)
        return SftpSession(enter, partial(self._leave, guest), guest.touch, self._shares.of(hello.person))

    def _enter_part(self, guest: Guest, client: Client, hello: Hello, _: SftpSession) -> Operations | None:
        """One client's folders, in a session that another worker has counted and recorded."""
        if guest.account is None:
            return None
        person = guest.account.person
        visitor = Visitor(person.name, client.name, hello.session, hello.address, hello.software, person.role)
        try:
            papers = self._clients.papers_of(client, guest.account.found_at)
        except NightsafeError as error:
            log.warning("session.refused", person=person.name, error=error.message)
            return None
        return self._operations(papers, visitor, SessionRecord(self._stores.recorder, visitor), hello.number)

    def guest_gone(self, guest: Guest) -> None:
        """See `guests.Host`."""
        self.guests.discard(guest)
