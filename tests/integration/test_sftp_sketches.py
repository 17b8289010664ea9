"""Small new papers that stay in memory until CLOSE: nobody can tell, but who kills the process."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.catalog.limits import Limits
from gateway.jail import Refused, parse
from gateway.sftp.papers import sketches
from gateway.sftp.papers.drafts import MOST_PIECES
from gateway.sftp.papers.sync_cost import SyncCost
from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.wire import OpenFlag, Status
from tests.integration.sftp_rig import APPEND, RESUME, WRITE, Desk, Refusal, Session, run

SMALL = os.urandom(20_000)
A = parse(b"/inbox/d/a")


@pytest.fixture(autouse=True)
def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SyncCost, "is_low", True)
    monkeypatch.setattr(sketches, "LINGER", 3600.0)


async def begun(desk: Desk) -> tuple[Session, bytes]:
    """A paper in a folder, of which some has come and of which the disk knows nothing."""
    session = desk.session()
    await session.ask(ask.MakeFolder, b"/inbox/d")
    handle = await session.open("/inbox/d/a", WRITE)
    await session.write(handle, 0, SMALL)
    assert desk.partials() == [] and desk.tree.look(A) is None
    return session, handle


def test_at_close_everything_is_there_once(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session, handle = await begun(desk)
        reply = session.operations.answer(ask.Close(1, handle))
        assert isinstance(reply, bytes)
        entry = desk.tree.look(A)
        assert entry is not None and entry.pointer is not None and entry.pointer.state == "whole" and entry.size == len(SMALL)
        assert desk.again() == 1  # as if killed: it was acknowledged
        assert desk.landed() == [("/inbox/d/a", SMALL)]

    run(work, tmp_path)


async def listed(desk: Desk) -> None:
    assert await desk.session().list_sizes("/inbox/d") == [("a", len(SMALL))]


async def told(desk: Desk) -> None:
    assert (await desk.session().stat("/inbox/d/a")).size == len(SMALL)


async def read(desk: Desk) -> None:
    assert await desk.session().get("/inbox/d/a") == SMALL


async def not_removed_with_its_folder(desk: Desk) -> None:
    with pytest.raises(Refusal):
        await desk.session().ask(ask.RemoveFolder, b"/inbox/d")


async def in_the_way_of_a_folder(desk: Desk) -> None:
    with pytest.raises(Refusal):
        await desk.session().ask(ask.MakeFolder, b"/inbox/d/a")


async def taken(desk: Desk) -> None:
    with pytest.raises(Refusal):
        await desk.session().open("/inbox/d/a", WRITE | OpenFlag.EXCLUSIVE)


async def shared(desk: Desk) -> None:
    other = desk.session()
    await other.close(await other.open("/inbox/d/a", RESUME))
    assert desk.tree.look(A) is not None


async def counted(desk: Desk) -> None:
    await desk.session().ask(ask.FileSystem, b"/inbox/d")
    assert desk.tree.usage()[1] == 2


async def times_set(desk: Desk) -> None:
    await desk.session().set("/inbox/d/a", mtime=1_000_000, atime=1_000_000)


async def expiry(desk: Desk) -> None:
    assert await desk.papers.names.expire(set()) == 0
    assert desk.tree.look(A) is not None


LOOKS = (listed, told, read, not_removed_with_its_folder, in_the_way_of_a_folder, taken, shared, counted, times_set, expiry)


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.__name__)
def test_it_is_there_for_whoever_looks_and_goes_on(tmp_path: Path, look: Callable[[Desk], Awaitable[None]]) -> None:
    async def work(desk: Desk) -> None:
        session, handle = await begun(desk)
        await look(desk)
        await session.write(handle, len(SMALL), b"more")
        await session.close(handle)
        await desk.land_all()
        assert desk.landed() == [("/inbox/d/a", SMALL + b"more")]

    run(work, tmp_path)


@pytest.mark.parametrize("folder", [False, True])
def test_it_follows_its_name(tmp_path: Path, folder: bool) -> None:
    async def work(desk: Desk) -> None:
        session, handle = await begun(desk)
        await desk.session().rename(*(("/inbox/d", "/inbox/e") if folder else ("/inbox/d/a", "/inbox/d/b")))
        await session.close(handle)
        await desk.land_all()
        assert desk.landed() == [("/inbox/e/a" if folder else "/inbox/d/b", SMALL)]

    run(work, tmp_path)


def test_removed_it_is_gone(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session, handle = await begun(desk)
        await desk.session().remove("/inbox/d/a")
        with pytest.raises(Refusal, match="another session"):
            await session.close(handle)
        await desk.land_all()
        assert desk.landed() == [] and desk.partials() == [] and desk.tree.look(A) is None

    run(work, tmp_path)


@pytest.mark.parametrize("flags", [APPEND, RESUME])
def test_a_lost_connection_leaves_it_to_be_resumed(tmp_path: Path, flags: int) -> None:
    async def work(desk: Desk) -> None:
        session, _ = await begun(desk)
        await session.lost()
        desk.again()
        session = desk.session()
        size = (await session.stat("/inbox/d/a")).size
        assert size == len(SMALL)
        handle = await session.open("/inbox/d/a", flags)
        await session.write(handle, size, b"more")
        await session.close(handle)
        await desk.land_all()
        assert desk.landed() == [("/inbox/d/a", SMALL + b"more")]

    run(work, tmp_path)


@pytest.mark.parametrize(("offset", "size"), [(len(SMALL), 60_000), (len(SMALL) + 5, 10), (10, 20)], ids=["large", "a gap", "over it"])
def test_what_is_no_sketch_any_more_is_a_partial(tmp_path: Path, offset: int, size: int) -> None:
    async def work(desk: Desk) -> None:
        session, handle = await begun(desk)
        data = os.urandom(size)
        await session.write(handle, offset, data)
        assert len(desk.partials()) == 1 and desk.tree.look(A) is not None
        await session.close(handle)
        await desk.land_all()
        whole = SMALL.ljust(offset, b"\0")
        assert desk.landed() == [("/inbox/d/a", whole[:offset] + data + whole[offset + size :])]

    run(work, tmp_path)


@pytest.mark.parametrize("size", [0, 2])
def test_many_small_pieces_are_not_kept(tmp_path: Path, size: int) -> None:
    """Each costs memory beside its bytes: a client that sends a block by nothing, or by two bytes, gets a file."""

    async def work(desk: Desk) -> None:
        session = desk.session()
        handle = await session.open("/inbox/a", WRITE)
        for number in range(MOST_PIECES):
            await session.write(handle, number * size, b"x" * size)
        assert desk.partials() == []
        await session.write(handle, MOST_PIECES * size, b"end")
        assert len(desk.partials()) == 1
        await session.close(handle)
        assert await desk.session().get("/inbox/a") == b"x" * size * MOST_PIECES + b"end"

    run(work, tmp_path)


def test_it_appears_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "LINGER", 0.5)

    async def work(desk: Desk) -> None:
        session, handle = await begun(desk)
        until = time.monotonic() + 240
        while desk.tree.look(A) is None:
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        await session.close(handle)

    run(work, tmp_path)


@pytest.mark.parametrize("bound", ["MOST_OF_CLIENT", "MOST_OF_ALL"])
def test_so_many_and_no_more_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(sketches, bound, 3)

    async def work(desk: Desk) -> None:
        session = desk.session()
        handles = [await session.open(f"/inbox/{i}", WRITE) for i in range(5)]
        assert len(desk.partials()) == 2
        for handle in handles:
            await session.close(handle)
        assert len(desk.partials()) == 5 and desk.papers.book.parts.sketches.taken == 0

    run(work, tmp_path)


def test_a_folder_that_is_not_there_is_told_at_open(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session, handle = await begun(desk)
        await session.close(handle)
        await session.remove("/inbox/d/a")
        await session.ask(ask.RemoveFolder, b"/inbox/d")
        with pytest.raises(Refusal) as refusal:
            await session.open("/inbox/d/a", WRITE)
        assert refusal.value.code is Status.NO_SUCH_FILE

    run(work, tmp_path)


@pytest.mark.parametrize("lost", [False, True])
def test_what_cannot_be_made_is_refused_and_takes_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    async def work(desk: Desk) -> None:
        session, handle = await begun(desk)
        names = desk.papers.quota.room()[3]

        def full(*_: object, **__: object) -> None:
            raise Refused("no_space", "full")

        with monkeypatch.context() as broken:
            broken.setattr(desk.tree, "put", full)
            assert await desk.session().list("/inbox/d") == []
            if lost:
                await session.lost()
            else:
                with pytest.raises(Refusal) as refusal:
                    await session.close(handle)
                assert refusal.value.code is Status.FAILURE or "full" in refusal.value.text
        assert desk.partials() == [] and desk.papers.book.drafts == {} and desk.papers.book.parts.sketches.taken == 0
        assert desk.papers.quota.room()[3] == names + 1
        assert desk.events()[-1] == "paper.broken_off"
        await session.put("/inbox/d/a", SMALL)

    run(work, tmp_path, limits=Limits(names=10))


def test_killed_before_close_nothing_is_left(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        await begun(desk)
        assert desk.again() == 0
        assert desk.landed() == [] and desk.partials() == [] and await desk.session().list("/inbox/d") == []

    run(work, tmp_path)


def test_whoever_holds_all_names_finds_them_all(tmp_path: Path) -> None:
    """One that began while somebody waited for its turn."""

    async def work(desk: Desk) -> None:
        session, handle = await begun(desk)
        names = desk.papers.names
        await names.rename(A, parse(b"/inbox/d/b"), replace=False)
        await session.close(handle)
        handle = await session.open("/inbox/d/a", WRITE)
        await session.write(handle, 0, SMALL)
        await names.remove(A, "s1")
        assert desk.tree.look(A) is None
        await session.close(handle)
        await desk.land_all()
        assert desk.landed() == [("/inbox/d/b", SMALL)]

    run(work, tmp_path)
