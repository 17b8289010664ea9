"""Profiles, speeds, sessions and handles of a client, through sessions and at a real server; and that a change holds for sessions that are open."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from gateway.catalog import Catalog
from gateway.catalog.limits import Limits
from gateway.jail import Refused
from gateway.sftp.protocol.wire import OpenFlag, Status
from tests.integration.sftp_rig import APPEND, CLIENT, RESUME, WRITE, Desk, Refusal, Server, paramiko_client, run, running_server


def test_a_drop_box_takes_and_gives_nothing_back(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"first")
        for attempt in (
            session.open("/inbox/a", OpenFlag.READ),
            session.open("/inbox/a", WRITE),
            session.open("/inbox/a", APPEND),
            session.open("/inbox/new", RESUME | OpenFlag.READ),
            session.remove("/inbox/a"),
            session.rename("/inbox/a", "/inbox/b"),
            session.set("/inbox/a", size=0),
            session.list("/outbox"),
        ):
            with pytest.raises(Refusal) as caught:
                await attempt
            assert caught.value.code is Status.PERMISSION_DENIED, caught.value
        assert await session.list("/inbox") == ["a"]
        assert await session.list("/") == ["inbox", "receipts"]  # whoever copies everything is not stopped by what may not be listed
        await session.put("/inbox/b.part", b"second")
        with pytest.raises(Refusal, match="replaced"):
            await session.rename("/inbox/b.part", "/inbox/a", replace=True)
        await session.rename("/inbox/b.part", "/inbox/b")
        handle = await session.open("/inbox/c", WRITE)
        await session.write(handle, 0, b"bro")
        await session.lost()
        session = desk.session()
        handle = await session.open("/inbox/c", APPEND)
        await session.write(handle, 3, b"ken")
        await session.close(handle)
        await desk.land_all()
        assert sorted(content for _, content in desk.landed()) == [b"broken", b"first", b"second"]

    run(work, tmp_path, limits=Limits(profile="drop"))


def test_read_only_changes_nothing_and_a_change_of_profile_holds_at_once(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"paper")
        desk.papers.take_limits(Limits(profile="read-only"))
        with pytest.raises(Refusal):  # a reading open that makes an empty file
            await session.open("/inbox/zero", OpenFlag.READ | OpenFlag.CREATE)
        assert await session.list("/inbox") == ["a"]
        assert await session.get("/inbox/a") == b"paper"
        for attempt in (
            session.put("/inbox/b", b""),
            session.remove("/inbox/a"),
            session.rename("/inbox/a", "/inbox/b"),
            session.set("/inbox/a", mtime=1),
        ):
            with pytest.raises(Refusal, match="can be read, not changed"):
                await attempt

    run(work, tmp_path)


def test_handles_of_a_client_are_bounded(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        first, second = desk.session(), desk.session()
        await first.open("/inbox/a", WRITE)
        await second.open("/inbox/b", WRITE)
        with pytest.raises(Refusal, match="at most 2 in all your sessions"):
            await second.open("/inbox/c", WRITE)

    run(work, tmp_path, limits=Limits(handles=2))


def test_sessions_that_were_open_before_the_limit_count(tmp_path: Path) -> None:
    """A limit is set, and lowered, while sessions are open."""

    async def work(desk: Desk) -> None:
        papers = desk.papers
        early = [papers.take_place() for _ in range(3)]
        for most in (2, 3):
            papers.take_limits(Limits(sessions=most))
            with pytest.raises(Refused, match=f"the client has {most} sessions"):
                papers.take_place()
        papers.take_limits(Limits(sessions=4))
        late = papers.take_place()
        papers.take_limits(Limits(sessions=2))
        for give_back in early[:2]:
            with pytest.raises(Refused):
                papers.take_place()
            give_back()
        with pytest.raises(Refused):
            papers.take_place()
        late()
        again = papers.take_place()
        with pytest.raises(Refused):
            papers.take_place()
        again()
        papers.take_limits(Limits())
        papers.take_place()

    run(work, tmp_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("limits"), "workers = 2\n") as running:
        yield running


def limit(server: Server, **columns: object) -> None:
    with Catalog.open(server.folder.catalog) as catalog:
        catalog.edit_client(CLIENT, **columns)


def test_an_upload_is_held_to_its_speed_and_others_are_not(server: Server) -> None:
    limit(server, upload_bytes_per_second=1_000_000)
    with paramiko_client(server) as client, client.open_sftp() as sftp, client.open_sftp() as other:
        waited = []
        while len(waited) < 4 and min(waited, default=2.5) >= 2.5:  # a machine that is busy is not so every time
            began = time.monotonic()
            with sftp.open("/inbox/slow", "wb") as file:
                file.set_pipelined(True)
                file.write(os.urandom(2_500_000))
                asked = time.monotonic()
                other.listdir("/outbox")
                waited.append(time.monotonic() - asked)
            assert 1.5 < time.monotonic() - began < 60
        assert min(waited) < 2.5, waited
        limit(server, upload_bytes_per_second=None)
        deadline = time.monotonic() + 240
        while True:  # within seconds it holds no more, in the session that is open
            began = time.monotonic()
            with sftp.open("/inbox/fast", "wb") as file:
                file.set_pipelined(True)
                file.write(bytes(3_000_000))
            if time.monotonic() - began < 1.5:
                break
            assert time.monotonic() < deadline


def test_sessions_of_a_client_are_bounded_and_given_back(server: Server) -> None:
    limit(server, max_sessions=2)
    with paramiko_client(server) as client:
        sessions = [client.open_sftp() for _ in range(2)]
        with pytest.raises(paramiko.SSHException):
            client.open_sftp()
        sessions[0].close()
        deadline = time.monotonic() + 240
        while True:
            with contextlib.suppress(paramiko.SSHException):
                client.open_sftp().listdir("/inbox")
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
    limit(server, max_sessions=None)


def test_a_quota_that_is_set_while_somebody_uploads_holds(server: Server) -> None:
    with paramiko_client(server) as client, client.open_sftp() as sftp:
        file = sftp.open("/inbox/growing", "wb")
        file.write(bytes(100_000))
        limit(server, quota_bytes=200_000)
        deadline = time.monotonic() + 240
        with pytest.raises(OSError, match="over the quota"):
            while time.monotonic() < deadline:
                file.write(bytes(50_000))
                file.seek(0)
                file.write(b"x")
                file.seek(0, 2)
                time.sleep(0.1)
        with contextlib.suppress(OSError):
            file.close()
        space = server.sftp("df /inbox")
    assert " 192 " in space, space  # KB, in blocks of 4
    limit(server, quota_bytes=None)


def test_a_session_opened_late_on_an_old_connection_does_not_bring_the_old_limits_back(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        old = [stack.enter_context(paramiko_client(server)) for _ in range(4)]  # some of them at the client's home
        sftp = stack.enter_context(old[0].open_sftp())
        limit(server, profile="read-only")
        deadline = time.monotonic() + 240
        with pytest.raises(PermissionError):
            while time.monotonic() < deadline:
                sftp.open("/inbox/early", "wb").close()
        for connection in old:
            with connection.open_sftp() as late, pytest.raises(PermissionError):
                late.open("/inbox/late", "wb")
            with pytest.raises(PermissionError):
                sftp.open("/inbox/late", "wb")
    limit(server, profile="exchange")
