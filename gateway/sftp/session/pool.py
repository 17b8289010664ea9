"""The threads in which a session's blocking work is done while the event loop goes on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Pool:
    """A bounded number of threads; `run` awaits a function in one of them."""

    def __init__(self, threads: int, name: str = "sftp") -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, function: Callable[[], T]) -> T:
        """What `function` returns or raises. Not cancelled half-way: a thread that has begun always ends."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def close(self) -> None:
        """Wait for what runs."""
        self._executor.shutdown()


class FairPool:
    """A pool that people share. A person has one thread at a time; what else they want waits in a line of its own, and the lines are served in turn.

    The event loop competes with every thread that works: two of them for one person kept everybody else waiting twice as long, and got less done.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._pool = Pool(threads, name)
        self._free = threads
        self._at_work: set[str] = set()  # people who have a thread
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}  # by person, the one who is served next first

    async def run(self, person: str, function: Callable[[], T]) -> T:
        """As `Pool.run`."""
        await self._take(person)
        try:
            return await self._pool.run(function)
        finally:
            self._give(person)

    def close(self) -> None:
        """Wait for what runs."""
        self._pool.close()

    async def _take(self, person: str) -> None:
        if self._free and person not in self._at_work:
            self._begin(person)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(person, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(person)
            raise

    def _begin(self, person: str) -> None:
        self._free -= 1
        self._at_work.add(person)

    def _give(self, person: str) -> None:
        """The person's thread is free: whose turn it is has it."""
        self._free += 1
        self._at_work.remove(person)
        while self._free and (person := self._next()):
            line = self._lines.pop(person)
            turn = line.popleft()
            if line:
                self._lines[person] = line  # behind the others
            if not turn.done():
                self._begin(person)
                turn.set_result(None)

    def _next(self) -> str:
        """Who waits for longest of those who have no thread; nobody is ''."""
        return next((person for person in self._lines if person not in self._at_work), "")
