"""asyncssh's client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncssh

from tests.e2e.clients.driver import SECONDS, Driver


class Asyncssh(Driver):
    """asyncssh's client."""

    name = "asyncssh"
    cannot_carry = frozenset("\\")

    def version(self) -> str:
        return asyncssh.__version__

    def _do(self, work: Callable[[asyncssh.SFTPClient], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            options: dict[str, Any] = {"username": self.server.person, "client_keys": [str(self.server.key)], "known_hosts": None, "config": None}
            async with (
                asyncssh.connect("127.0.0.1", self.server.port, **options) as connection,
                connection.start_sftp_client() as sftp,
            ):
                return await work(sftp)

        return asyncio.run(asyncio.wait_for(main(), SECONDS))

    def put(self, source: Path, target: str) -> None:
        self._do(lambda sftp: sftp.put(str(source), target))

    def get(self, source: str, target: Path) -> None:
        self._do(lambda sftp: sftp.get(source, str(target)))

    def put_kept(self, source: Path, target: str) -> None:
        self._do(lambda sftp: sftp.put(str(source), target, preserve=True))

    def put_tree(self, source: Path, target: str) -> None:
        self._do(lambda sftp: sftp.put(str(source), target, recurse=True))

    def get_tree(self, source: str, target: Path) -> None:
        self._do(lambda sftp: sftp.get(source, str(target), recurse=True))

    def resume_put(self, source: Path, target: str) -> None:
        async def work(sftp: asyncssh.SFTPClient) -> None:
            async with sftp.open(target, "ab") as file:
                await file.write(source.read_bytes()[await sftp.getsize(target) or 0 :])

        self._do(work)

    def resume_get(self, source: str, target: Path) -> None:
        async def work(sftp: asyncssh.SFTPClient) -> None:
            async with sftp.open(source, "rb") as file:
                rest = await file.read(offset=target.stat().st_size)
                target.write_bytes(target.read_bytes() + bytes(rest))

        self._do(work)

    def rename(self, source: str, target: str) -> None:
        self._do(lambda sftp: sftp.rename(source, target))

    def remove(self, target: str) -> None:
        self._do(lambda sftp: sftp.remove(target))

    def space(self) -> int:
        async def work(sftp: asyncssh.SFTPClient) -> int:
            told = await sftp.statvfs("/inbox")
            return (told.bavail or 0) * (told.frsize or 0)

        return int(self._do(work))

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        async def main() -> None:
            options: dict[str, Any] = {"username": self.server.person, "client_keys": [str(self.server.key)], "known_hosts": None, "config": None}
            connection = await asyncssh.connect("127.0.0.1", self.server.port, **options)
            sftp = await connection.start_sftp_client()
            file = await sftp.open(target, "wb")
            await file.write(source.read_bytes()[: source.stat().st_size // 2])
            while not has_begun():
                await asyncio.sleep(0.01)
            connection.abort()

        asyncio.run(asyncio.wait_for(main(), SECONDS))
