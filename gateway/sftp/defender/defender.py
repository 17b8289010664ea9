"""Turns away addresses that try too often. Decides from memory; the file that the processes share is written twice a second at the most. What
workers see between two writes they count in memory that they share, so that a burst gets no further with many of them than with one.

Only addresses are ever banned, never a name: no stranger can lock anybody out by failing under their name. An IPv6 /64 counts as one
address. Points go to connections that ended without a login; those of people who got in at last cost nothing, but for what they tried under
other names.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from config.errors import NightsafeError
from config.lasting import LastingFault
from gateway.catalog.networks import contains, parse_address
from gateway.sftp.defender.bans import Ban, BanStore, Rules, group_of
from gateway.sftp.defender.tallies import Recent
from gateway.sftp.session.pool import Pool

log = structlog.get_logger()

SYNC_SECONDS = 0.5
PRUNE_SECONDS = 300.0
MOST_WAITING = 20_000  # addresses whose points wait to be written; those of further ones are lost
SILENT_POINTS = 0.25  # a connection that said something, and tried no login: scanners, and monitors


class Defender:
    """For one gateway process. `refuses` and `failed` never wait."""

    def __init__(
        self,
        store: BanStore,
        rules: Rules,
        trusted: Sequence[str],
        tell: Callable[[Ban], None],
        clock: Callable[[], float] = time.time,
        recent: Recent | None = None,
    ) -> None:
        """`recent`: this is one worker of several."""
        self._store = store
        self.obey(rules, trusted)
        self._pool = Pool(1, "sftp-defender")
        self._tell = tell
        self._clock = clock
        self._recent = recent
        self._bans: dict[str, Ban] = {}
        self._points: dict[str, float] = {}
        self._took_at = clock()  # those before were taken to be written
        self._turned_away = 0
        self._pruned_at = 0.0

    def obey(self, rules: Rules, trusted: Sequence[str]) -> None:
        """Other rules and exemptions from now on. Bans that were made stay as long as they were said to last."""
        self._rules = rules
        self._trusted = tuple(trusted)

    def refuses(self, address: str) -> bool:
        """Whether a new connection is turned away. A look into a dictionary or two, and two cells of each worker."""
        group = group_of(address)
        ban = self._bans.get(group)
        banned = (ban is not None and ban.until > self._clock()) or self._is_bursting(group)
        if banned and not self._is_trusted(address):
            self._turned_away += 1
            return True
        return False

    def failed(self, address: str, points: float) -> None:
        """A connection from `address` ended without a login."""
        group = group_of(address)
        if not self._is_trusted(address) and (group in self._points or len(self._points) < MOST_WAITING):
            self._points[group] = self._points.get(group, 0.0) + points
            if self._recent is not None:
                self._recent.add(group, points)

    async def keep(self) -> None:
        """Share what was seen, until cancelled."""
        fault = LastingFault("defender.not_kept")
        while True:
            try:
                await self.sync()
                fault.over()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                fault.met(error)
            await asyncio.sleep(SYNC_SECONDS)

    async def sync(self) -> None:
        """Write the points of the last moments, and read everybody's bans. Raises OutOfReach; what was not written is for the next time."""
        now, made = self._clock(), list[Ban]()
        points, self._points = self._points, {}
        passed, self._took_at = max(0.0, now - self._took_at), now
        if self._turned_away:
            log.info("defender.turned_away", connections=self._turned_away)
            self._turned_away = 0
        try:
            self._bans = await self._pool.run(lambda: self._exchange(points, made))
        except Exception:
            self._put_back(points, passed)
            raise
        finally:
            if self._recent is not None:
                self._recent.turn()
            for ban in made:
                log.warning("address.banned", address=ban.address, seconds=round(ban.until - ban.since), level=ban.level)
                with suppress(NightsafeError):
                    self._tell(ban)

    async def close(self) -> None:
        """Write what waits, and close the file."""
        with suppress(NightsafeError):
            await self.sync()
        self._pool.close()
        self._store.close()

    def _exchange(self, points: dict[str, float], made: list[Ban]) -> dict[str, Ban]:
        """Blocking. Nothing is left of `points` once they are written; the bans that they led to are `made`."""
        now = self._clock()
        if points:
            made += self._store.add(points, self._rules, now, "failed logins")
            points.clear()
        if now - self._pruned_at >= PRUNE_SECONDS:
            self._pruned_at = now
            self._store.prune(self._rules, now)
        return self._store.bans(now)

    def _put_back(self, points: dict[str, float], passed: float) -> None:
        """Without the file nobody would be turned away, however often they try. Points go by as they do there."""
        gone = passed * self._rules.limit / self._rules.window
        for group, before in points.items():
            if before > gone and (group in self._points or len(self._points) < MOST_WAITING):
                self._points[group] = self._points.get(group, 0.0) + before - gone

    def _is_bursting(self, group: str) -> bool:
        """Whether a ban is about to come. A little of what others saw is forgiven before they write it: exactly the limit may not suffice."""
        if self._points.get(group, 0.0) >= self._rules.limit:
            return True
        return self._recent is not None and self._recent.of(group) > self._rules.limit

    def _is_trusted(self, address: str) -> bool:
        return bool(self._trusted) and contains(self._trusted, parse_address(address))
