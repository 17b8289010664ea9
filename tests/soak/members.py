"""Three kinds of clients that work for as long as they are let, each at its own pace: asyncssh, paramiko, and real programs by turns.

Whatever breaks is noted and tried again with something else: the weather is bad. What must not happen goes into the ledger's `wrong`.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import paramiko
from paramiko.sftp import CMD_CLOSE

from gateway.ingest.checks.scanner import PROBE
from tests.e2e.clients import Driver
from tests.e2e.house import House
from tests.soak.deposits import Content, Deposit, Ledger

PIECE = 32_768
SECONDS = 90.0  # that an action may take
ACTIONS = ("put", "put", "put", "put", "put again", "get", "get", "list", "rename", "remove", "break off")
PROGRAM_ACTIONS = ("put", "put", "get")


@dataclass
class Pace:
    """When the crowd works: everybody waits while `pause` is set, and ends on `stop`. `seconds` lie between two actions, on average."""

    seconds: float
    pause: threading.Event
    stop: threading.Event


class Member:
    """One client of the crowd: its name, its chance, its papers."""

    kind = ""

    def __init__(self, house: House, ledger: Ledger, pace: Pace, name: str, seed: int) -> None:
        self.house, self.ledger, self.pace, self.name = house, ledger, pace, name
        self.chance = random.Random(seed)
        self.content = Content(self.chance, PROBE)
        self.inside = False  # a session is open
        self.count = 0  # of actions that went well
        self._number = 0

    @property
    def resting(self) -> bool:
        """Whether nothing is to be done now."""
        return self.pace.pause.is_set() or self.pace.stop.is_set()

    def path(self) -> str:
        """A new name."""
        self._number += 1
        return f"/inbox/{self._number}.bin"

    def wait_seconds(self) -> float:
        """Until the next action."""
        return self.chance.uniform(0.2, 1.8) * self.pace.seconds

    def target(self, action: str) -> str:
        """Where to put."""
        older = self.ledger.one_of(self.name, self.chance) if action == "put again" else None
        return self.path() if older is None or older.path is None else older.path

    def well(self, action: str) -> None:
        """It went well."""
        self.count += 1
        self.ledger.took(self.kind, action)


class AsyncsshMember(Member):
    """asyncssh's client. Runs on a loop that it shares with others."""

    kind = "asyncssh"

    async def live(self) -> None:
        """Until `stop`."""
        while not self.pace.stop.is_set():
            await asyncio.sleep(self.wait_seconds())
            if self.resting:
                continue
            action = "connect"
            try:
                async with asyncio.timeout(SECONDS):
                    connection = await self._connect()
                try:
                    async with asyncio.timeout(SECONDS):
                        sftp = await connection.start_sftp_client()
                    self.inside = True
                    for _ in range(self.chance.randint(2, 12)):
                        await asyncio.sleep(self.wait_seconds())
                        if self.resting:
                            break
                        action = self.chance.choice(ACTIONS)
                        async with asyncio.timeout(SECONDS):
                            if await self._do(sftp, connection, action):
                                break
                finally:
                    self.inside = False
                    connection.close()
                    async with asyncio.timeout(SECONDS):
                        await connection.wait_closed()
            except (OSError, asyncssh.Error, TimeoutError) as error:
                self.ledger.failed_at(self.kind, action, error)

    async def _connect(self) -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            "127.0.0.1", self.house.sftp_port, username=self.name, client_keys=[str(self.house.key)], known_hosts=None, config=None
        )

    async def _do(self, sftp: asyncssh.SFTPClient, connection: asyncssh.SSHClientConnection, action: str) -> bool:
        """One action; True when the connection is gone after it."""
        deposit = self.ledger.one_of(self.name, self.chance)
        if action in ("put", "put again"):
            await self._put(sftp, self.target(action))
        elif action == "list":
            await sftp.listdir("/inbox")
            await sftp.listdir("/receipts")
        elif action == "break off":
            file = await sftp.open(self.path(), "wb")
            await file.write(self.chance.randbytes(50_000))
            connection.abort()
        elif deposit is None or deposit.path is None:
            return False
        elif action == "get":
            async with sftp.open(deposit.path, "rb") as file:
                content = bytes(await file.read())
            if deposit.path is not None:
                self.ledger.compare(deposit, content)
        else:
            await _moved(deposit, action, sftp.rename, sftp.remove)
        self.well(action)
        return action == "break off"

    async def _put(self, sftp: asyncssh.SFTPClient, path: str) -> None:
        content = self.content.next()
        with self.ledger.deposit(self.name, path, content) as deposit:
            file = await sftp.open(path, "wb")
            try:
                for start in range(0, len(content), PIECE):
                    await file.write(content[start : start + PIECE])
                    if self.chance.random() < 0.1:
                        await asyncio.sleep(self.pace.seconds / 10)
            except (OSError, asyncssh.Error):
                await file.close()  # as many programs do: it must not make a paper of a part
                raise
            deposit.phase = "closing"
            await file.close()
            await sftp.realpath(".")  # `close` says nothing when the connection broke before CLOSE could even be sent: this does


