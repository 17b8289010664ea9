"""Ends the live connections of those who may not log in any more, within a second of the change.

The catalog is the only messenger: whoever suspends a client or a person writes there, and is done. Each gateway process looks four times a
second whether anybody committed anything (microseconds), then whether that touched logins at all, and only then asks for each name that is
logged in what a new login would be told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from config.lasting import LastingFault
from gateway.catalog.database import Changes
from gateway.catalog.limits import Limits
from gateway.sftp.authentication.accounts import Known, find
from gateway.sftp.authentication.login import Login

POLL_SECONDS = 0.25


class Watched(Known, Protocol):
    """The part of the catalog that is watched. Blocking."""

    def changes(self) -> Changes:
        """A watch that tells whether anybody committed anything."""
        ...

    def limits(self) -> dict[str, Limits]:
        """The limits of every client by name."""
        ...

    def access_mark(self) -> bytes:
        """Changes with whatever concerns logins."""
        ...


class Revocation:
    """The watch of one gateway process. `run` runs something blocking; `logins` are those alive; `end` ends one, with a word for the log."""

    def __init__(
        self,
        catalog: Watched,
        run: Callable[[Callable[[], set[Login]]], Awaitable[set[Login]]],
        logins: Callable[[], Iterable[Login]],
        end: Callable[[Login, str], None],
    ) -> None:
        self._catalog = catalog
        self._run = run
        self._logins = logins
        self._end = end
        self._changes = catalog.changes()
        self._stale = True  # something was committed that was not looked at yet
        self._mark = b""
        self._again = False  # something else than the catalog was changed
        self._checked: set[Login] = set()  # looked at since they logged in: one that was let in while the change was made is not yet
        self._ended: set[Login] = set()  # told to go, and not gone yet

    async def keep(self) -> None:
        """Watch until cancelled. A catalog that cannot be read ends nobody's session; it is asked again."""
        fault = LastingFault("revocation.not_checked")
        while True:
            try:
                await self.check()
                fault.over()
            except Exception as error:  # noqa: BLE001 - whatever it is: nobody else ends these sessions
                fault.met(error)
            await asyncio.sleep(POLL_SECONDS)

    async def check(self) -> None:
        """End every login that would be refused now. Raises CatalogError."""
        logins = set(self._logins())
        self._ended &= logins
        if not logins:
            return
        self._end_those(logins, set())  # an end that was known before needs no catalog
        look = self._again or not logins <= self._checked
        self._again = False
        try:
            gone = await self._run(lambda: self._refused(logins, look=look))
        except BaseException:
            self._again |= look  # nobody was looked at
            raise
        self._checked = logins
        self._end_those(logins, gone)

    def _end_those(self, logins: set[Login], gone: set[Login]) -> None:
        """End those of `logins` that are `gone`, or whose time has come."""
        now = datetime.now(UTC)
        for login in logins - self._ended:
            if login in gone or (login.until is not None and login.until <= now):
                self._ended.add(login)
                self._end(login, "may not log in any more")

    def look_again(self) -> None:
        """At everybody who is logged in: the settings say something else than before."""
        self._again = True

    def close(self) -> None:
        """End the watch on the catalog."""
        self._changes.close()

    def _refused(self, logins: set[Login], *, look: bool) -> set[Login]:
        """Blocking: those of `logins` that would not be let in now as they were. Empty when nothing changed, unless told to `look`."""
        self._stale = self._changes.happened() or self._stale
        mark = self._catalog.access_mark() if self._stale else self._mark
        refused = self._look(logins) if look or mark != self._mark else set()
        self._mark, self._stale = mark, False  # only now: a failure above must not hide the change
        return refused

    def _look(self, logins: set[Login]) -> set[Login]:
        accounts = {name: find(self._catalog, name) for name in {login.asked for login in logins}}
        return {login for login in logins if not login.still_holds(accounts[login.asked]) or self._is_revoked(login)}

    def _is_revoked(self, login: Login) -> bool:
        facts = login.shown.certificate
        return facts is not None and self._catalog.is_revoked(facts.serial, facts.key_id, facts.fingerprint)
