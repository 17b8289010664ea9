"""Shares: how much of each turn of the event loop one person has, however many sessions and connections they divide it among.

Each session handles requests as they come, and counts the time. When a person's time is spent, all sessions of theirs wait for the next turn and go
on there in the order in which they stopped. So a flood from thirty sessions holds up the others as long as one from a single session does, which is
a turn and a little. While nobody else is there turns are longer: each one costs a look at all sockets.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from weakref import WeakValueDictionary

TURN_SECONDS = 0.0005
LONE_TURN_SECONDS = 0.002  # while nobody else has a session


class Share:
    """One person's, in this process. `left` is what they have of this turn, in seconds; below zero when it is spent."""

    def __init__(self, turn_seconds: Callable[[], float] = lambda: TURN_SECONDS) -> None:
        self._turn_seconds = turn_seconds
        self.left = turn_seconds()
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def spend(self, seconds: float) -> None:
        """So much was used. A share that is spent is renewed in the next turn, and not only when somebody asks again."""
        self.left -= seconds
        if self.left <= 0:
            self._schedule()

    def later(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` in the next turn, or in the one after it when those before it need all of the next."""
        self._waiting.append(go_on)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._is_scheduled = False
        self.left = self._turn_seconds()
        for _ in range(len(self._waiting)):  # those who stop again are behind the others
            if self.left <= 0:
                break
            self._waiting.popleft()()
        if self._waiting:
            self._schedule()


class Shares:
    """Everybody's: one Share for each person who has a session."""

    def __init__(self) -> None:
        self._by_person: WeakValueDictionary[str, Share] = WeakValueDictionary()

    def of(self, person: str) -> Share:
        """The same for all sessions of a person."""
        found = self._by_person.get(person)
        if found is None:
            found = self._by_person[person] = Share(self._turn_seconds)
        return found

    def _turn_seconds(self) -> float:
        return TURN_SECONDS if len(self._by_person) > 1 else LONE_TURN_SECONDS
