"""Sessions on real stores: where a session may not go, and what it may not have more of."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.audit.log import AuditLog, AuditUnavailable
from gateway.audit.read import read
from gateway.jail import Pointer, parse
from gateway.jail.shelf import PlainShelf
from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.wire import OpenFlag, Status
from gateway.sftp.session.desk import Desk as Folders
from gateway.sftp.session.operations import Operations
from gateway.sftp.session.recording import SessionRecord
from gateway.sftp.session.visitor import Visitor
from gateway.store.ids import new_paper_id
from tests.integration.sftp_rig import APPEND, CLIENT, RESUME, WRITE, Desk, Refusal, Session, run

BIG = os.urandom(300_000)


def test_deposit_only_takes_and_does_not_give(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.papers.book.deposit_only = True
        session = desk.session()
        await session.put("/inbox/a", BIG)
        await desk.land_all()
        await session.put("/inbox/a", b"second")
        await session.put("/inbox/a", b"third!", RESUME)
        assert (await session.stat("/inbox/a")).size == 6
        for flags in (OpenFlag.READ, APPEND, RESUME | OpenFlag.READ, WRITE | OpenFlag.READ):
            with pytest.raises(Refusal, match="deposited"):  # whole, and not landed yet: the rule is the same
                await session.open("/inbox/a", flags)
            if flags & OpenFlag.READ:
                with pytest.raises(Refusal):
                    await session.open("/inbox/new", flags)
            await desk.land_all()
            with pytest.raises(Refusal, match="deposited") as caught:
                await session.open("/inbox/a", flags)
            assert caught.value.code is Status.PERMISSION_DENIED
        handle = await session.open("/inbox/a", RESUME)
        with pytest.raises(Refusal, match="deposited"):
            await session.write(handle, 100, b"x")
        half = await session.open("/inbox/half", WRITE)
        await session.write(half, 0, BIG)
        await session.lost()
        other = desk.session()
        size = (await other.stat("/inbox/half")).size
        handle = await other.open("/inbox/half", APPEND)  # what was broken off goes on: that reads nothing back
        await other.write(handle, size, BIG[size:])
        await other.close(handle)
        assert (await other.stat("/inbox/half")).size == len(BIG)

    run(work, tmp_path)


def test_no_space_is_said_and_loses_nothing(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"before")
        handle = await session.open("/inbox/b", WRITE)
        await session.write(handle, 0, b"x")
        desk.space.reserve_bytes = 2**62
        desk.space._looked_at = float("-inf")
        with pytest.raises(Refusal, match="no space"):
            await session.write(handle, 1, BIG)
        with pytest.raises(Refusal, match="not whole"):
            await session.close(handle)
        with pytest.raises(Refusal, match="no space") as caught:
            await session.put("/inbox/c", b"after")
        assert caught.value.code is Status.FAILURE
        assert await session.get("/inbox/a") == b"before"
        assert sorted(await session.list("/inbox")) == ["a", "b"]
        await desk.land_all()
        assert [content for _, content in desk.landed()] == [b"before"]

    run(work, tmp_path)


def test_a_gap_larger_than_the_disk_is_refused(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        handle = await session.open("/inbox/a", WRITE)
        for attempt in (session.write(handle, 2**62, b"x"), session.set_handle(handle, size=2**62), session.write(handle, 2**64 - 1, b"x")):
            with pytest.raises(Refusal):
                await attempt

    run(work, tmp_path)


def test_only_the_inbox_is_the_clients_to_change(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        (desk.folder.jail("acme") / "receipts" / "r.json").write_bytes(b"{}")
        assert sorted(await session.list("/")) == ["inbox", "outbox", "receipts"]
        assert await session.get("/receipts/r.json") == b"{}"
        await session.put("/inbox/a", b"x")
        for attempt in (
            session.open("/outbox/a", WRITE),
            session.open("/receipts/r.json", WRITE),
            session.open("/a", WRITE),
            session.remove("/receipts/r.json"),
            session.rename("/inbox/a", "/outbox/a"),
            session.rename("/inbox", "/other"),
            session.ask(ask.MakeFolder, b"/new"),
            session.ask(ask.RemoveFolder, b"/inbox"),
            session.set("/receipts/r.json", atime=1, mtime=1),
        ):
            with pytest.raises(Refusal) as caught:
                await attempt
            assert caught.value.code is Status.PERMISSION_DENIED, str(caught.value)
        assert desk.events().count("operation.refused") == 9
        for raw in (b"/inbox/\xff", b"/inbox/a\0b", b"/inbox/" + b"x" * 256):
            with pytest.raises(Refusal) as caught:
                await session.ask(ask.Stat, raw)
            assert caught.value.code is Status.BAD_MESSAGE

    run(work, tmp_path)


def test_handles_are_bounded_and_never_confused(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        handles = [await session.open(f"/inbox/{number}", WRITE) for number in range(8)]
        with pytest.raises(Refusal, match="too many"):
            await session.open("/inbox/more", WRITE)
        await session.close(handles[0])
        gone, open_still = handles[:2]
        for attempt in (session.close(gone), session.write(gone, 0, b"x"), session.read(b"", 0, 1), session.ask(ask.ReadFolder, open_still)):
            with pytest.raises(Refusal):
                await attempt
        with pytest.raises(Refusal, match="not open for reading"):
            await session.read(handles[1], 0, 1)

    run(work, tmp_path, max_handles=8)


def test_a_read_of_four_gigabytes_is_answered_with_a_piece(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", BIG)
        await desk.land_all()
        handle = await session.open("/inbox/a", OpenFlag.READ)
        assert await session.read(handle, 0, 2**32 - 1) == BIG[: 256 * 1024]
        with pytest.raises(Refusal) as caught:
            await session.read(handle, 2**64 - 1, 10)
        assert caught.value.code is Status.EOF

    run(work, tmp_path)


def test_a_large_folder_comes_in_pages(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        for number in range(700):
            desk.tree.put(parse(f"/inbox/{number}".encode()), Pointer(new_paper_id(), 0, "whole"), mtime=None, durable=False)
        assert sorted(await session.list("/inbox")) == sorted(str(number) for number in range(700))

    run(work, tmp_path)


def test_a_folder_takes_so_many_names_and_no_more(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.papers.book.crowding._most = lambda: 3
        session = desk.session()
        for name in ("a", "b.part"):
            await session.put(f"/inbox/{name}", b"x")
        await session.ask(ask.MakeFolder, b"/inbox/folder")
        await session.put("/inbox/folder/a", b"x")
        for attempt in (
            session.open("/inbox/c", WRITE),
            session.ask(ask.MakeFolder, b"/inbox/c"),
            session.rename("/inbox/folder/a", "/inbox/c"),
        ):
            with pytest.raises(Refusal, match="holds 3 names") as caught:
                await attempt
            assert caught.value.code is Status.FAILURE
        await session.put("/inbox/a", b"again")  # what is there can be changed
        await session.rename("/inbox/b.part", "/inbox/b")
        await session.rename("/inbox/b", "/inbox/folder/b")
        await session.put("/inbox/c", b"x")
        await session.remove("/inbox/c")
        await session.put("/inbox/d", b"x")
        with pytest.raises(Refusal, match="holds 3 names"):
            await session.open("/inbox/e", WRITE)
        desk.again()  # another process finds it as it is
        desk.papers.book.crowding._most = lambda: 3
        session = desk.session()
        with pytest.raises(Refusal, match="holds 3 names"):
            await session.open("/inbox/e", WRITE)
        await session.ask(ask.MakeFolder, b"/inbox/folder/c")
        with pytest.raises(Refusal, match="holds 3 names"):
            await session.open("/inbox/folder/d", WRITE)

    run(work, tmp_path)


def test_a_session_greets_once_and_first(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        with pytest.raises(ask.Malformed):
            session.operations.answer(ask.Init(3))
        fresh = desk.session().operations
        fresh._greeted = False
        with pytest.raises(ask.Malformed):
            fresh.answer(ask.RealPath(1, b"."))
        with pytest.raises(ask.Malformed):
            fresh.answer(ask.Init(2))

    run(work, tmp_path)


def test_a_flood_of_failed_logins_does_not_fill_the_disk(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        for number in range(1000):
            desk.recorder.login_failed(person=f"p{number}", address="192.0.2.7", software="x", attempts=1, reason="no")
        assert 200 <= desk.events().count("login.failed") < 300

    run(work, tmp_path)


def full(*_: object, **__: object) -> None:
    raise AuditUnavailable("the disk is full")


def test_a_refusal_that_cannot_be_recorded_is_told_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the session would wait for its reply for ever, or its connection would break."""

    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/there", b"x")
        monkeypatch.setattr(AuditLog, "append", full)
        for path in ("/receipts/x", "/inbox/there", "/inbox/none"):
            with pytest.raises(Refusal):
                await session.remove(path)
        with pytest.raises(Refusal):
            await session.open("/receipts/x", WRITE)
        monkeypatch.undo()
        await session.stat("/")

    run(work, tmp_path)


