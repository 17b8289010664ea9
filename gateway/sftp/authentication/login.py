"""Logging in: one `Login` for each connection. What each factor is worth is decided in `accounts`; here is the conversation.

Nothing tells a known name from an unknown one: the same methods are offered, the same looks and hashes are done, and a refusal comes no
sooner than REFUSAL_SECONDS after its question.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NoReturn, Protocol, cast

import asyncssh
from asyncssh.public_key import SSHOpenSSHCertificate

from gateway.catalog import Client, Person
from gateway.catalog.factors import Combination, Factor, following, suffices
from gateway.catalog.networks import allowed
from gateway.sftp.authentication.accounts import Account, CertificateFacts, Shown, ends_at, key_of, still_holds
from gateway.sftp.authentication.certificates import facts_of, fingerprint_of, strong
from gateway.sftp.transport.connection import GuardedConnection
from gateway.sftp.workers.relay import AnySession

MAX_CHANNELS = 16  # of one connection at once
MAX_SOFTWARE = 128  # characters that are recorded
MAX_ASKED = 64
REFUSAL_SECONDS = 0.03
PROMPT = "Verification code: "
METHODS: dict[str, Factor] = {"publickey": "publickey", "password": "password", "keyboard-interactive": "totp"}


class Host(Protocol):
    """What a login asks of the server."""

    def look_up(self, name: str) -> Awaitable[Account | None]:
        """Who may log in under `name`."""
        ...

    def first_factors(self) -> Awaitable[Combination]:
        """With which factors anybody may begin; the same for every name."""
        ...

    def wanted(self, person: Person) -> tuple[Combination, ...]:
        """What suffices for this person."""
        ...

    def check_password(self, kept: str | None, password: str, address: str) -> Awaitable[bool]:
        """Whether the password is the one of the hash; as dear for None."""
        ...

    def check_code(self, person: str, code: str) -> Awaitable[bool]:
        """Whether this is the next code of the person's second factor."""
        ...

    def check_certificate(self, signer: bytes, facts: CertificateFacts) -> Awaitable[bool]:
        """Whether our CA signed it, and nobody revoked it."""
        ...

    def new_session(self, login: Login) -> AnySession:
        """A session for a person who has logged in."""
        ...

    def login_failed(self, login: Login, attempts: int, reason: str) -> None:
        """A connection that tried under a name ended without a login, or went on under another name."""
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


