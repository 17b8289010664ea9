"""A thousand sessions at once, each another client's: that they hold, what each costs, and what the next one is told.

`docs/reference/capacity.md` has the numbers that this prints (pytest -s); what is asserted leaves room for other machines.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from gateway.sftp.defender.doorkeeper import EACH
from gateway.sftp.role import raise_descriptors
from tests.integration.sftp_rig import CLIENT, Server, running_server
from tests.soak.town import add_clients
from tests.soak.watch import own_memory, roles_below

COUNT = 1000
NAMES = [f"p{number:04}" for number in range(COUNT)]
AT_ONCE = 12  # that log in: fewer than one address may have without a login
IDLE_SECONDS = 8.0
PAPER = b"a small paper " * 100
KIB = 1024
MOST_MEMORY = 150 * KIB  # of a session, in each process that it goes through
MOST_IDLE = 0.0005  # seconds of processor a second, of one that does nothing
FOLDERS = 2  # descriptors that a client's folders keep once it was there
SPARE = 64
TICKS = os.sysconf("SC_CLK_TCK")
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Cost:
    """What all processes of the gateway have: bytes, descriptors, seconds of processor."""

    memory: int
    descriptors: int
    cpu: float

    @classmethod
    def of(cls, server: Server) -> Cost:
        """Now."""
        pids = [pid for _, pid in roles_below(server.pid())]
        return cls(sum(map(own_memory, pids)), sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids), sum(map(cpu_seconds, pids)))


def cpu_seconds(pid: int) -> float:
    """That a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def town(home: Path, workers: int) -> Iterator[Server]:
    """A gateway with a thousand clients who may all come at once, and no more."""

    def people(server: Server) -> None:
        add_clients(server.folder, NAMES, Path(f"{server.key}.pub"))

    with running_server(home, f"workers = {workers}\nmax_connections = {COUNT}\n", people) as server:
        yield server


async def everybody(names: list[str], most: int, work: Callable[[str], Awaitable[None]]) -> None:
    """`work` for each, at the most so many at once."""
    free = asyncio.Semaphore(most)

    async def one(name: str) -> None:
        async with free, asyncio.timeout(120):
            await work(name)

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(one(name))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_thousand_sessions_hold(tmp_path: Path, workers: int) -> None:
    raise_descriptors()
    with town(tmp_path, workers) as server:
        asyncio.run(_thousand(server, workers))


async def _thousand(server: Server, workers: int) -> None:
    sessions: dict[str, tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient]] = {}
    key = asyncssh.read_private_key(server.key)
    options = asyncssh.SSHClientConnectionOptions(client_keys=[key], known_hosts=None, config=None, agent_path=None)

    async def log_in(name: str) -> None:
        connection = await asyncssh.connect("127.0.0.1", server.port, options=options, username=name)
        sessions[name] = connection, await connection.start_sftp_client()

    async def work(name: str) -> None:
        sftp = sessions[name][1]
        assert set(await sftp.listdir("/")) >= {"inbox", "outbox", "receipts"}
        async with sftp.open("/inbox/small.txt", "wb") as file:
            await file.write(PAPER)
        assert (await sftp.stat("/inbox/small.txt")).size == len(PAPER)

    empty = Cost.of(server)
    await everybody(NAMES, AT_ONCE, log_in)
    await asyncio.sleep(2)
    began, full = time.monotonic(), Cost.of(server)
    refused = await asyncio.to_thread(one_more, server)
    await asyncio.sleep(IDLE_SECONDS)
    seconds, idle = time.monotonic() - began, Cost.of(server)
    await everybody(NAMES, AT_ONCE, work)
    await asyncio.sleep(2)
    worked = Cost.of(server)
    assert all(not connection.is_closed() for connection, _ in sessions.values())
    for connection, _ in sessions.values():
        connection.close()
    await asyncio.gather(*(connection.wait_closed() for connection, _ in sessions.values()))
    until = time.monotonic() + 240
    while (left := Cost.of(server)).descriptors > empty.descriptors + FOLDERS * COUNT + SPARE and time.monotonic() < until:
        await asyncio.sleep(0.5)
    each, idle_each = (worked.memory - empty.memory) / COUNT, (idle.cpu - full.cpu) / seconds / COUNT
    print(
        f"\n{workers} workers, a session each of {COUNT} clients:\n"
        f"  memory: {empty.memory >> 20} MiB empty, {full.memory >> 20} MiB full, {(full.memory - empty.memory) / COUNT / KIB:.0f} KiB each; "
        f"{each / KIB:.0f} KiB each after a paper of each; {left.memory >> 20} MiB when all had left\n"
        f"  descriptors: {empty.descriptors} empty, {full.descriptors} full, {worked.descriptors} after the papers, {left.descriptors} in the end\n"
        f"  processor: {(full.cpu - empty.cpu) / COUNT * 1000:.1f} ms a login, {idle_each * 1e6:.0f} us a second idle, "
        f"{(worked.cpu - idle.cpu) / COUNT * 1000:.1f} ms for a list and a paper\n"
        f"  the next one is told: {refused}"
    )
    assert each < MOST_MEMORY * workers
    assert (worked.descriptors - empty.descriptors) / COUNT <= EACH * workers
    assert left.descriptors <= empty.descriptors + FOLDERS * COUNT + SPARE
    assert idle_each < MOST_IDLE
    assert "try again in a few minutes" in refused


def one_more(server: Server) -> str:
    """What OpenSSH says to somebody for whom there is no place; asked again when it was too slow to be told."""
    command = ["sftp", *server.options(), "-P", str(server.port), "-b", "-", f"{NAMES[0]}@127.0.0.1"]
    for _ in range(5):
        done = subprocess.run(command, input="ls\n", capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode
        if "try again" in done.stderr:
            break
    return done.stderr.strip()


def test_who_is_in_can_work_where_descriptors_are_few(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        resource.prlimit(server.pid(), resource.RLIMIT_NOFILE, (64, 64))
        asyncio.run(_few(server))


async def _few(server: Server) -> None:
    options = asyncssh.SSHClientConnectionOptions(client_keys=[str(server.key)], known_hosts=None, config=None, agent_path=None)
    inside: list[tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient]] = []

    async def come() -> None:
        async with asyncio.timeout(60):
            connection = await asyncssh.connect("127.0.0.1", server.port, options=options, username=CLIENT)
            inside.append((connection, await connection.start_sftp_client()))

    with pytest.raises(asyncssh.DisconnectError, match="try again in a few minutes"):
        for _ in range(64):
            await come()
    assert len(inside) == 64 // EACH
    for number, (_, sftp) in enumerate(inside):
        async with sftp.open(f"/inbox/{number}.txt", "wb") as file:
            await file.write(PAPER)
    inside[0][0].close()
    await inside[0][0].wait_closed()
    until = time.monotonic() + 240
    while len(inside) == 64 // EACH and time.monotonic() < until:
        try:
            await come()  # the place of the first
        except asyncssh.DisconnectError:
            await asyncio.sleep(0.2)
    assert len(inside) == 64 // EACH + 1
    for connection, _ in inside:
        connection.close()
    await asyncio.gather(*(connection.wait_closed() for connection, _ in inside))
