"""The fast road and the stock one: the same bytes arrive by each, with each cipher, through exchanges of keys, and a forged packet ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import asyncssh
import pytest

from gateway.sftp.session.shares import Share, Shares
from gateway.sftp.transport import connection as transport
from gateway.sftp.transport import fastpath
from gateway.sftp.transport.fastpath import FastConnection
from tests.integration.sftp_rig import CLIENT, Server, running_server

SIZE = 3 * 1024 * 1024 + 17
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr")


@pytest.fixture(scope="module", params=["fast", "stock"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # Papers stay in the gateway for the whole test: they read back without ingest.
    settings = f"settle_seconds = 600\nfast_path = {str(request.param == 'fast').lower()}\n"
    with running_server(tmp_path_factory.mktemp("roads"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("paper") / "paper.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


def test_this_asyncssh_has_the_fast_road() -> None:
    assert fastpath.is_possible()


@pytest.mark.parametrize("extra", [("-c", cipher) for cipher in CIPHERS] + [("-o", "RekeyLimit=200K"), ("-B", "1000", "-R", "200"), ()], ids=str)
def test_what_goes_up_comes_back(server: Server, paper: Path, tmp_path: Path, extra: tuple[str, ...]) -> None:
    name = f"/inbox/{len(extra)}{abs(hash(extra)):x}"
    back = tmp_path / "back.bin"
    server.sftp(f"put {paper} {name}", f"get {name} {back}", extra=extra)
    assert back.read_bytes() == paper.read_bytes()


def test_many_tiny_packets_arrive_in_order(server: Server) -> None:
    """More of them in one burst than a turn of the event loop takes."""
    content = os.urandom(30_000)

    async def work() -> bytes:
        options = {"username": CLIENT, "client_keys": [str(server.key)], "known_hosts": None, "config": None}
        async with (
            asyncssh.connect("127.0.0.1", server.port, encryption_algs=["aes128-gcm@openssh.com"], **options) as connection,
            connection.start_sftp_client() as sftp,
        ):
            sftp._handler._writer.channel._send_pktsize = 8
            async with sftp.open("/inbox/tiny", "wb") as file:
                await file.write(content)
            return await _read_all(sftp, "/inbox/tiny")

    assert asyncio.run(asyncio.wait_for(work(), 60)) == content


async def _read_all(sftp: asyncssh.SFTPClient, path: str) -> bytes:
    async with sftp.open(path, "rb") as file:
        found = await file.read()
        assert isinstance(found, bytes)
        return found


def test_many_tiny_packets_leave_turns_to_others() -> None:
    taken: list[int] = []
    connection = FastConnection.__new__(FastConnection)
    connection._max_recv_pktlen = 256 * 1024
    connection._left_over, connection.share = False, Shares().of("somebody")
    connection._fast_receiver = lambda: SimpleNamespace(open_into=lambda *_: True)  # type: ignore[assignment, method-assign, return-value]
    connection._handle_opened = lambda _, length: taken.append(length) is None  # type: ignore[method-assign]
    packet = (16).to_bytes(4, "big") + bytes(16 + 16)
    many = fastpath._PACKETS_AT_ONCE + 50
    fastpath._RECEIVED[: many * len(packet)] = packet * many
    assert connection._handle(many * len(packet)) == fastpath._PACKETS_AT_ONCE * len(packet)
    assert (len(taken), connection._left_over) == (fastpath._PACKETS_AT_ONCE, True)

    def last(_: object, length: int) -> bool:
        taken.append(length)
        connection._turn_is_over = len(taken) == 3
        return True

    taken.clear()
    connection._left_over = False
    connection._handle_opened = last  # type: ignore[assignment, method-assign]
    assert connection._handle(many * len(packet)) == 3 * len(packet)  # the session's turn is over: the rest stays where it is
    assert connection._left_over

    taken.clear()
    connection._left_over = False
    connection.share = cast(Share, SimpleNamespace(must_wait=True, left=0.0))
    assert connection._handle(many * len(packet)) == 0  # others come first
    assert (taken, connection._left_over) == ([], True)


def test_a_peer_with_tiny_packets_is_fed_less_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the stock road, which looks at the clock between two pieces."""
    fed: list[int] = []
    clock = iter(range(10_000))
    connection = transport.GuardedConnection.__new__(transport.GuardedConnection)
    connection.is_logged_in, connection._unfed, connection._inpbuf, connection._stopped_for = True, memoryview(b""), b"", set()
    connection.share = cast(Share, SimpleNamespace(must_wait=False, begin=Mock(), end=Mock(), later=Mock()))
    connection._max_recv_pktlen, connection._piece = 256 * 1024, transport.FEED_AFTER_LOGIN
    connection._take = lambda piece: fed.append(len(piece))  # type: ignore[method-assign]
    connection._loop = connection._transport = Mock()
    with monkeypatch.context() as patch:
        patch.setattr(transport.time, "monotonic", lambda: next(clock) * 0.0009)  # each look finds that much time gone
        connection.data_received(bytes(1024 * 1024))
        while connection._unfed:
            connection._feed()
        assert fed[0] == transport.FEED_AFTER_LOGIN
        assert fed[10] == transport.FEED_LEAST
        fed.clear()
        patch.setattr(transport.time, "monotonic", lambda: 0.0)  # now it is quick
        connection.data_received(bytes(1024 * 1024))
    assert max(fed) == transport.FEED_AFTER_LOGIN


def test_openssh_is_offered_what_is_fast(server: Server) -> None:
    said = server.sftp("pwd", extra=("-vv",))
    chosen = next(line.split("cipher: ")[1].split()[0] for line in said.splitlines() if "kex: server->client cipher:" in line)
    assert chosen == ("aes128-gcm@openssh.com" if _is_fast(server) else "chacha20-poly1305@openssh.com")


def test_one_that_calls_itself_openssh_and_waits_for_us_is_spoken_to(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as peer:
        peer.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
        seen = b""
        while b"\x14" not in seen.partition(b"\r\n")[2][5:6]:
            piece = peer.recv(4096)
            assert piece, "cut off"
            seen += piece


def test_a_changed_byte_ends_the_connection_and_publishes_nothing(server: Server, paper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _meddling(server, after=1_500_000) as port, monkeypatch.context() as patch:
        patch.setattr(server, "port", port)
        ended, said = server.run_sftp(f"put {paper} /inbox/meddled")
    assert ended != 0, said  # without a word where the pipe to ssh broke before sftp was told that ssh is gone
    deadline = time.monotonic() + 240
    while not [event for event in server.events("paper.broken_off") if event["path"] == "/inbox/meddled"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not [event for event in server.events("paper.deposited") if event["path"] == "/inbox/meddled"]


def _is_fast(server: Server) -> bool:
    return server.installation.settings.gateway.fast_path


@contextlib.contextmanager
def _meddling(server: Server, after: int) -> Iterator[int]:
    """A proxy that flips one bit of what the client sends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_meddle, args=(listener, server.port, after), daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(240)
        assert not thread.is_alive()


def _meddle(listener: socket.socket, port: int, after: int) -> None:
    listener.settimeout(30)
    client, _ = listener.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as upstream:
        passed = 0

        def change(data: bytes) -> bytes:
            nonlocal passed
            passed, before = passed + len(data), passed
            if before < after <= passed:
                at = after - before - 1
                return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
            return data

        back = threading.Thread(target=_pump, args=(upstream, client, lambda data: data), daemon=True)
        back.start()
        _pump(client, upstream, change)
        back.join(240)


def _pump(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(change(data))
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
