"""Who may change which names of one client at this moment.

Most requests change nothing, or finish within one turn of the event loop, and need no turn of their own. A request that waits for a disk
or for a key holds its path meanwhile; one that moves names (rename, remove) holds them all, because a folder carries other paths with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType


class Turns:
    """The turns of one client's names, on one event loop. Those who want all names come before new ones who want a path."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._all = False
        self._wanting_all = 0
        self._waiters: list[asyncio.Future[None]] = []

    def free(self, path: str) -> bool:
        """Whether a request that does not wait may act on `path` right now."""
        return not self._all and not self._wanting_all and path not in self._paths

    @property
    def idle(self) -> bool:
        """Whether nobody holds or wants anything."""
        return not (self._paths or self._all or self._wanting_all)

    def path(self, path: str) -> _PathTurn:
        """`async with`: hold one path."""
        return _PathTurn(self, path)

    async def take(self, path: str) -> None:
        """Wait for `path` and hold it until `give`."""
        while not self.free(path):
            await self._wait()
        self._paths.add(path)

    def give(self, path: str) -> None:
        """Give `path` back."""
        self._paths.discard(path)
        self._wake()

    @asynccontextmanager
    async def all(self) -> AsyncIterator[None]:
        """Hold every name of the client."""
        self._wanting_all += 1
        try:
            while self._all or self._paths:
                await self._wait()
            self._all = True
        finally:
            self._wanting_all -= 1
            if not self._all:
                self._wake()
        try:
            yield
        finally:
            self._all = False
            self._wake()

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class _PathTurn:
    __slots__ = ("_path", "_turns")

    def __init__(self, turns: Turns, path: str) -> None:
        self._turns = turns
        self._path = path

    async def __aenter__(self) -> None:
        await self._turns.take(self._path)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._turns.give(self._path)
