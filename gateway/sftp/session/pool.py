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
    """A pool that people share: where all threads are taken, each person's work waits in a line of its own, and the lines are served in turn."""

    def __init__(self, threads: int, name: str) -> None:
        self._pool = Pool(threads, name)
        self._free = threads
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}  # by person, the one who is served next first

    async def run(self, person: str, function: Callable[[], T]) -> T:
        """As `Pool.run`."""
        await self._take(person)
        try:
            return await self._pool.run(function)
        finally:
            self._give()

    def close(self) -> None:
        """Wait for what runs."""
        self._pool.close()

    async def _take(self, person: str) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(person, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give()
            raise

    def _give(self) -> None:
        """A thread is free: whose turn it is has it."""
        while self._lines:
            person = next(iter(self._lines))
            line = self._lines.pop(person)
            turn = line.popleft()
            if line:
                self._lines[person] = line  # behind the others
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