class Login(asyncssh.SSHServer):
    """One connection, from its first byte to its end."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._connection: GuardedConnection | None = None
        self._asked: str = ""
        self._found: Account | None = None
        self._looked = False
        self._first: Combination = frozenset({"publickey"})
        self._candidate = Shown()  # the key or certificate under examination
        self._banner_sent = False
        self.shown = Shown()
        self.attempts = 0
        self._told = 0  # of them: those under names that it has left
        self.account: Account | None = None
        self.until: datetime | None = None
        self.sessions: set[AnySession] = set()
        self.touched_at = 0.0
        self.id = secrets.token_hex(6)
        self.began_at = datetime.now(UTC)
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

    @property
    def person(self) -> Person | None:
        """Who has logged in."""
        return self.account.person if self.account is not None else None

    @property
    def client(self) -> Client | None:
        """The client to whom they belong; None for the staff and auditors."""
        return self.account.clients[0] if self.account is not None and self.account.person.role == "client" else None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Called by asyncssh, as those below."""
        self._connection = cast(GuardedConnection, conn)
        peer = conn.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unknown"

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The end; whoever tried and did not get in is told of."""
        failures = self._connection.failures if self._connection is not None else 0
        self.attempts = max(self.attempts, failures)
        self._connection = None
        if self.account is not None:
            self._host.ended(self)
        elif self._asked:
            self._tell_failures()

    def facts(self) -> dict[str, Any]:
        """Who this is, as JSON values."""
        account = self.account
        return {
            "id": self.id,
            "person": self.asked,
            "role": account.person.role if account else None,
            "clients": sorted(account.realm) if account else [],
            "address": self.address,
            "software": self.software,
            "since": self.began_at.isoformat(timespec="seconds"),
            "idle_seconds": round(self._now() - self.touched_at),
            "factors": sorted(self.shown.factors),
            "sessions": len(self.sessions),
        }

    # the conversation

    async def begin_auth(self, username: str) -> bool:
        """A name, or another one: whatever was shown for the one before is void, and what failed under it counts whoever gets in at last."""
        self._tell_failures()
        self._asked = username
        self._found, self._looked, self.shown = None, False, Shown()
        if self._connection is not None:
            version = self._connection.get_extra_info("client_version", "")
            self.software = str(version).removeprefix("SSH-2.0-")[:MAX_SOFTWARE]
            if self._host.notice and not self._banner_sent:
                self._banner_sent = True
                self._connection.send_auth_banner(self._host.notice.rstrip("\n") + "\n")
        self._first = await self._host.first_factors()
        return True

    def public_key_auth_supported(self) -> bool:
        """Whether a key is taken next."""
        return "publickey" in self._following

    def password_auth_supported(self) -> bool:
        """Whether a password is taken next."""
        return "password" in self._following

    def kbdint_auth_supported(self) -> bool:
        """Whether a code is taken next."""
        return "totp" in self._following

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether this key leads on; asked with a signature, which the connection checks, and without."""
        asked_at = self._attempt()
        account = await self._account(username)
        if account is not None and strong(key) and key_of(account.person, key.public_data, self.address, datetime.now(UTC)) is not None:
            return self._examine(replace(self.shown, fingerprint=fingerprint_of(key), certificate=None))
        return await self._refuse(asked_at)

    async def validate_certificate(self, username: str, certificate: SSHOpenSSHCertificate) -> bool:
        """Asked by the connection, which has checked the signature, the times, the addresses and that `username` is a principal."""
        asked_at = self._attempt()
        account = await self._account(username)
        facts = facts_of(certificate)
        if facts is not None and await self._host.check_certificate(certificate.signing_key.public_data, facts) and account is not None:
            return self._examine(replace(self.shown, fingerprint=facts.fingerprint, certificate=facts))
        return await self._refuse(asked_at)

    async def validate_password(self, username: str, password: str) -> bool:
        """Whether this is the password of that name, asked for at this point."""
        asked_at = self._attempt()
        account = await self._account(username)
        kept = account.person.password_hash if account is not None and self._leads_on("password") else None
        if await self._host.check_password(kept, password, self.address) and self._asked == username:
            self.shown = replace(self.shown, password_hash=kept or "")
            self.attempts -= 1
            return True
        return await self._refuse(asked_at)

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> asyncssh.auth.KbdIntChallenge:  # noqa: ARG002
        """What is asked for: one code."""
        return "", "", "", [(PROMPT, False)]

    async def validate_kbdint_response(self, username: str, responses: asyncssh.auth.KbdIntResponse) -> bool:
        """Whether this is the next code of that name."""
        asked_at = self._attempt()
        account = await self._account(username)
        right = account is not None and len(responses) == 1 and await self._host.check_code(account.person.name, responses[0])
        if account is not None and right and self._asked == username:
            self.shown = replace(self.shown, totp_since=account.person.totp_since)
            self.attempts -= 1
            return True
        return await self._refuse(asked_at)

    def factor_shown(self, method: str) -> bool:
        """A method of SSH succeeded. True: that is enough. False: something else is to follow (`methods` tells what)."""
        if self._found is None:
            return False
        factor = METHODS[method]
        known = self._candidate if factor == "publickey" else self.shown
        self.shown = replace(known, factors=self.shown.factors | {factor})
        return suffices(self._host.wanted(self._found.person), self.shown.factors)

    def auth_completed(self) -> None:
        """All that is wanted was shown. Raises PermissionDenied when it was not."""
        if self._found is None or self._connection is None or not suffices(self._host.wanted(self._found.person), self.shown.factors):
            raise asyncssh.PermissionDenied("no such login")
        self.account = self._found
        self.until = ends_at(self.account, self.shown)
        self._connection.logged_in()
        self.touch()
        self._host.logged_in(self)

    def still_holds(self, account: Account | None) -> bool:
        """Whether this login would be let in again as it was, now that the catalog says `account` of its name."""
        if self.account is None or account is None:
            return False
        self.until = ends_at(account, self.shown)  # it may have been changed
        return still_holds(account, self.account.realm, self.shown, self._host.wanted(account.person), self.address, datetime.now(UTC))

    @property
    def _following(self) -> Combination:
        """The factors that are taken next: before the first one the same for every name."""
        if not self.shown.factors or self._found is None:
            return self._first
        return following(self._host.wanted(self._found.person), self.shown.factors)

    def _leads_on(self, factor: Factor) -> bool:
        return self._found is not None and factor in following(self._host.wanted(self._found.person), self.shown.factors)

    async def _account(self, username: str) -> Account | None:
        if not self._looked:
            found = await self._host.look_up(username)
            if self._asked != username:
                return None
            self._looked = True
            self._found = found if found is not None and allowed(found.person.allow_from, self.address) else None
        return self._found if self._asked == username else None

    def _examine(self, candidate: Shown) -> bool:
        """The key is the person's: whether it leads on. A question without a signature comes here, too."""
        if not self._leads_on("publickey"):
            return False
        self._candidate = candidate
        self.attempts -= 1
        return True

    def _attempt(self) -> float:
        """One begins, and counts unless it is right: a client that asks for something else meanwhile cancels it, and would try without end. When it
        began. Raises DisconnectError."""
        self.attempts += 1
        if self._connection is not None:
            self._connection.check_attempts(self.attempts)
        return self._now()

    def _tell_failures(self) -> None:
        """Those under this name, when there are any."""
        attempts, self._told = self.attempts - self._told, self.attempts
        if attempts > 0:
            reason = "not everything was shown" if self.shown.factors else "nothing that lets anybody in was shown"
            self._host.login_failed(self, attempts, reason)

    async def _refuse(self, asked_at: float) -> bool:
        await asyncio.sleep(max(0.0, asked_at + REFUSAL_SECONDS - self._now()))
        return False

    def _now(self) -> float:
        return time.monotonic()  # as the event loop's

    # what follows

    def session_requested(self) -> AnySession:
        """A channel for one more session. Raises ChannelOpenError when there are too many."""
        if len(self.sessions) >= MAX_CHANNELS:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "too many sessions on one connection")
        session = self._host.new_session(self)
        self.sessions.add(session)
        return session

    def connection_requested(self, *_: Any) -> NoReturn:
        """No forwarding. asyncssh's own refusal reads as if somebody had tried, and nobody had answered there."""
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "nothing but SFTP is offered here")

    def unix_connection_requested(self, *_: Any) -> NoReturn:
        """As above."""
        self.connection_requested()

    def tun_requested(self, *_: Any) -> NoReturn:
        """As above."""
        self.connection_requested()

    def tap_requested(self, *_: Any) -> NoReturn:
        """As above."""
        self.connection_requested()

    def touch(self) -> None:
        """Something was asked, or answered."""
        self.touched_at = time.monotonic()

    @property
    def is_busy(self) -> bool:
        """Whether a request is being handled: a long one is no idleness."""
        return any(session.is_busy for session in self.sessions)

    @property
    def is_transferring(self) -> bool:
        """Whether a paper is open in one of the sessions."""
        return any(session.is_transferring for session in self.sessions)

    def transport_full(self, full: bool) -> None:
        """The connection's transport holds too much, or has room again."""
        for session in list(self.sessions):
            session.transport_full(full)
