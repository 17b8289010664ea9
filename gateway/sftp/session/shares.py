"""Shares: how much of each turn of the event loop one person has, however many sessions and connections they divide it among.

All that is done for a person counts, in time of the processor: packets that are opened, requests that are handled, and each step of one that had to
wait. When a person's time is spent, everything of theirs waits for the next turn and goes on there in the order in which it stopped. So a flood from
thirty sessions holds up the others as long as one from a single session does. Those who have not logged in yet have one share together.

While others are there, a spent share is renewed one turn later than it could be: the turn between is theirs, and whoever asks for little waits
behind one share, and not behind two. While nobody else does anything, turns are longer and nothing is put off: each turn costs a look at all sockets.
"""

from __future__ import annotations

import asyncio
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")

TURN_SECONDS = 0.0004
LONE_TURN_SECONDS = 0.002  # while nobody else does anything
FRESH_SECONDS = 0.001  # so long after it was renewed, a share that was not spent is of an earlier turn
QUESTIONS = 1  # whether a share is spent that are answered without the clock: it is asked before the first request is handled
ABOUT_SECONDS = 0.25  # so long after they did something, others are there


class Share:
    """One person's, in this process. `left` is what they have of this turn, in seconds; at or below zero when it is spent."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self.left = LONE_TURN_SECONDS
        self._renewed_at = 0.0
        self._began = 0.0
        self._unasked = 0
        self._depth = 0  # work that is being done, within other work perhaps
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def begin(self) -> None:
        """What is done until `end` counts."""
        if not self._depth:
            now = time.monotonic()
            self._shares.seen(self, now)
            if self.left > 0 and now - self._renewed_at > FRESH_SECONDS:
                self._renew(now)
            self._unasked = QUESTIONS
            self._began = time.thread_time()
        self._depth += 1

    def end(self) -> None:
        """It is done."""
        self._depth -= 1
        if not self._depth:
            self.spend(time.thread_time() - self._began)

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left, what is being done now included."""
        if not self._depth or self.left <= 0:
            return self.left <= 0
        if self._unasked:  # to read the clock takes as long as to open a small packet
            self._unasked -= 1
            return False
        return self.left - (time.thread_time() - self._began) <= 0

    @property
    def must_wait(self) -> bool:
        """Whether the others come first."""
        return not self.is_alone and self.is_spent

    @property
    def is_alone(self) -> bool:
        """Whether nobody else does anything."""
        return not self._shares.others_about(self)

    def spend(self, seconds: float) -> None:
        """So much was used. A share that is spent is renewed in the next turn, and not only when somebody asks again."""
        self.left -= seconds
        if self.left <= 0:
            self._schedule()

    def later(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` in the next turn, or in the one after it when those before it need all of the next."""
        self._waiting.append(go_on)
        self._schedule()

    def turn(self) -> asyncio.Future[None]:
        """Done in the next turn, likewise."""
        coming: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.later(lambda: None if coming.done() else coming.set_result(None))
        return coming

    def _renew(self, now: float) -> None:
        self._renewed_at = now
        self.left = LONE_TURN_SECONDS if self.is_alone else TURN_SECONDS

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next_turn if self.is_alone else self._let_others)

    def _let_others(self) -> None:
        """What came for the others in the last turn is handled before this share is renewed."""
        asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._is_scheduled = False
        self._renew(time.monotonic())
        try:
            for _ in range(len(self._waiting)):  # those who stop again are behind the others
                if self.left <= 0:
                    break
                self._waiting.popleft()()
        finally:
            if self._waiting:
                self._schedule()


class Shares:
    """Everybody's: one Share for each person who is here, and one for all `strangers`. Nobody's turns are shortened for strangers."""

    def __init__(self) -> None:
        self._by_person: WeakValueDictionary[str, Share] = WeakValueDictionary()
        self.strangers = Share(self)
        self._latest: Share | None = None  # who did something last
        self._latest_at = self._other_at = float("-inf")  # when they did, and when somebody else last had
        self._now = 0.0  # when something was last begun: near enough

    def of(self, person: str) -> Share:
        """The same for all that a person has."""
        found = self._by_person.get(person)
        if found is None:
            found = self._by_person[person] = Share(self)
        return found

    def seen(self, share: Share, now: float) -> None:
        """Something is being done for this one."""
        self._now = now
        if share is self.strangers:
            return
        if self._latest is not share:
            self._latest, self._other_at = share, self._latest_at
        self._latest_at = now

    def others_about(self, share: Share) -> bool:
        """Whether somebody else has just done something."""
        return self._now - (self._other_at if self._latest is share else self._latest_at) < ABOUT_SECONDS


@types.coroutine
def in_turns(share: Share, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """What `work` returns: each step of it, from one wait to the next, counts, and waits for its turn where others come first."""
    step: Callable[[], Any] = partial(work.send, None)
    while True:
        try:
            while share.must_wait:
                yield from share.turn()
        except BaseException as error:  # noqa: BLE001 - cancelled, for instance: `work` is told
            step = partial(work.throw, error)
        share.begin()
        try:
            waits_for = step()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            share.end()
        step = partial(work.send, None)
        try:
            yield waits_for
        except BaseException as error:  # noqa: BLE001 - likewise
            step = partial(work.throw, error)
