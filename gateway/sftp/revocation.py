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

import structlog

from config.errors import NightsafeError
from gateway.catalog.database import Changes
from gateway.sftp.authentication import Known, Login, find

log = structlog.get_logger()

POLL_SECONDS = 0.25


class Watched(Known, Protocol):
    """The part of the catalog that is watched. Blocking."""

    def changes(self) -> Changes: ...

    def access_mark(self) -> bytes: ...


class Revocation:
    """The watch of one gateway process. `run` runs something blocking; `logins` are those alive; `end` ends one, with a word for the log."""

    def __init__(
        self,
        catalog: Watched,
        run: Callable[[Callable[[], set[str]]], Awaitable[set[str]]],
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
        self._checked: set[Login] = set()  # looked at since they logged in: one that was let in while the change was made is not yet
        self._ended: set[Login] = set()  # told to go, and not gone yet

    async def keep(self) -> None:
        """Watch until cancelled. A catalog that cannot be read ends nobody's session; it is asked again."""
        while True:
            try:
                await self.check()
            except NightsafeError as error:
                log.warning("revocation.not_checked", error=error.message)
            except Exception as error:
                log.exception("revocation.crashed", exc_info=error)
            await asyncio.sleep(POLL_SECONDS)

    async def check(self) -> None:
        """End every login that would be refused now. Raises CatalogError."""
        logins = set(self._logins())
        self._ended &= logins
        if not logins:
            return
        names = {login.asked for login in logins}
        fresh = not logins <= self._checked
        gone = await self._run(lambda: self._refused(names, look=fresh))
        self._checked = logins
        now = datetime.now(UTC)
        for login in logins - self._ended:
            if login.asked in gone or _has_expired(login, now):
                self._ended.add(login)
                self._end(login, "may not log in any more")

    def close(self) -> None:
        """End the watch on the catalog."""
        self._changes.close()

    def _refused(self, names: set[str], *, look: bool) -> set[str]:
        """Blocking: those of `names` that may not log in now. Empty when nothing that matters has changed, unless told to `look`."""
        self._stale = self._changes.happened() or self._stale
        mark = self._catalog.access_mark() if self._stale else self._mark
        refused = {name for name in names if find(self._catalog, name) is None} if look or mark != self._mark else set()
        self._mark, self._stale = mark, False  # only now: a failure above must not hide the change
        return refused


def _has_expired(login: Login, now: datetime) -> bool:
    return login.person is not None and login.person.expires_at is not None and login.person.expires_at <= now
