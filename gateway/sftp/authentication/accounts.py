"""Who may log in under a name, from where, and with what: what the catalog says, judged. Only `find` and `look_up` read anything.

A known name and an unknown one cost the same look into the catalog, so that the time tells nothing.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import structlog

from config.errors import NightsafeError
from gateway.catalog import Client, Person, PublicKey
from gateway.catalog.factors import Combination, suffices
from gateway.catalog.names import check_name
from gateway.catalog.networks import allowed

log = structlog.get_logger()

NOBODY = "nobody"  # looked up for names that cannot be one


class Known(Protocol):
    """The part of the catalog that logins need. Blocking."""

    def person(self, name: str) -> Person | None:
        """The person of this name."""
        ...

    def client(self, name: str) -> Client | None:
        """The client of this name."""
        ...

    def clients(self) -> list[Client]:
        """All of them."""
        ...

    def any_password(self) -> bool:
        """Whether anybody has a password."""
        ...

    def is_revoked(self, serial: int, key_id: str, fingerprint: str) -> bool:
        """Whether a certificate was revoked, by any of its names."""
        ...


@dataclass(frozen=True)
class Account:
    """Somebody who may log in. `clients` are those of whom they see something: one for the role `client`, all for an auditor.

    `found_at` is when the catalog was asked, by `time.monotonic`: a login keeps its account while the catalog goes on.
    """

    person: Person
    clients: tuple[Client, ...]
    found_at: float = field(default=float("-inf"), compare=False)

    @property
    def realm(self) -> frozenset[str]:
        """The names of the clients whose papers the login stands and falls with; an auditor's with none."""
        return frozenset() if self.person.role == "auditor" else frozenset(client.name for client in self.clients)


@dataclass(frozen=True)
class CertificateFacts:
    """A user certificate that was shown: what it can be revoked by. `fingerprint` is of the key that it certifies."""

    serial: int
    key_id: str
    fingerprint: str
    valid_before: datetime | None


@dataclass(frozen=True)
class Shown:
    """What somebody has shown so far."""

    factors: Combination = frozenset()
    fingerprint: str = ""
    certificate: CertificateFacts | None = None
    password_hash: str = field(default="", repr=False)  # against which the password was checked
    totp_since: datetime | None = None  # of the second factor whose code was checked


def find(catalog: Known, name: str) -> Account | None:
    """Blocking: who may log in under `name` now, from anywhere; None for everybody else."""
    now = time.monotonic()
    try:
        check_name(name)
    except NightsafeError:
        name = NOBODY
        person = catalog.person(name) and None
    else:
        person = catalog.person(name)
    names = ([person.client] if person.client else list(person.clients)) if person is not None else [name]
    clients = tuple(client for one in names or [name] if (client := catalog.client(one)) is not None and client.active)
    if person is None or not admissible(person, datetime.now(UTC)):
        return None
    if person.role == "auditor":
        return Account(person, tuple(catalog.clients()), now)
    return Account(person, tuple(client for client in clients if person.sees(client.name)), now) if clients else None


async def look_up(catalog: Known, name: str, run: Callable[[Callable[[], Account | None]], Awaitable[Account | None]]) -> Account | None:
    """`find`, by `run` in a thread. A catalog that cannot be read lets nobody in."""
    try:
        return await run(lambda: find(catalog, name))
    except NightsafeError as error:
        log.warning("login.catalog_unavailable", error=error.message)
        return None


def admissible(person: Person, now: datetime) -> bool:
    """Whether a person may log in at all, as far as that is up to them. Pure."""
    return person.active and (person.expires_at is None or now < person.expires_at)


def key_of(person: Person, offered: bytes, address: str, now: datetime) -> PublicKey | None:
    """The one of the person's keys that was `offered` (its SSH wire form), if it may be used now and from `address`. Pure."""
    found = None
    for key in person.keys:
        try:
            blob = base64.b64decode(key.line.split()[1], validate=True)
        except (IndexError, binascii.Error, ValueError):
            continue
        if hmac.compare_digest(blob, offered) and usable(key, address, now):
            found = key
    return found


def usable(key: PublicKey, address: str, now: datetime) -> bool:
    """Whether a key may be used now and from `address`. Pure."""
    return (key.expires_at is None or now < key.expires_at) and allowed(key.allow_from, address)


def still_holds(account: Account | None, realm: frozenset[str], shown: Shown, wanted: tuple[Combination, ...], address: str, now: datetime) -> bool:
    """Whether a live login would be let in again as it was: the same clients, from the same address, with what was shown then. Pure.

    Whether a certificate was revoked is for the caller to ask.
    """
    if account is None or account.realm != realm or not allowed(account.person.allow_from, address) or not suffices(wanted, shown.factors):
        return False
    if "password" in shown.factors and account.person.password_hash != shown.password_hash:  # taken away, or changed
        return False
    if "totp" in shown.factors and (not account.person.totp or account.person.totp_since != shown.totp_since):  # the same
        return False
    if "publickey" not in shown.factors:
        return True
    if shown.certificate is not None:
        return shown.certificate.valid_before is None or now < shown.certificate.valid_before
    return any(key.fingerprint == shown.fingerprint and usable(key, address, now) for key in account.person.keys)


def ends_at(account: Account, shown: Shown) -> datetime | None:
    """When the login ends by itself: the first of the person's, the key's and the certificate's end. Pure."""
    ends = [account.person.expires_at, shown.certificate.valid_before if shown.certificate else None]
    ends += [key.expires_at for key in account.person.keys if shown.certificate is None and key.fingerprint == shown.fingerprint]
    return min((end for end in ends if end is not None), default=None)
