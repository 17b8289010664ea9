"""Logging in: one `Login` for each connection. Public keys of active people of the catalog; everything else gets the same answer.

Nothing tells a known name from an unknown one: both cost one look into the catalog, and both end in the same refusal.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, cast

import asyncssh

from config.errors import NightsafeError
from gateway.catalog import Client, Person
from gateway.catalog.names import check_name
from gateway.sftp.session import SftpSession
from gateway.sftp.transport import GuardedConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable

MIN_RSA_BITS = 2048
MAX_CHANNELS = 16  # of one connection at once
MAX_SOFTWARE = 128  # characters that are recorded
MAX_ASKED = 64


class Known(Protocol):
    """The part of the catalog that logins need. Blocking."""

    def person(self, name: str) -> Person | None: ...

    def client(self, name: str) -> Client | None: ...


class Host(Protocol):
    """What a login asks of the server."""

    def look_up(self, name: str) -> Awaitable[tuple[Person, Client] | None]:
        """Who may log in under `name`."""
        ...

    def new_session(self, login: Login) -> SftpSession:
        """A session for a person who has logged in."""
        ...

    def login_failed(self, login: Login, reason: str) -> None:
        """A connection that tried ended without a login."""
        ...

    def logged_in(self, login: Login) -> None:
        """A connection is a person's from now on."""
        ...

    def ended(self, login: Login) -> None:
        """A connection on which somebody had logged in is gone."""
        ...

    @property
    def notice(self) -> str:
        """The banner."""
        ...


def admissible(person: Person | None, client: Client | None, now: datetime) -> bool:
    """Whether a person may log in at all. Pure."""
    if person is None or client is None:
        return False
    if not person.active or person.role != "client" or person.client != client.name or not client.active:
        return False
    return person.expires_at is None or now < person.expires_at


def find(catalog: Known, name: str) -> tuple[Person, Client] | None:
    """Blocking: who may log in under `name`; None for everybody else."""
    try:
        check_name(name)
    except NightsafeError:
        return None
    person = catalog.person(name)
    client = catalog.client(person.client) if person is not None and person.client is not None else None
    if person is None or client is None or not admissible(person, client, datetime.now(UTC)):
        return None
    return person, client


def holds(person: Person, offered: bytes) -> bool:
    """Whether one of the person's keys is the `offered` one (its SSH wire form)."""
    found = False
    for key in person.keys:
        fields = key.line.split()
        try:
            blob = base64.b64decode(fields[1], validate=True)
        except (IndexError, binascii.Error, ValueError):
            continue
        found |= hmac.compare_digest(blob, offered)
    return found


class Login(asyncssh.SSHServer):
    """One connection, from its first byte to its end."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._connection: GuardedConnection | None = None
        self._asked: str = ""
        self._found: tuple[Person, Client] | None = None
        self._banner_sent = False
        self.attempts = 0
        self.person: Person | None = None
        self.client: Client | None = None
        self.sessions: set[SftpSession] = set()
        self.touched_at = 0.0
        self.address = ""
        self.software = ""

    @property
    def connection(self) -> GuardedConnection | None:
        """None before the connection is made and after it is lost."""
        return self._connection

    @property
    def asked(self) -> str:
        """The name that was tried last, cut to what is shown."""
        return self._asked[:MAX_ASKED]

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = cast(GuardedConnection, conn)
        peer = conn.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unknown"

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        failures = self._connection.failures if self._connection is not None else 0
        self.attempts = max(self.attempts, failures)
        self._connection = None
        if self.person is not None:
            self._host.ended(self)
        elif self._asked and self.attempts:
            self._host.login_failed(self, "no key of an active login was shown")

    async def begin_auth(self, username: str) -> bool:
        self._asked = username
        self._found = None
        if self._connection is not None:
            version = self._connection.get_extra_info("client_version", "")
            self.software = str(version).removeprefix("SSH-2.0-")[:MAX_SOFTWARE]
            if self._host.notice and not self._banner_sent:
                self._banner_sent = True
                self._connection.send_auth_banner(self._host.notice.rstrip("\n") + "\n")
        self._found = await self._host.look_up(username)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        self.attempts += 1
        if self._found is None or self._found[0].name != username or _too_weak(key):
            return False
        return holds(self._found[0], key.public_data)

    def auth_completed(self) -> None:
        if self._found is None or self._connection is None:
            raise asyncssh.PermissionDenied("no such login")
        self.person, self.client = self._found
        self._connection.logged_in()
        self.touch()
        self._host.logged_in(self)

    def session_requested(self) -> SftpSession:
        if len(self.sessions) >= MAX_CHANNELS:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "too many sessions on one connection")
        session = self._host.new_session(self)
        self.sessions.add(session)
        return session

    def touch(self) -> None:
        """Something was asked, or answered."""
        self.touched_at = asyncio.get_running_loop().time()

    @property
    def is_busy(self) -> bool:
        """Whether a request is being handled: a long one is no idleness."""
        return any(session.is_busy for session in self.sessions)

    def transport_full(self, full: bool) -> None:
        """The connection's transport holds too much, or has room again."""
        for session in list(self.sessions):
            session.transport_full(full)


def _too_weak(key: asyncssh.SSHKey) -> bool:
    return key.get_algorithm() == "ssh-rsa" and len(key.public_data) * 8 < MIN_RSA_BITS
