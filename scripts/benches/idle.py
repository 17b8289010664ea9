"""What idle sessions cost a server in memory: many connections that have logged in by key and opened SFTP, and do nothing.

Each server is measured right after its start, with one login before: one that has worked has memory to spare, in which sessions would hide.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from benches.servers import Bench, Server

AT_ONCE = 10
CALM_SECONDS = 1.0
LONGEST_SECONDS = 600.0
CIPHERS = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com")  # what OpenSSH's client and each of the servers agree on


def memories(
    bench: Bench, makers: Mapping[str, Callable[[Bench], AbstractContextManager[Server]]], number: int
) -> tuple[dict[str, float], dict[str, float]]:
    """By server: KiB that one of `number` sessions adds, and MiB of the whole server with all of them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each session is a socket of this process
    added, whole = {}, {}
    for make in makers.values():
        with make(bench) as server:
            before, after = asyncio.run(_measure(bench, server, number))
        added[server.name] = (after - before) / number / 1024
        whole[server.name] = after / 1024 / 1024
    return added, whole


async def _measure(bench: Bench, server: Server, number: int) -> tuple[int, int]:
    """Bytes before and with the sessions."""
    async with asyncio.timeout(LONGEST_SECONDS):
        for connection in await _open(bench, server, 1):
            connection.close()
            await connection.wait_closed()
        await asyncio.sleep(CALM_SECONDS)
        before = server.memory()
        opened: list[Any] = []
        try:
            while len(opened) < number:
                opened += await _open(bench, server, min(AT_ONCE, number - len(opened)))
            await asyncio.sleep(CALM_SECONDS)
            return before, server.memory()
        finally:
            for connection in opened:
                connection.abort()


async def _open(bench: Bench, server: Server, number: int) -> list[Any]:
    import asyncssh

    async def one() -> Any:
        connection = await asyncssh.connect(
            "127.0.0.1", server.port, username=server.user, client_keys=[str(bench.key)], known_hosts=None, config=None, encryption_algs=CIPHERS
        )
        await connection.start_sftp_client()
        return connection

    return await asyncio.gather(*(one() for _ in range(number)))
