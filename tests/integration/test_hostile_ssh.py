"""Raw SSH below paramiko's manners: messages that come too early, names that nobody has, and random ones in an encrypted connection."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections.abc import Iterator

import paramiko
import pytest

from tests.integration.footprint import resident
from tests.integration.sftp_rig import CLIENT, Server, running_server

SECONDS = 60
ECDH_INIT = 30
GROWTH_MEGABYTES = 50


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("ssh"), "max_unauthenticated_per_address = 100\n") as running:
        yield running


@contextlib.contextmanager
def keyed(port: int) -> Iterator[paramiko.Transport]:
    """A connection after its exchange of keys, on which nobody has logged in."""
    transport = paramiko.Transport(socket.create_connection(("127.0.0.1", port)))
    try:
        transport.start_client(timeout=SECONDS)
        yield transport
    finally:
        transport.close()


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def send(transport: paramiko.Transport, body: bytes) -> None:
    transport._send_message(paramiko.Message(body))  # type: ignore[attr-defined]


def ends(transport: paramiko.Transport) -> bool:
    deadline = time.monotonic() + SECONDS
    while transport.is_active() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not transport.is_active()


OPEN = b"\x5a" + text(b"session") + struct.pack(">III", 0, 2**20, 2**15)
TOO_EARLY = {
    "the server's own word that the login is done": [b"\x34"],
    "a service that was not asked for": [b"\x06" + text(b"ssh-userauth"), b"\x34"],
    "a channel": [OPEN],
    "a subsystem on a channel that is not there": [b"\x62" + struct.pack(">I", 0) + text(b"subsystem") + b"\x01" + text(b"sftp")],
    "a command": [OPEN, b"\x62" + struct.pack(">I", 0) + text(b"exec") + b"\x01" + text(b"id")],
    "a forwarding": [b"\x50" + text(b"tcpip-forward") + b"\x01" + text(b"0.0.0.0") + struct.pack(">I", 2222)],
    "data of a channel": [b"\x5e" + struct.pack(">I", 0) + text(b"\x00\x00\x00\x05\x01\x00\x00\x00\x03")],
    "the connection service, without a login": [b"\x05" + text(b"ssh-connection")],
    "the answer to a question that was not asked": [b"\x3d" + struct.pack(">I", 0)],
}


@pytest.mark.parametrize("bodies", TOO_EARLY.values(), ids=TOO_EARLY)
def test_nothing_is_taken_before_the_login(server: Server, bodies: list[bytes]) -> None:
    before = len(server.events("session.opened"))
    with keyed(server.port) as transport:
        with contextlib.suppress(EOFError):  # the first of them may have ended it
            for body in bodies:
                send(transport, body)
        assert ends(transport)
        assert not transport.is_authenticated()
    assert len(server.events("session.opened")) == before


def answers(server: Server, name: bytes, body: bytes) -> list[int]:
    """The types of what comes after a request to log in."""
    seen: list[int] = []
    with keyed(server.port) as transport:
        send(transport, b"\x05" + text(b"ssh-userauth"))
        packetizer = transport.packetizer
        read = packetizer.read_message

        def listening() -> tuple[int, paramiko.Message]:
            kind, message = read()
            seen.append(kind)
            return kind, message

        packetizer.read_message = listening  # type: ignore[method-assign]
        send(transport, b"\x32" + text(name) + text(b"ssh-connection") + body)
        deadline = time.monotonic() + SECONDS
        while transport.is_active() and not {1, 51} & set(seen) and time.monotonic() < deadline:
            time.sleep(0.01)
    return [kind for kind in seen if kind in (1, 51, 52)]


KEY = text(b"ssh-ed25519") + text(b"\x11" * 32)
MALFORMED = {
    "a key that is cut": text(b"publickey") + b"\x01" + text(b"ssh-ed25519") + text(KEY[:20]) + text(b""),
    "a signature that is cut": text(b"publickey") + b"\x01" + text(b"ssh-ed25519") + text(KEY) + text(b"\x00\x00"),
    "a key that names a file": text(b"publickey") + b"\x01" + text(b"ssh-ed25519") + text(b"/etc/ssh/ssh_host_ed25519_key.pub") + text(b""),
    "a method that is none": text(b"\xff" * 40),
    "no method": b"",
    "a password that is no text": text(b"password") + b"\x00" + text(b"\xff\x00\xfe"),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_broken_request_tells_no_known_name_from_an_unknown_one(server: Server, body: bytes) -> None:
    assert answers(server, CLIENT.encode(), body) == answers(server, b"nobody", body)


NO_KEYS = {
    "a point that is not on its curve": text(b"ecdsa-sha2-nistp256") + text(b"nistp256") + text(b"\x04" + b"\x01" * 64),
    "no point": text(b"ecdsa-sha2-nistp256") + text(b"nistp256") + text(b""),
    "an exponent of one": text(b"ssh-rsa") + text(b"\x01") + text(b"\x7f" * 384),
    "an application that is no text": text(b"sk-ssh-ed25519@openssh.com") + text(b"\x11" * 32) + text(b"\xff\xfe"),
}


@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_key_is_refused_and_counted_as_any_other(server: Server, key: bytes) -> None:
    algorithm = key[4 : 4 + int.from_bytes(key[:4], "big")]
    assert answers(server, CLIENT.encode(), text(b"publickey") + b"\x00" + text(algorithm) + text(key)) == [51]


NAMES = [
    b"",
    b"\x00",
    b"acme\x00x",
    b"../acme",
    b"acme/../zeta",
    b"' or 1=1 --",
    b"%s%n",
    b"a" * 30_000,
    b"\xff\xfe",
    "акме".encode(),
    b"acme\r\nadmin",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_name_is_a_way_in(server: Server, name: bytes) -> None:
    assert 52 not in answers(server, name, text(b"none"))
    assert answers(server, b"nobody", text(b"none")) == [51]


def test_the_exchange_of_keys_is_strict(server: Server) -> None:
    """Against prefix truncation: both sides start their counts anew with the new keys, and nothing optional may come before."""
    with socket.create_connection(("127.0.0.1", server.port)) as peer:
        peer.settimeout(SECONDS)
        peer.sendall(b"SSH-2.0-x\r\n")
        got = b""
        while b"kex-strict-s-v00@openssh.com" not in got:
            piece = peer.recv(4096)
            assert piece, "the server does not offer strict key exchange"
            got += piece


def test_a_point_that_gives_no_secret_is_refused(server: Server) -> None:
    """The secret of an all-zero point is known to everybody who listens."""

    transport = paramiko.Transport(socket.create_connection(("127.0.0.1", server.port)))
    sending = transport._send_message  # type: ignore[attr-defined]

    def zeroed(message: paramiko.Message) -> None:
        body = message.asbytes()
        sending(paramiko.Message(body[:1] + text(b"\x00" * 32)) if body[0] == ECDH_INIT else message)

    transport._send_message = zeroed  # type: ignore[attr-defined]
    transport.get_security_options().kex = ("curve25519-sha256@libssh.org",)
    try:
        with pytest.raises((paramiko.SSHException, EOFError)) as failed:
            transport.start_client(timeout=SECONDS)
        assert not transport.initial_kex_done, failed.value  # type: ignore[attr-defined]
    finally:
        transport.close()


def test_a_window_that_grows_without_end_disturbs_nobody(server: Server) -> None:
    adjust = b"\x5d" + struct.pack(">II", 0, 2**32 - 1)
    with keyed(server.port) as transport:
        transport.auth_publickey(CLIENT, paramiko.Ed25519Key.from_private_key_file(str(server.key)))
        sftp = paramiko.SFTPClient.from_transport(transport)
        assert sftp is not None
        for _ in range(100):
            send(transport, adjust)
        assert sorted(sftp.listdir("/")) == ["inbox", "outbox", "receipts"]


def fuzz_messages(port: int, key: paramiko.PKey | None, draw: random.Random) -> None:
    """Random SSH messages in an encrypted connection, before a login or (with a key) after it."""
    with contextlib.suppress(paramiko.SSHException, OSError, EOFError), keyed(port) as transport:
        if key is not None:
            transport.auth_publickey(CLIENT, key)
            channel = transport.open_session()
            channel.invoke_subsystem("sftp")
        for _ in range(50):
            if not transport.is_active():
                break
            kind = draw.choice([*range(1, 8), 20, 21, 30, 31, *range(50, 67), *range(80, 101), draw.randrange(256)])
            number = struct.pack(">I", draw.choice([0, 1, 2**31, 2**32 - 1]))
            rest = draw.choice([b"", number, number + number, text(draw.randbytes(draw.randrange(40))), draw.randbytes(draw.randrange(3000))])
            send(transport, bytes([kind]) + draw.choice([b"", number, text(b"session"), text(b"publickey")]) + rest)
        ends_soon = time.monotonic() + 0.1
        while transport.is_active() and time.monotonic() < ends_soon:
            time.sleep(0.01)


def test_random_messages_before_and_after_the_login(server: Server, fuzz_seconds: float, fuzz_seed: int) -> None:
    key = paramiko.Ed25519Key.from_private_key_file(str(server.key))
    draw, count = random.Random(fuzz_seed), 0
    memory, until = resident(server.pid()), time.monotonic() + fuzz_seconds
    while time.monotonic() < until:
        for shown in (None, key):
            fuzz_messages(server.port, shown, draw)
            count += 1
    grown = resident(server.pid()) - memory
    print(f"messages: {count} connections, {grown:+} MB of {memory}")
    assert count
    assert grown < GROWTH_MEGABYTES
    server.sftp("ls /inbox")
    opened = {event["session"] for event in server.events("session.opened")}
    deadline = time.monotonic() + SECONDS
    while opened != {event["session"] for event in server.events("session.closed")}:
        assert time.monotonic() < deadline, "a session is stuck"
        time.sleep(0.1)