async def _moved(deposit: Deposit, action: str, rename: Callable[[str, str], Awaitable[object]], remove: Callable[[str], Awaitable[object]]) -> None:
    """Rename or remove it; its place is not certain while that is being done."""
    path, deposit.path = deposit.path, None
    assert path is not None
    if action == "rename":
        await rename(path, f"{path}.r")
        deposit.path = f"{path}.r"
    else:
        await remove(path)


class ParamikoMember(Member):
    """paramiko's client, in a thread of its own."""

    kind = "paramiko"

    def live(self) -> None:
        """Until `stop`."""
        while not self.pace.stop.wait(self.wait_seconds()):
            if self.resting:
                continue
            action = "connect"
            transport: paramiko.Transport | None = None
            try:
                transport = paramiko.Transport(("127.0.0.1", self.house.sftp_port))
                transport.banner_timeout = transport.auth_timeout = SECONDS
                transport.connect(username=self.name, pkey=paramiko.Ed25519Key.from_private_key_file(str(self.house.key)))
                sftp = paramiko.SFTPClient.from_transport(transport)
                channel = sftp.get_channel() if sftp is not None else None
                assert sftp is not None and channel is not None
                channel.settimeout(SECONDS)
                self.inside = True
                for _ in range(self.chance.randint(2, 12)):
                    if self.pace.stop.wait(self.wait_seconds()) or self.resting:
                        break
                    action = self.chance.choice(ACTIONS[:-1])
                    self._do(sftp, action)
            except (OSError, EOFError, paramiko.SSHException) as error:
                self.ledger.failed_at(self.kind, action, error)
            finally:
                self.inside = False
                if transport is not None:
                    transport.close()

    def _do(self, sftp: paramiko.SFTPClient, action: str) -> None:
        deposit = self.ledger.one_of(self.name, self.chance)
        if action in ("put", "put again"):
            self._put(sftp, self.target(action))
        elif action == "list":
            sftp.listdir("/inbox")
        elif deposit is None or deposit.path is None:
            return
        elif action == "get":
            with sftp.open(deposit.path, "rb") as file:
                content = file.read()
            self.ledger.compare(deposit, content)
        else:
            path, deposit.path = deposit.path, None
            if action == "rename":
                sftp.posix_rename(path, f"{path}.r")
                deposit.path = f"{path}.r"
            else:
                sftp.remove(path)
        self.well(action)

    def _put(self, sftp: paramiko.SFTPClient, path: str) -> None:
        content = self.content.next()
        with self.ledger.deposit(self.name, path, content) as deposit:
            file = sftp.open(path, "wb")
            for start in range(0, len(content), PIECE):
                file.write(content[start : start + PIECE])
            deposit.phase = "closing"
            # Not file.close(): that hides it when the connection broke before CLOSE could even be sent, and nothing was acknowledged then.
            sftp._request(CMD_CLOSE, file.handle)  # type: ignore[no-untyped-call]
            file._closed = True


class ProgramMember(Member):
    """A real program, started for each action. `driver` speaks for this member's person; `scratch` is for its files."""

    def __init__(self, house: House, ledger: Ledger, pace: Pace, name: str, seed: int, driver: Driver, scratch: Path) -> None:
        super().__init__(house, ledger, pace, name, seed)
        self.driver, self.scratch = driver, scratch
        self.kind = driver.name

    def turn(self) -> None:
        """One action."""
        action = self.chance.choice(PROGRAM_ACTIONS)
        self.inside = True
        try:
            self._do(action)
        except AssertionError as error:  # the driver's: with all that the program said
            self.ledger.failed_at(self.kind, action, _last_words(error))
        except OSError as error:
            self.ledger.failed_at(self.kind, action, error)
        finally:
            self.inside = False

    def _do(self, action: str) -> None:
        if action == "put":
            path, content, source = self.path(), self.content.next(), self.scratch / f"{self.name}.out"
            source.write_bytes(content)
            with self.ledger.deposit(self.name, path, content) as deposit:
                deposit.phase = "closing"  # nobody outside knows how far it comes
                self.driver.put(source, path)  # type: ignore[attr-defined]
        else:
            deposit_of = self.ledger.one_of(self.name, self.chance)
            if deposit_of is None or deposit_of.path is None:
                return
            target = self.scratch / f"{self.name}.in"
            self.driver.get(deposit_of.path, target)  # type: ignore[attr-defined]
            self.ledger.compare(deposit_of, target.read_bytes())
            target.unlink()
        self.well(action)


def _last_words(error: AssertionError) -> str:
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("assert")]
    return lines[-1] if lines else type(error).__name__