def test_an_end_that_cannot_be_recorded_gives_up_every_handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(desk: Desk) -> None:
        shelf = tmp_path / "evidence"
        shelf.mkdir()
        for name in ("one", "two"):
            (shelf / name).write_bytes(b"x")
        visitor = Visitor("eva", "", "s", "192.0.2.1", "test")
        record = SessionRecord(desk.recorder, visitor)

        def open_client(_: str, number: int) -> Operations:
            return Operations(desk.papers, visitor, record, desk.pool.run, desk.space, 9, number=number)

        folders = Folders(visitor, record, desk.pool.run, clients=[CLIENT], open_client=open_client, max_handles=9, evidence=PlainShelf(shelf))
        session = Session(cast(Any, folders))
        for name in ("one", "two"):
            await session.open(f"/evidence/{name}", OpenFlag.READ)
        await session.write(await session.open(f"/clients/{CLIENT}/inbox/paper", WRITE), 0, b"x")
        there = len(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(AuditLog, "append", full)
        await folders.abandon()
        monkeypatch.undo()
        assert len(os.listdir("/proc/self/fd")) <= there - 2
        assert (desk.papers.handles.taken, desk.papers.book.drafts) == (0, {})

    run(work, tmp_path)


def test_failed_logins_that_cannot_be_recorded_are_counted_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(desk: Desk) -> None:
        for works in (True, False, False, True, True):
            with monkeypatch.context() as patch, contextlib.nullcontext() if works else pytest.raises(AuditUnavailable):
                if not works:
                    patch.setattr(AuditLog, "append", full)
                desk.recorder.login_failed(person="pat", address="192.0.2.7", software="x", attempts=1, reason="no")
        assert [event.get("suppressed", 0) for event in read(desk.folder.audit, event="login.failed")] == [0, 2, 0]

    run(work, tmp_path)


def test_refusals_of_one_session_are_counted_when_they_are_too_many(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        for _ in range(300):
            with contextlib.suppress(Refusal):
                await session.remove("/receipts/x")
        assert desk.events().count("operation.refused") == 200

    run(work, tmp_path)
