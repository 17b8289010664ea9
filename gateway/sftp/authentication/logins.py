"""Logins: the host of every Login of one process. It asks the catalog and keyd for them, counts and records them, and ends them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Any

import asyncssh
import structlog

from config.errors import NightsafeError
from config.folder import DataFolder
from config.lasting import LastingFault
from config.settings import GatewaySettings
from gateway.catalog import Person
from gateway.catalog.factors import Combination, combinations
from gateway.keys.keyring import USER_CA, Keyring
from gateway.sftp.authentication.accounts import Account, CertificateFacts, look_up
from gateway.sftp.authentication.login import Login
from gateway.sftp.authentication.passwords import PasswordChecks
from gateway.sftp.defender.defender import Defender
from gateway.sftp.defender.doorkeeper import Doorkeeper
from gateway.sftp.defender.tallies import Tally
from gateway.sftp.papers.stores import Stores
from gateway.sftp.session.pool import Pool
from gateway.sftp.session.shares import Shares
from gateway.sftp.workers.relay import AnySession

log = structlog.get_logger()

FIRST_FACTORS_SECONDS = 1.0  # how long it takes at the most until a first password is asked for
ABORT_SECONDS = 0.5  # between a goodbye and the end of the connection
IDLE_ABORT_SECONDS = 5.0


class Logins:
    """See `authentication.Host`. `reading` are the threads for what waits for keyd, `new_session` makes a session of a login."""

    def __init__(
        self,
        settings: Callable[[], GatewaySettings],
        stores: Stores,
        pool: Pool,
        reading: Pool,
        defender: Defender,
        doorkeeper: Doorkeeper,
        tally: Callable[[str], Tally],
        new_session: Callable[[Login], AnySession],
        shares: Shares,
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._pool = pool
        self._reading = reading
        self._defender = defender
        self._doorkeeper = doorkeeper
        self._by_name = tally("logins")
        self._new_session = new_session
        self._shares = shares
        self._passwords = PasswordChecks()
        self._first: Combination = frozenset({"publickey"})
        self._first_until = 0.0
        self._catalog_fault = LastingFault("login.catalog_unavailable")
        self.live: set[Login] = set()

    def close(self) -> None:
        """Wait for the passwords that are being checked."""
        self._passwords.close()

    # what a login asks

    @property
    def notice(self) -> str:
        """The banner."""
        return self._settings().notice

    async def look_up(self, name: str) -> Account | None:
        """Who may log in under `name`; None as well when the catalog cannot be read."""
        return await look_up(self._stores.catalog, name, self._pool.run)

    async def first_factors(self) -> Combination:
        """With which factors anybody may begin; asked of the catalog once a second at the most."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._first_until:
            self._first_until = loop.time() + FIRST_FACTORS_SECONDS
            try:
                passwords = await self._pool.run(self._stores.catalog.any_password)
            except NightsafeError as error:
                self._catalog_fault.met(error)
            else:
                self._catalog_fault.over()
                self._first = frozenset({"publickey", "password"} if passwords else {"publickey"})
        return self._first

    def wanted(self, person: Person) -> tuple[Combination, ...]:
        """What suffices for this person: their own rule, or their role's."""
        settings = self._settings()
        of_role = {"client": settings.require_client, "staff": settings.require_staff, "auditor": settings.require_auditor}[person.role]
        return combinations(person.require, of_role, totp=person.totp)

    async def check_password(self, kept: str | None, password: str, address: str) -> bool:
        """See `passwords`."""
        return await self._passwords.check(kept, password, address)

    async def check_code(self, person: str, code: str) -> bool:
        """Asked of keyd; False as well while it is away."""
        try:
            return await self._reading.run(lambda: self._stores.keys.check_code(person, code))
        except NightsafeError as error:
            log.warning("login.code_not_checked", person=person, error=error.message)
            return False

    async def check_certificate(self, signer: bytes, facts: CertificateFacts) -> bool:
        """Whether our CA signed it and nobody revoked it; False as well when that cannot be told."""
        try:
            return await self._pool.run(lambda: self._is_good(signer, facts))
        except NightsafeError as error:
            log.warning("login.certificate_not_checked", error=error.message)
            return False

    def _is_good(self, signer: bytes, facts: CertificateFacts) -> bool:
        """Blocking: certificates are rare, and the CA may have been made since the start."""
        revoked = self._stores.catalog.is_revoked(facts.serial, facts.key_id, facts.fingerprint)
        return signer == user_ca(self._stores.folder) and not revoked

    def new_session(self, login: Login) -> AnySession:
        """A session for a person who has logged in."""
        return self._new_session(login)

    # what a login tells

    def login_failed(self, login: Login, attempts: int, reason: str) -> None:
        """A connection that tried under a name did not get in under it: recorded, and counted against its address."""
        self._defender.failed(login.address, attempts)
        facts: dict[str, Any] = {"person": login.asked, "address": login.address, "software": login.software, "attempts": attempts}
        try:
            told = self._stores.recorder.login_failed(**facts, reason=reason)
        except NightsafeError:
            told = True  # by the log alone
        if told:
            # fail2ban and CrowdSec read this line: config/fail2ban, config/crowdsec. What strangers choose comes after the address.
            log.warning("login.failed", address=login.address, attempts=attempts, reason=reason, person=login.asked)

    def logged_in(self, login: Login) -> None:
        """A connection is a person's from now on, unless that cannot be recorded, or they have too many."""
        if login.connection is None or login.account is None:
            return
        self._doorkeeper.has_logged_in(login.connection)
        login.connection.share = self._shares.of(login.account.person.name)
        try:
            self._stores.recorder.logged_in(login.account.person, self._facts_of(login))
        except NightsafeError as error:  # what cannot be recorded does not happen
            log.warning("login.not_recorded", error=error.message)
            login.connection.disconnect(asyncssh.DISC_BY_APPLICATION, "no logins at the moment; please try again later")
            return
        self.live.add(login)
        self._by_name.add(login.asked)
        if self._by_name.of(login.asked) > self._settings().max_sessions_per_person:
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
            facts["notice"] = notice_version(self._settings())
        return facts

    def ended(self, login: Login) -> None:
        """A connection on which somebody had logged in is gone."""
        if login in self.live:
            self.live.discard(login)
            self._by_name.drop(login.asked)

    # ends

    def _watch_idle(self, login: Login) -> None:
        loop = asyncio.get_running_loop()
        left = self._settings().idle_seconds - (loop.time() - login.touched_at)
        if login.connection is None:
            return
        if left <= 0 and not login.is_busy:
            log.info("session.idle", person=login.asked)
            login.connection.disconnect(asyncssh.DISC_BY_APPLICATION, "idle for too long")
            loop.call_later(IDLE_ABORT_SECONDS, login.connection.abort)
            return
        loop.call_later(max(left, 1.0), self._watch_idle, login)

    def revoke(self, login: Login, why: str) -> None:
        """Nothing more is handled for this login; what is open is given up as broken off, and can be resumed once it may log in again."""
        person = login.person
        if login.connection is None or person is None:
            return
        _end(login)
        facts: dict[str, Any] = {"person": person.name, "client": person.client, "address": login.address, "software": login.software}
        try:
            self._stores.recorder.revoked(**facts, reason=why)
        except NightsafeError as error:  # a full disk keeps nobody in, nor those who are to go next
            log.warning("session.revoked", **facts, reason=why, not_recorded=error.message)

    def told(self) -> list[dict[str, Any]]:
        """Who is logged in here, for `nightsafe sessions`."""
        return [login.facts() for login in self.live]

    def kill(self, number: str, by: str) -> bool:
        """End the login of this id; False when there is none. `by` is who asked for it."""
        for login in self.live:
            if login.id == number and login.connection is not None:
                _end(login)
                self._stores.recorder.killed(person=login.asked, address=login.address, login=login.id, by=by)
                return True
        return False


def _end(login: Login) -> None:
    """Handle nothing more for a login, and end its connection."""
    for session in list(login.sessions):
        session.stop()
    if login.connection is not None:
        login.connection.disconnect(asyncssh.DISC_BY_APPLICATION, "your access has ended")
        asyncio.get_running_loop().call_later(ABORT_SECONDS, login.connection.abort)  # a peer that takes nothing any more


def user_ca(folder: DataFolder) -> bytes | None:
    """Blocking: the public half of the CA for logins in its wire form; None where there is none."""
    try:
        return base64.b64decode(Keyring(folder).public_half(USER_CA).split()[1], validate=True)
    except (NightsafeError, IndexError, ValueError):
        return None


def notice_version(settings: GatewaySettings) -> str:
    """The version that the firm gave its banner, or else a name for this very text."""
    return settings.notice_version or "sha256:" + hashlib.sha256(settings.notice.encode()).hexdigest()[:16]
