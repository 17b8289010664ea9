"""keyd's answer about the code of a second factor: whether it is the person's, now, and for the first time.

Guessing is slow: GUESSES wrong ones at once, then one in GUESS_SECONDS. Only somebody who has shown the first factor gets here, so no
stranger can use the limit to lock a person out.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from math import ceil

from config.errors import NightsafeError
from config.words import counted
from gateway.age import Identity
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.keys.errors import KeydUnavailable, KeyLimited, KeyRefused
from gateway.keys.keyring import Keyring
from gateway.keys.limits import MAX_PEOPLE, TokenBucket
from gateway.keys.totp import UsedCodes, matching_step

GUESSES, GUESS_SECONDS = 8, 60.0


class Codes:
    """Checks codes. Thread-safe. `wall` gives seconds since the epoch, `clock` any monotonic ones."""

    def __init__(
        self,
        keyring: Keyring,
        master: Identity,
        catalog: Catalog,
        audit: AuditLog,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._keyring = keyring
        self._master = master
        self._catalog = catalog
        self._audit = audit
        self._clock = clock
        self._wall = wall
        self._used = UsedCodes(keyring.folder.totp_used, wall)
        self._lock = threading.Lock()
        self._guesses: OrderedDict[str, TokenBucket] = OrderedDict()

    def check(self, person: str, code: str) -> None:
        """Return when the code is right, and use it up. Raises KeyRefused, KeyLimited, KeydUnavailable."""
        known = self._catalog.person(person)
        if known is None or not known.active or not known.totp or (known.expires_at is not None and known.expires_at <= datetime.now(UTC)):
            raise KeyRefused("the person has no second factor", "look at: nightsafe person list")
        self._take(person)
        try:
            step = matching_step(self._keyring.open_totp(person, self._master), code, self._wall())
        except NightsafeError as error:
            raise KeydUnavailable(error.message, error.hint) from error
        if step is None:
            raise KeyRefused("the code is wrong")
        try:
            fresh = self._used.use(person, step)
        except OSError as error:
            raise KeydUnavailable(
                f"it cannot be kept that a code was used: {error.strerror}", "free some space on the disk of the data folder"
            ) from error
        if not fresh:
            raise KeyRefused("the code was used before")
        self._give_back(person)
        self._audit.append(Event.CODE_ACCEPTED, person=person)

    def _take(self, person: str) -> None:
        """A guess is paid for before it is judged: several at once are no way around the limit."""
        with self._lock:
            bucket = self._bucket(person)
            wait = bucket.wait(1, self._clock())
            if wait == 0:
                bucket.take(1)
        if wait > 0:
            raise KeyLimited("too many wrong codes", f"try again in {counted(ceil(wait), 'second')}", retry_seconds=wait)

    def _give_back(self, person: str) -> None:
        with self._lock:
            self._bucket(person).take(-1)

    def _bucket(self, person: str) -> TokenBucket:
        bucket = self._guesses.pop(person, None) or TokenBucket(GUESSES, 1 / GUESS_SECONDS, self._clock())
        self._guesses[person] = bucket
        while len(self._guesses) > MAX_PEOPLE:
            self._guesses.popitem(last=False)
        return bucket
