"""Doorkeeper: which connections may be there at all, before anybody has said who they are.

Few may be there without a login. When there are as many as may be, a new one takes the place of another: of the oldest one from where most of them
come (an IPv4 address, or the /64 of an IPv6 one). Whoever only holds connections open has the oldest; whoever logs in is done in a moment. sshd's
MaxStartups draws lots for the new one instead, and somebody who holds all places keeps them. What is younger than YOUNG_SECONDS stays, so that
a flood cannot throw out those who are just logging in; then it is the new ones that are turned away. And nobody takes a place from where fewer come
than would, with the new one, from its own: a crowd makes room among itself.

The same holds where all places are taken, of those who have logged in and those who have not: strangers cannot keep anybody out by waiting. Only when
everybody there has logged in, the next one is turned away, and is told so; floods are turned away without a word.
"""

from __future__ import annotations

import resource
import time
from collections import Counter, deque
from collections.abc import Callable

import structlog

from config.settings import GatewaySettings
from gateway.sftp.defender.bans import group_of
from gateway.sftp.defender.defender import SILENT_POINTS, Defender
from gateway.sftp.defender.tallies import Tally
from gateway.sftp.transport.connection import FAREWELL_SECONDS, GuardedConnection

log = structlog.get_logger()

YOUNG_SECONDS = 2.0  # about what a login takes from the other side of the world
FULL = "the server has all the connections that it may have; try again in a few minutes"
FAREWELLS = 10  # at once
EACH = 4  # descriptors for a connection: its own, two of its client's folders, one for a paper
TELL_SECONDS = 10.0  # between two lines of the log about a crowd


def descriptors() -> int:
    """How many this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Doorkeeper:
    """The gate of one process's connections (see `transport.Gate`). `tally` gives the count of a kind, over all `workers`."""

    def __init__(
        self,
        settings: Callable[[], GatewaySettings],
        defender: Defender,
        tally: Callable[[str], Tally],
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
        may_open: Callable[[], int] = descriptors,
    ) -> None:
        self._settings = settings
        self._may_open = may_open
        self._defender = defender
        self._everyone = tally("connections")
        self._unauthenticated = tally("unauthenticated")
        self._workers = workers
        self._clock = clock
        self._waiting: dict[GuardedConnection, float] = {}  # counted as unauthenticated here, and since when; the oldest first
        self._crowded: Counter[str] = Counter()
        self._told_at = float("-inf")
        self._farewells: deque[float] = deque()
        self.connections: set[GuardedConnection] = set()

    @property
    def max_auth_attempts(self) -> int:
        """Failed attempts to log in after which a connection is cut."""
        return self._settings().max_auth_attempts

    def admit(self, connection: GuardedConnection) -> bool:
        """Whether one more connection is taken; another one may have to go for it."""
        if self._defender.refuses(connection.address):
            return False
        # Who is in must be able to work: without descriptors nothing could be opened, and what waits to be accepted would hang there.
        is_full = self._everyone.total >= self._settings().max_connections or len(self.connections) >= self._may_open() // EACH
        if not self._make_room(group_of(connection.address), is_full):
            connection.farewell = FULL if is_full and self._may_say_farewell() else ""
            self._tell("turned_away")
            return False
        self.connections.add(connection)
        self._everyone.add("")
        self._waiting[connection] = self._clock()
        self._unauthenticated.add(group_of(connection.address))
        return True

    def has_logged_in(self, connection: GuardedConnection) -> None:
        """It is a person's from now on."""
        self._drop(connection)

    def gone(self, connection: GuardedConnection) -> None:
        """An admitted connection has ended."""
        self.connections.discard(connection)
        self._everyone.drop("")
        self._drop(connection)
        if not connection.is_logged_in and connection.spoke and not connection.failures:
            self._defender.failed(connection.address, SILENT_POINTS)

    def _drop(self, connection: GuardedConnection) -> None:
        if self._waiting.pop(connection, None) is not None:
            self._unauthenticated.drop(group_of(connection.address))

    def _make_room(self, group: str, is_full: bool) -> bool:
        """Let one that has not logged in go where the bounds ask for it, as they do when all places are taken (`is_full`); False when none may."""
        settings = self._settings()
        own = self._unauthenticated.of(group) >= settings.max_unauthenticated_per_address
        # a worker may have its share in any case: it can end none of the others' connections
        crowded = self._unauthenticated.total >= settings.max_unauthenticated and len(self._waiting) >= settings.max_unauthenticated // self._workers
        if not own and not crowded and not is_full:
            return True
        victim = self._victim(group, own=own)
        if victim is None:
            return False
        self._drop(victim)
        victim.abort()
        self._tell("dropped")
        return True

    def _victim(self, group: str, *, own: bool) -> GuardedConnection | None:
        """The one that has to go for one more of `group`; `own`: it must be of the same."""
        latest = self._clock() - YOUNG_SECONDS
        crowds = Counter(group_of(connection.address) for connection in self._waiting)
        newcomers = crowds[group] + 1
        found, most = None, 0
        for connection, since in self._waiting.items():
            if since > latest:
                break
            place = group_of(connection.address)
            if crowds[place] > most and (place == group or (not own and crowds[place] >= newcomers)):
                found, most = connection, crowds[place]
        return found

    def _may_say_farewell(self) -> bool:
        """Few at once: each holds a socket for a moment."""
        now = self._clock()
        while self._farewells and self._farewells[0] <= now - FAREWELL_SECONDS:
            self._farewells.popleft()
        if len(self._farewells) >= FAREWELLS:
            return False
        self._farewells.append(now)
        return True

    def _tell(self, what: str) -> None:
        """One line now and then: connections that were dropped for others, and such as were turned away."""
        self._crowded[what] += 1
        now = self._clock()
        if now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            log.warning("connections.crowded", **self._crowded)
            self._crowded.clear()
