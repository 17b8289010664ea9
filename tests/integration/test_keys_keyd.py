"""keyd's socket: limits, garbage, floods, peers, a service that is away or silent."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.errors import OutOfReach
from gateway.audit.log import AuditLog
from gateway.keys.client import KeydClient, KeydUnavailable, KeyLimited, KeyRefused, MasterAgent
from gateway.keys.keyd import ANYTHING, KeyServer
from gateway.keys.paths import short_path
from gateway.keys.protocol import MAX_LINE_BYTES
from gateway.keys.service import CACHE_SECONDS, KeyService
from tests.integration.keyd_house import KEY_BYTES, House, build, served


@pytest.fixture
def house(tmp_path: Path) -> House:
    return build(tmp_path)


def test_the_rate_limit_refuses_for_a_while(house: House) -> None:
    now = [100.0]
    papers = [house.seal("acme", b"content")[0] for _ in range(3)]
    with served(house, per_minute=3, clock=lambda: now[0]) as client:
        for paper in papers:
            client.paper_key("acme", paper, "vault", "acme", "r")
        with pytest.raises(KeyLimited, match="too many keys") as caught:
            client.paper_key("acme", papers[0], "vault", "acme", "r")
        assert 0 < caught.value.retry_seconds <= 20
        client.paper_key("acme", papers[0], "vault", "ops:anna", "r")
        now[0] += 20
        client.paper_key("acme", papers[0], "vault", "acme", "r")
    assert [event["event"] for event in house.audited()].count("key.refused") == 1


def test_a_refused_flood_does_not_fill_the_log(house: House) -> None:
    now = [0.0]
    with served(house, clock=lambda: now[0]) as client:
        for _ in range(700):
            with pytest.raises(KeyRefused):
                client.paper_key("acme", "0" * 32, "vault", "nobody", "r")
        assert len(house.audited()) == 600
        now[0] += 1
        with pytest.raises(KeyRefused):
            client.paper_key("acme", "0" * 32, "vault", "nobody", "r")
    assert house.audited()[-1]["suppressed"] == 100


def test_identities_are_forgotten(house: House) -> None:
    now = [0.0]
    paper, _ = house.seal("acme", b"content")
    with house.catalog() as catalog, AuditLog(house.folder.audit, "keyd") as audit:
        service = KeyService(house.keyring, house.master, catalog, audit, limits=None, clock=lambda: now[0])
        agent = MasterAgent(house.installation, house.keyring, house.master)
        agent._made = service
        agent.paper_key("acme", paper, "vault", "acme", "r")
        assert len(service._cache._kept) == 1
        now[0] += CACHE_SECONDS
        service.tick()
        assert len(service._cache._kept) == 0


@contextlib.contextmanager
def raw(house: House) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        with short_path(house.folder.keyd_socket) as name:
            connection.connect(name)
        yield connection


def everything(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            data += piece
    return data


@pytest.mark.parametrize("garbage", [b"\n", b"garbage\n", b"\x00\xff\xfe\n", b"[" * 200_000 + b"\n", b'{"op":"master"}\n', b"GET / HTTP/1.1\r\n"])
def test_garbage_is_answered_and_the_connection_ended(house: House, garbage: bytes) -> None:
    paper, _ = house.seal("acme", b"content")
    with served(house) as client:
        with raw(house) as connection:
            connection.sendall(garbage)
            assert json.loads(everything(connection))["error"] == "bad_message"
        assert len(client.paper_key("acme", paper, "vault", "acme", "r")) == KEY_BYTES
    assert house.audited()[0]["event"] == "key.refused"


def test_an_oversized_line_is_cut_off(house: House) -> None:
    with served(house), raw(house) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
            for _ in range(64):
                connection.sendall(b"x" * (MAX_LINE_BYTES // 16))
        answer = everything(connection)  # nothing when the kernel threw it away together with what we still sent
        assert answer == b"" or json.loads(answer)["message"] == "the line is too long"
    assert house.audited()[-1]["why"] == "the line is too long"


def test_a_line_that_never_ends_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.keys.keyd.LINE_SECONDS", 0.3)
    with served(house), raw(house) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            until = time.monotonic() + 240
            while time.monotonic() < until:
                connection.sendall(b"{")
                time.sleep(0.1)
            pytest.fail("it is still listened to")
        assert everything(connection) == b""


def test_requests_may_come_in_pieces_and_together(house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    line = json.dumps({"op": "paper", "client": "acme", "paper": paper, "where": "vault", "person": "acme", "reason": "r"}).encode() + b"\n"
    with served(house), raw(house) as connection:
        for place in range(0, len(line), 7):
            connection.sendall(line[place : place + 7])
        connection.sendall(line * 20)
        connection.shutdown(socket.SHUT_WR)
        answers = everything(connection).splitlines()
    assert len(answers) == 21
    assert len(set(answers)) == 1
    assert set(json.loads(answers[0])) == {"file_key"}


def test_connections_are_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.keys.keyd.LINE_SECONDS", 600)  # those that are held say nothing
    paper, _ = house.seal("acme", b"content")
    with served(house, max_connections=3) as client, contextlib.ExitStack() as stack:
        held = [stack.enter_context(raw(house)) for _ in range(3)]
        with pytest.raises(KeydUnavailable, match="too many connections"):
            client.paper_key("acme", paper, "vault", "acme", "r")
        held[0].close()
        until = time.monotonic() + 240
        while True:
            with contextlib.suppress(KeydUnavailable):
                client.paper_key("acme", paper, "vault", "acme", "r")
                break
            assert time.monotonic() < until, "a freed connection was not given on"
            time.sleep(0.05)


def test_another_user_is_turned_away(house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    with served(house, users={os.geteuid() + 4711: ANYTHING}) as client, pytest.raises(KeydUnavailable):
        client.paper_key("acme", paper, "vault", "acme", "r")
    assert house.audited()[-1]["why"] == f"a connection by the user {os.geteuid()}"


def test_another_role_asks_for_what_is_its_own_alone(house: House) -> None:
    """The gateway in the name of people, never of ops; the drill for what came back, never for what lies here."""
    paper, _ = house.seal("acme", b"content")
    with served(house, users={os.geteuid(): ("paper", "code")}) as gateway:
        assert gateway.paper_key("acme", paper, "vault", "acme", "download")
        for person, headers in (("ops:root", False), ("ops:root", True), ("acme", True)):
            with pytest.raises(KeyRefused, match="may not ask"):
                gateway.header_keys("acme", [(paper, b"x")], person, "r") if headers else gateway.paper_key("acme", paper, "vault", person, "r")
        assert house.audited()[-1]["why"] == f"the user {os.geteuid()} asked for 'headers' in the name of 'acme'"
    with served(house, users={os.geteuid(): ("headers",)}) as drill, pytest.raises(KeyRefused, match="may not ask"):
        drill.paper_key("acme", paper, "vault", "acme", "download")


def test_the_socket_is_private(house: House) -> None:
    with served(house):
        assert stat.S_IMODE(house.folder.keyd_socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(house.folder.run.stat().st_mode) == 0o700
    assert not house.folder.keyd_socket.exists()


def test_a_data_folder_deep_down(tmp_path: Path) -> None:
    deep = build(tmp_path.joinpath(*["a folder with a long name"] * 8))
    assert len(str(deep.folder.keyd_socket)) > 200
    paper, _ = deep.seal("acme", b"content")
    with served(deep) as client:
        assert len(client.paper_key("acme", paper, "vault", "acme", "r")) == KEY_BYTES


def test_keyd_down_is_temporary(house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    client = KeydClient(house.folder.keyd_socket)
    with pytest.raises(KeydUnavailable, match="out of reach") as caught:
        client.paper_key("acme", paper, "vault", "acme", "r")
    assert isinstance(caught.value, OutOfReach)
    with served(house):
        key = client.paper_key("acme", paper, "vault", "acme", "r")
    with pytest.raises(KeydUnavailable):
        client.paper_key("acme", paper, "vault", "acme", "r")
    with served(house):  # the old connection is dead, and nobody notices
        assert client.paper_key("acme", paper, "vault", "acme", "r") == key


def test_a_silent_keyd_is_given_up(house: House) -> None:
    house.folder.run.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, short_path(house.folder.keyd_socket) as name:
        listener.bind(name)
        listener.listen()
        client = KeydClient(house.folder.keyd_socket, answer_seconds=0.3)
        with pytest.raises(KeydUnavailable, match="did not answer in time"):
            client.paper_key("acme", "0" * 32, "vault", "acme", "r")


def test_many_threads_share_a_client(house: House) -> None:
    papers = [house.seal("acme", b"content")[0] for _ in range(4)]
    with served(house) as client:
        wanted = {paper: client.paper_key("acme", paper, "vault", "acme", "r") for paper in papers}
        wrong: list[str] = []

        def ask(paper: str) -> None:
            for _ in range(25):
                if client.paper_key("acme", paper, "vault", "acme", "r") != wanted[paper]:
                    wrong.append(paper)

        threads = [threading.Thread(target=ask, args=(paper,)) for paper in papers * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_without_a_record_no_key(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    paper, _ = house.seal("acme", b"content")
    with house.catalog() as catalog, AuditLog(house.folder.audit, "keyd") as audit:
        service = KeyService(house.keyring, house.master, catalog, audit, limits=None)
        with KeyServer(house.folder.keyd_socket, service):
            client = KeydClient(house.folder.keyd_socket)
            client.paper_key("acme", paper, "vault", "acme", "r")
            descriptor, audit._descriptor = audit._descriptor, os.open("/dev/full", os.O_WRONLY)
            monkeypatch.setattr(os, "ftruncate", lambda *_: None)
            with pytest.raises(KeydUnavailable, match="audit log cannot be written"):
                client.paper_key("acme", paper, "vault", "acme", "r")
            os.close(audit._descriptor)
            audit._descriptor = descriptor
            client.paper_key("acme", paper, "vault", "acme", "r")
            client.close()
