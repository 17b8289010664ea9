"""What keyd decides, and how it opens a paper's key. No sockets here: keyd serves it, and the command line uses it when it holds the master itself.

A key is given when the catalog, read at that moment, knows the person as active and as belonging to that client (or the person is ops), the
rate limits allow it, the header on the disk is the one that was catalogued, and the audit log has taken the event. In that order.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any

from config.errors import NightsafeError
from config.words import counted
from gateway.age import AgeError, Identity, NoMatchError, header_mac, unwrap
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.catalog.standing import Standing
from gateway.keys.codes import Codes
from gateway.keys.errors import KeyGone, KeyLimited, KeyRefused
from gateway.keys.keyring import Keyring
from gateway.keys.limits import KeyLimits, TokenBucket
from gateway.keys.protocol import OPS_PREFIX, CodeRequest, HeadersRequest, PaperRequest, Question, Request
from gateway.store import Spool, SpoolDamaged, SpoolGone, Vault, VaultGone
from gateway.store.format import SpoolHeader
from gateway.store.paper_keys import file_key

CACHE_SECONDS = 180.0
CACHED_CLIENTS = 1000
REFUSALS_AT_ONCE, REFUSALS_PER_SECOND = 600, 10.0  # audit lines about refusals: a flood of them must not fill the disk

_DEPOSITED = ("the client's papers can be deposited, not read: no key on this machine opens them", "they open with the client's own identity alone")
_NO_KEY = ("no key on this machine opens the paper", "its key may have been destroyed")


def refusal(standing: Standing, request: Request, now: datetime) -> str | None:
    """Why the person may have no key of that client; None when they may. Pure. `standing` is what the catalog says now."""
    if request.person.startswith(OPS_PREFIX):
        return None
    if isinstance(request, HeadersRequest):
        return "only ops may ask for keys of restored papers"
    if standing.person_active is None:
        return "unknown person"
    if not standing.person_active or (standing.expires_at is not None and standing.expires_at <= now):
        return "the person is not active"
    if standing.client_active is None:
        return "unknown client"
    if not standing.sees:
        return "the person does not belong to this client"
    if not standing.client_active:
        return "the client is suspended"
    if request.where == "quarantine":
        return "only ops may read the quarantine"
    return None


class IdentityCache:
    """Opened identities by folder, for CACHE_SECONDS at most and only while the folder is unchanged: what is removed on disk is gone at once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[Path, tuple[float, tuple[int, int], list[Identity]]] = OrderedDict()

    def get(self, folder: Path, load: Callable[[], list[Identity]]) -> list[Identity]:
        """The identities in `folder`, as `load` opens them; empty when there is no such folder."""
        try:
            facts = os.stat(folder)
        except FileNotFoundError:
            self._forget(folder)
            return []
        stamp = (facts.st_ino, facts.st_mtime_ns)
        with self._lock:
            until, kept_stamp, identities = self._kept.get(folder, (0.0, stamp, []))
        if identities and self._clock() < until and kept_stamp == stamp:
            return identities
        identities = load()
        with self._lock:
            self._kept[folder] = (self._clock() + CACHE_SECONDS, stamp, identities)
            while len(self._kept) > CACHED_CLIENTS:
                self._kept.popitem(last=False)
        return identities

    def expire(self) -> None:
        """Forget what is too old."""
        now = self._clock()
        with self._lock:
            for folder in [folder for folder, (until, _, _) in self._kept.items() if until <= now]:
                del self._kept[folder]

    def _forget(self, folder: Path) -> None:
        with self._lock:
            self._kept.pop(folder, None)


