"""The threads in which a session's blocking work is done while the event loop goes on."""

from __future__ import annotations

import asyncio
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
