"""Hostile bytes at every depth: requests of a session in process, mutated SFTP on an authenticated channel, garbage before login.

The server may refuse and may cut off. It may not crash, not grow, not keep descriptors, and not make a bystander wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import asyncssh
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.sftp.protocol.requests import Malformed
from gateway.sftp.protocol.wire import Type
from gateway.sftp.session.operations import Operations
from gateway.sftp.session.recording import SessionRecord
from gateway.sftp.session.session import SftpSession
from gateway.sftp.session.shares import Shares
from gateway.sftp.session.visitor import Visitor
from tests.conftest import FUZZ_SECONDS
from tests.integration.footprint import descriptors, resident
from tests.integration.sftp_rig import CLIENT, Desk, Server, clean

INIT = b"\x00\x00\x00\x05\x01\x00\x00\x00\x03"
ROOM_BYTES = 300 * 1024 * 1024  # what papers may take here: sparse ones are copied as long as they seem
GROWTH_MEGABYTES = 150
ROUND = 60  # conversations of the fuzzer in process
FEWEST = 10  # sessions of mutated requests
STUCK_SECONDS = 30.0
STILL = 2  # times that the whole machine may have stood still
BYSTANDER_SECONDS = 10.0  # a disk that is busy with other tests holds up syncs for seconds; what is stuck stays stuck
BUGS = {"request.crashed", "handle.release_crashed", "background.crashed"}

PATHS = [b"", b".", b"/", b"/inbox", b"/inbox/a", b"/inbox/b", b"/inbox/d", b"/inbox/d/x", b"/inbox/c.tmp", b"/outbox/a", b"/receipts/a", b"/.tmp"]
PATHS += [
    b"/inbox/../../etc/passwd",
    b"/inbox/\x00",
    b"/inbox/\xff",
    b"/inbox/" + b"n" * 256,
    b"/inbox" + b"/d" * 70,
    b"x" * 4097,
    "/inbox/名".encode(),
]
NUMBERS = [0, 1, 2, 7, 255, 32768, 65535, 65536, 65537, 2**31, 2**32 - 1]
OFFSETS = [0, 1, 10, 65535, 65536, 131072, 2**40, 2**40 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
EXTENSIONS = [b"posix-rename@openssh.com", b"statvfs@openssh.com", b"fstatvfs@openssh.com", b"fsync@openssh.com", b"limits@openssh.com", b"copy-data"]


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def attributes(draw: random.Random) -> bytes:
    flags = draw.choice([0, 0, 1, 4, 8, 13, 15, 0x80000000, draw.getrandbits(32)])
    body = struct.pack(">I", flags)
    body += struct.pack(">Q", draw.choice(OFFSETS)) if flags & 1 else b""
    body += struct.pack(">II", 0, 0) if flags & 2 else b""
    body += struct.pack(">I", draw.getrandbits(32)) if flags & 4 else b""
    body += struct.pack(">II", draw.choice(NUMBERS), draw.choice(NUMBERS)) if flags & 8 else b""
    return body + (struct.pack(">I", draw.choice(NUMBERS)) if flags & 0x80000000 else b"")


def body_of(kind: int, draw: random.Random) -> bytes:
    """The fields of a request of `kind` behind its id: well-formed, of hostile values."""
    path, handle = text(draw.choice(PATHS)), text(struct.pack(">Q", draw.randint(0, 8)))
    match kind:
        case Type.OPEN:
            return path + struct.pack(">I", draw.choice([1, 2, 3, 0x0A, 0x1A, 0x0E, 0x2A, draw.getrandbits(6)])) + attributes(draw)
        case Type.READ:
            return handle + struct.pack(">QI", draw.choice(OFFSETS), draw.choice(NUMBERS))
        case Type.WRITE:
            return handle + struct.pack(">Q", draw.choice(OFFSETS)) + text(b"w" * draw.choice([0, 1, 100, 32768, 65536]))
        case Type.CLOSE | Type.FSTAT | Type.READDIR:
            return handle
        case Type.FSETSTAT:
            return handle + attributes(draw)
        case Type.SETSTAT | Type.MKDIR:
            return path + attributes(draw)
        case Type.RENAME | Type.SYMLINK:
            return path + text(draw.choice(PATHS))
        case Type.EXTENDED:
            name = draw.choice(EXTENSIONS)
            rest = handle if name.startswith((b"fsync", b"fstat")) else b"" if name.startswith(b"limits") else path
            return text(name) + rest + (text(draw.choice(PATHS)) if name.startswith(b"posix") else b"")
        case Type.INIT:
            return b""
    return path


KINDS = [*range(Type.OPEN, Type.SYMLINK + 1), Type.EXTENDED, Type.OPEN, Type.OPEN, Type.WRITE, Type.CLOSE, Type.FSETSTAT]


def mutated(data: bytes, draw: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8])):
        at = draw.randrange(len(found) + 1)
        match draw.randrange(4):
            case 0 if at < len(found):
                found[at] ^= 1 << draw.randrange(8)
            case 1:
                del found[at : at + draw.choice([1, 4, 100])]
            case 2:
                found[at:at] = draw.randbytes(draw.choice([1, 4, 100]))
            case _:
                found[at : at + 4] = struct.pack(">I", draw.choice(NUMBERS))
    return bytes(found)


def request(draw: random.Random, number: int) -> bytes:
    kind = draw.choice(KINDS) if draw.random() < 0.97 else draw.randrange(256)
    body = bytes([kind]) + struct.pack(">I", number) + body_of(kind, draw)
    if draw.random() < 0.15:
        body = mutated(body, draw)
    packet = text(body)
    return mutated(packet, draw) if draw.random() < 0.02 else packet


# a session in process


class Channel:
    """What a session needs of a channel."""

    def __init__(self) -> None:
        self.sent = b""
        self.ended = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def exit(self, _status: int) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def replies_in(data: bytes) -> list[int]:
    """The types of whole replies; every byte belongs to one."""
    kinds = []
    while data:
        length = int.from_bytes(data[:4])
        assert 5 <= length <= 300_000 and len(data) >= 4 + length
        kinds.append(data[4])
        data = data[4 + length :]
    return kinds


async def converse(desk: Desk, stream: bytes, pieces: list[int]) -> Channel:
    visitor = Visitor(CLIENT, CLIENT, "fuzz", "192.0.2.1", "fuzz")
    operations = Operations(desk.papers, visitor, SessionRecord(desk.recorder, visitor), desk.pool.run, desk.space, 8)
    session = SftpSession(lambda _: operations, lambda _: None, lambda: None, Shares().of("fuzz"))
    channel = Channel()
    session.connection_made(cast(Any, channel))
    assert session.subsystem_requested("sftp")
    at = 0
    for size in [*pieces, len(stream)]:
        session.data_received(stream[at : at + size], None)
        at += size
    session.eof_received()
    until = time.monotonic() + 240
    while not channel.ended:
        assert time.monotonic() < until, "the session hangs"
        await asyncio.sleep(0.001)
    await session.finished()
    return channel


def conversation(number: int, count: int, pieces: list[int]) -> None:
    """So many requests, drawn with `number`, that come in pieces of these sizes; each has its reply, and nothing is left of them."""
    draw = random.Random(number)
    stream = INIT + b"".join(request(draw, number) for number in range(count))

    async def main(root: Path) -> None:
        desk = Desk(root, reserve_bytes=max(0, shutil.disk_usage(root).free - ROOM_BYTES))
        try:
            channel = await converse(desk, stream, pieces)
            allowed = {Type.VERSION, Type.STATUS, Type.HANDLE, Type.DATA, Type.NAME, Type.ATTRS, Type.EXTENDED_REPLY}
            assert set(replies_in(channel.sent)) <= allowed
            assert str(root).encode() not in channel.sent
            assert all(draft.writers == draft.readers == 0 for draft in desk.papers.book.drafts.values())
            assert desk.papers.handles.taken == 0
            await desk.land_all()
            desk.landed()
        finally:
            desk.end()

    with tempfile.TemporaryDirectory() as folder, capture_logs() as logs:
        asyncio.run(main(Path(folder)))
    assert [entry for entry in logs if entry["event"] in BUGS] == []


def round_of_conversations(number: int) -> None:
    everything = given(st.integers(0, 2**32), st.integers(1, 60), st.lists(st.integers(1, 200), max_size=20))
    seed(number)(settings(max_examples=ROUND)(everything(conversation)))()


def test_a_session_answers_whatever_it_is_asked(fuzz_seconds: float, fuzz_seed: int) -> None:
    """A round of conversations, and more of them when an hour of fuzzing is asked for; nothing of them stays in the process."""
    until = time.monotonic() + fuzz_seconds - FUZZ_SECONDS
    round_of_conversations(fuzz_seed)
    memory, open_files, rounds = resident(os.getpid()), descriptors(os.getpid()), 1
    while time.monotonic() < until:
        round_of_conversations(fuzz_seed + rounds)
        rounds += 1
    print(f"in process: {rounds * ROUND} conversations, {resident(os.getpid()) - memory:+} MB, {descriptors(os.getpid()) - open_files:+} descriptors")
    assert resident(os.getpid()) - memory < GROWTH_MEGABYTES
    assert descriptors(os.getpid()) <= open_files + 5


def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Operations, request: Any) -> bytes:
        raise KeyError("planted")

    monkeypatch.setattr(Operations, "_real_path", broken)
    with pytest.raises(AssertionError, match=r"request\.crashed"):
        conversation(number=1, count=60, pieces=[])


def test_malformed_is_all_that_decoding_raises() -> None:
    from gateway.sftp.protocol.decoding import Unpacker, decode

    draw = random.Random(1)
    for _ in range(3000):
        unpacker = Unpacker()
        unpacker.feed(mutated(request(draw, 1), draw))
        with contextlib.suppress(Malformed):
            while (body := unpacker.next()) is not None:
                decode(body)


# a server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    reserve = max(0, shutil.disk_usage(tmp_path).free - ROOM_BYTES)
    running.folder.settings.write_text(running.folder.settings.read_text().replace("reserve_bytes = 0", f"reserve_bytes = {reserve}"))
    try:
        running.start("keyd")
        running.start("gateway")
        yield running
    finally:
        running.stop_all()
    assert clean(running.log()), running.log()[-5000:]


async def log_in(server: Server) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect("127.0.0.1", server.port, username=CLIENT, client_keys=[str(server.key)], known_hosts=None, config=None)


class Quiet(asyncssh.SSHClientSession[bytes]):
    """Takes what comes and forgets it."""


async def mutate_sftp(server: Server, draw: random.Random, until: float) -> int:
    """Sessions of mutated requests on one connection after the other, until then and until there were FEWEST; how many sessions."""
    sessions = 0
    while time.monotonic() < until or sessions < FEWEST:
        with contextlib.suppress(asyncssh.Error, OSError, asyncio.TimeoutError):
            async with await log_in(server) as connection:
                for _ in range(5):
                    channel, _ = await connection.create_session(Quiet, subsystem="sftp", encoding=None)
                    sessions += 1
                    channel.write(INIT + b"".join(request(draw, number) for number in range(draw.choice([1, 20, 200]))))
                    if draw.random() < 0.7:
                        channel.write_eof()
                        await asyncio.wait_for(channel.wait_closed(), 5)
                if draw.random() < 0.3:
                    connection.abort()
    return sessions


def first_flight() -> bytes:
    """What a real client says first: its version and its KEXINIT."""
    said = b""

    async def main() -> None:
        nonlocal said

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal said
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            with contextlib.suppress(asyncio.TimeoutError):
                while True:
                    said += await asyncio.wait_for(reader.read(65536), 0.3)
            writer.close()

        async with await asyncio.start_server(listen, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            with contextlib.suppress(asyncssh.Error, OSError):
                await asyncssh.connect("127.0.0.1", port, known_hosts=None, config=None, username="x", login_timeout=1)

    asyncio.run(main())
    assert said.startswith(b"SSH-2.0-") and len(said) > 500
    return said


def before_login(port: int, draw: random.Random, flight: bytes, until: float, done: list[int]) -> None:
    """Garbage and mutated first packets, one connection after the other; `done` gets how many."""
    count = 0
    while time.monotonic() < until:
        kind = draw.randrange(4)
        said = draw.randbytes(draw.choice([1, 100, 50_000])) if kind == 0 else flight if kind == 1 else mutated(flight, draw)
        said += draw.randbytes(draw.choice([0, 16, 5000])) if kind < 3 else struct.pack(">IB", 28, 4) + draw.randbytes(27)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.9", 0)) as peer:
            peer.settimeout(0.05)
            peer.sendall(said)
            while peer.recv(65536):
                pass
        count += 1
    done.append(count)


async def bystand(server: Server, until: float) -> list[float]:
    """How long somebody waits for each STAT of a session that was open before, the longest first."""
    waits = []
    async with await log_in(server) as connection, connection.start_sftp_client() as sftp:
        while time.monotonic() < until:
            asked = time.monotonic()
            await sftp.stat("/inbox")
            waits.append(time.monotonic() - asked)
            await asyncio.sleep(0.02)
    return sorted(waits, reverse=True)


async def attack(server: Server, seconds: float, seed: int) -> None:
    flight = await asyncio.to_thread(first_flight)
    await mutate_sftp(server, random.Random(seed), time.monotonic() + 0.5)  # whatever is loaded late is loaded
    memory, open_files = resident(server.pid()), descriptors(server.pid())
    until, garbage = time.monotonic() + seconds, list[int]()
    strangers = threading.Thread(target=before_login, args=(server.port, random.Random(seed + 1), flight, until, garbage))
    strangers.start()
    waits, *sessions = await asyncio.gather(bystand(server, until), *(mutate_sftp(server, random.Random(seed + n), until) for n in (2, 3)))
    await asyncio.to_thread(strangers.join)
    grown = resident(server.pid()) - memory
    print(f"sockets: {sum(sessions)} sessions, {sum(garbage)} connections of garbage, {grown:+} MB of {memory}, a bystander waited {waits[0]:.2f} s")
    assert waits[0] < STUCK_SECONDS
    assert waits[: STILL + 1][-1] < BYSTANDER_SECONDS, waits[: STILL + 1]
    assert grown < GROWTH_MEGABYTES
    for _ in range(600):
        if descriptors(server.pid()) <= open_files + 20:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{descriptors(server.pid())} descriptors are open; there were {open_files}")


def still_serves(server: Server) -> None:
    """A paper is taken, once there is room: a long attack fills all that papers may take here, and other programs use the same disk."""
    file = server.folder.settings
    file.write_text(re.sub(r"reserve_bytes = \d+", "reserve_bytes = 0", file.read_text()))
    os.kill(server.pid(), signal.SIGHUP)
    deadline = time.monotonic() + 120
    while not server.events("gateway.reloaded"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while True:  # how much room there is, is looked at now and then
        try:
            server.sftp(f"put {server.key}.pub /inbox/after", "ls /inbox")
        except AssertionError:
            assert time.monotonic() < deadline, server.log()[-5000:]
            time.sleep(0.5)
        else:
            return


def test_mutated_sessions_and_garbage(server: Server, fuzz_seconds: float, fuzz_seed: int) -> None:
    asyncio.run(attack(server, fuzz_seconds, fuzz_seed))
    still_serves(server)


@pytest.mark.long
def test_mutated_sessions_and_garbage_for_a_while(server: Server) -> None:
    asyncio.run(attack(server, 60, 60))
    still_serves(server)