class KeyService:
    """Opens keys. Thread-safe. `limits` is None where a person holds the master themselves: limits would protect nothing there."""

    def __init__(
        self,
        keyring: Keyring,
        master: Identity,
        catalog: Catalog,
        audit: AuditLog,
        *,
        limits: KeyLimits | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        folder = keyring.folder
        self._folder = folder
        self._keyring = keyring
        self._master = master
        self._catalog = catalog
        self._audit = audit
        self._limits = limits
        self._clock = clock
        self._spool: Spool | None = None
        self._vaults = {"vault": Vault(folder.vault), "quarantine": Vault(folder.quarantine)}
        self._cache = IdentityCache(clock)
        self._codes = Codes(keyring, master, catalog, audit)
        self._lock = threading.Lock()
        self._refusals = TokenBucket(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND, clock())
        self._suppressed = 0
        self._synced = ""

    def answer(self, request: Question) -> list[bytes | None]:
        """The key for a paper (a list of one), or a key or None for each header. Raises KeyRefused, KeyLimited, KeyGone, …"""
        try:
            if isinstance(request, CodeRequest):
                self._codes.check(request.person, request.code)
                return []
            paper = request.paper if isinstance(request, PaperRequest) else ""
            standing = self._catalog.standing(request.person, request.client, paper)
            self._admit(request, standing)
            return [self._paper(request, standing)] if isinstance(request, PaperRequest) else self._headers(request)
        except NightsafeError as error:
            self.record_refusal(error.message, request)
            raise

    def record_refusal(self, why: str, request: Question | None = None) -> None:
        """An audit line for a no; beyond some lines a second only their number is kept, and told by the next line."""
        with self._lock:
            now = self._clock()
            if self._refusals.wait(1, now) > 0:
                self._suppressed += 1
                return
            self._refusals.take(1)
            suppressed, self._suppressed = self._suppressed, 0
        self._audit.append(Event.KEY_REFUSED, why=why, suppressed=suppressed, **_asked(request))

    def tick(self) -> None:
        """Once a second or so: forget old identities, make the audit log durable. A grant itself does not wait for the disk."""
        self._cache.expire()
        if (head := self._audit.head) != self._synced:
            self._audit.sync()
            self._synced = head

    def _admit(self, request: Request, standing: Standing) -> None:
        if why := refusal(standing, request, datetime.now(UTC)):
            raise KeyRefused(why, "look at: nightsafe person list")
        if self._limits is None:
            return
        with self._lock:
            wait = self._limits.take(request.person, 1 if isinstance(request, PaperRequest) else len(request.headers), self._clock())
        if wait > 0:
            raise KeyLimited("too many keys were asked for in a minute", f"try again in {counted(ceil(wait), 'second')}", retry_seconds=wait)

    def _paper(self, request: PaperRequest, standing: Standing) -> bytes:
        try:
            if request.where == "spool":
                key = file_key(self._spool_header(request, standing), self._identities(request))
            else:
                key = unwrap(self._vault_header(request, standing), self._identities(request))
        except NoMatchError:
            raise KeyRefused(*(_DEPOSITED if standing.custody == "deposit-only" else _NO_KEY)) from None
        except AgeError as error:
            raise _damaged(error) from error
        self._record_grant(request, request.paper, request.where)
        return key

    def _headers(self, request: HeadersRequest) -> list[bytes | None]:
        identities = self._identities(request)
        keys: list[bytes | None] = []
        for paper, header in request.headers:
            try:
                key = unwrap(header, identities)
            except AgeError as error:
                self._audit.append(Event.KEY_REFUSED, why=error.message, **_asked(request) | {"paper": paper})
                keys.append(None)
            else:
                self._record_grant(request, paper, "restored")
                keys.append(key)
        return keys

    def _record_grant(self, request: Request, paper: str, where: str) -> None:
        self._audit.append(Event.KEY_GRANTED, **_asked(request) | {"paper": paper, "where": where})

    def _identities(self, request: Request) -> list[Identity]:
        if isinstance(request, PaperRequest) and request.where == "spool":
            return self._cache.get(self._folder.ingest_keys, lambda: self._keyring.ingest_identities(self._master))
        return self._cache.get(self._folder.client_keys(request.client), lambda: self._keyring.client_identities(request.client, self._master))

    def _spool_header(self, request: PaperRequest, standing: Standing) -> SpoolHeader:
        try:
            state, header = self._open_spool().describe(request.paper)
        except SpoolGone:
            raise KeyGone("the paper is not in the spool", "it may be in the vault by now") from None
        except SpoolDamaged as error:
            raise _damaged(error) from error
        if header.client != request.client or header.paper != request.paper:
            raise KeyRefused("the paper belongs to another client")
        if state == "landed" and standing.custody == "deposit-only":
            raise KeyRefused(*_DEPOSITED)  # it opens still, until ingest has sealed it: the rule does not wait for that
        if state == "landed" and standing.is_staff:
            raise KeyRefused("the paper is not accepted yet: it is being checked, or held", "look at: nightsafe held list")
        return header

    def _open_spool(self) -> Spool:
        """Opened late: a restored data folder has no key for the spool, and its vault is to be read all the same."""
        with self._lock:
            if self._spool is None:
                self._spool = Spool(self._folder.spool_partial, self._folder.spool_landed, self._keyring.ingest_recipient)
            return self._spool

    def _vault_header(self, request: PaperRequest, standing: Standing) -> bytes:
        try:
            header = self._vaults[request.where].header(request.client, request.paper)
        except VaultGone:
            raise KeyGone(f"the paper is not in the {request.where}") from None
        except AgeError as error:
            raise _damaged(error) from error
        if standing.paper_client not in (None, request.client):
            raise KeyRefused("the paper belongs to another client")
        # age says nothing about who sealed a file: that it is the one which ingest sealed, only the catalog knows
        if standing.header_mac is not None and standing.header_mac != header_mac(header).hex():
            raise KeyRefused("the stored paper is not the one that was catalogued", "somebody swapped or damaged it; restore it from a backup")
        return header


def _damaged(error: NightsafeError) -> KeyRefused:
    return KeyRefused(f"the paper is damaged: {error.message}", "restore it from a backup")


def _asked(request: Question | None) -> dict[str, Any]:
    if request is None:
        return {}
    if isinstance(request, CodeRequest):
        return {"person": request.person, "reason": "login"}
    facts: dict[str, Any] = {"client": request.client, "person": request.person, "reason": request.reason}
    if isinstance(request, PaperRequest):
        facts |= {"paper": request.paper, "where": request.where}
    return facts
