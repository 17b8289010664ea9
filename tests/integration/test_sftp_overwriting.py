"""Sessions on real stores: what becomes of a paper that is there already when somebody writes to its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.audit.read import read as events
from gateway.sftp.protocol.wire import OpenFlag
from tests.integration.sftp_rig import APPEND, RESUME, WRITE, Desk, Refusal, run

pytestmark = pytest.mark.usefixtures("closing")
BIG = os.urandom(300_000)


def test_several_handles_make_one_paper(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        sessions = [desk.session() for _ in range(4)]
        first = await sessions[0].open("/inbox/a", WRITE)
        handles = [first, *[await session.open("/inbox/a", RESUME) for session in sessions[1:]]]
        for number, (session, handle) in enumerate(zip(sessions, handles, strict=True)):
            await session.write(handle, number * 75_000, BIG[number * 75_000 : (number + 1) * 75_000])
        for session, handle in reversed(list(zip(sessions, handles, strict=True))):
            assert desk.spool.finished_unlanded() == []
            await session.close(handle)
        await desk.land_all()
        assert desk.landed() == [("/inbox/a", BIG)]

    run(work, tmp_path)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("place", ["settling", "landed", "sealed"])
def test_reading_by_a_handle_that_may_write_is_recorded(tmp_path: Path, place: str, clean: bool) -> None:
    """It must not be a way to read papers that nobody hears of."""

    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", BIG)
        (paper,) = [pointer.paper for _, pointer, _ in desk.papers.tree.pointers()]
        if place != "settling":
            await desk.land_all()
        if place == "sealed":
            desk.seal_all()
        reader = desk.session()
        handle = await reader.open("/inbox/a", OpenFlag.READ | OpenFlag.WRITE)
        assert await reader.read(handle, 0, 30_000) == BIG[:30_000]
        await (reader.close(handle) if clean else reader.lost())
        desk.audit.sync()
        (read,) = [entry for entry in events(desk.folder.audit) if entry["event"] == "paper.read"]
        assert (read["path"], read["paper"], read["bytes"]) == ("/inbox/a", paper, 30_000)

    run(work, tmp_path)


def test_overwriting_keeps_the_older_paper_until_close(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"old")
        await desk.land_all()
        handle = await session.open("/inbox/a", WRITE)
        await session.write(handle, 0, b"newer")
        assert await desk.session().get("/inbox/a") == b"old"
        await session.close(handle)
        assert await session.get("/inbox/a") == b"newer"
        await desk.land_all()
        assert desk.landed() == [("/inbox/a", b"old"), ("/inbox/a", b"newer")]

    run(work, tmp_path)


def test_an_overwrite_that_breaks_leaves_the_older_paper(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"old")
        await desk.land_all()
        handle = await session.open("/inbox/a", WRITE)
        await session.write(handle, 0, BIG)
        await session.lost()
        assert await desk.session().get("/inbox/a") == b"old"
        assert desk.partials() == []

    run(work, tmp_path)


@pytest.mark.parametrize("flags", [WRITE, RESUME])
def test_overwriting_while_it_settles_loses_nothing(tmp_path: Path, flags: int) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"first")
        await session.put("/inbox/a", b"again", flags)
        await session.put("/inbox/a", b"third", flags)
        await desk.land_all()
        assert [content for _, content in desk.landed()] == [b"first", b"again", b"third"]
        assert await session.get("/inbox/a") == b"third"

    run(work, tmp_path)


def test_what_is_added_while_it_settles_is_a_further_paper(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"")
        handle = await session.open("/inbox/a", RESUME)
        await session.write(handle, 0, b"one")
        await session.close(handle)
        handle = await session.open("/inbox/a", APPEND)
        await session.write(handle, 3, b"two")
        assert (await session.stat_handle(handle)).size == 6
        await session.close(handle)
        await desk.land_all()
        assert [content for _, content in desk.landed()] == [b"", b"one", b"onetwo"]

    run(work, tmp_path)


@pytest.mark.parametrize("restart", [False, True])
def test_opened_again_and_left_alone_it_stays_whole(tmp_path: Path, restart: bool) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"whole")
        await session.open("/inbox/a", RESUME)
        if restart:
            assert desk.again() == 1
        else:
            await session.lost()
            await desk.land_all()
        assert desk.landed() == [("/inbox/a", b"whole")]
        assert await desk.session().get("/inbox/a") == b"whole"

    run(work, tmp_path)


def test_scp_writes_over_a_paper_without_truncating_first(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", BIG)
        await desk.land_all()
        desk.keys.away = True  # nothing of the older paper is needed
        handle = await session.open("/inbox/a", RESUME)
        await session.write(handle, 0, b"short")
        await session.set_handle(handle, size=5, permissions=0o644)
        await session.close(handle)
        desk.keys.away = False
        assert await session.get("/inbox/a") == b"short"

    run(work, tmp_path)


@pytest.mark.parametrize("sealed", [False, True])
def test_changing_a_whole_paper_starts_from_a_copy(tmp_path: Path, sealed: bool) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", BIG)
        await desk.land_all()
        if sealed:
            desk.seal_all()
        handle = await session.open("/inbox/a", APPEND)
        await session.write(handle, len(BIG), b"tail")
        await session.close(handle)
        assert await session.get("/inbox/a") == BIG + b"tail"
        await desk.land_all()
        handle = await session.open("/inbox/a", RESUME | OpenFlag.READ)
        await session.write(handle, 70_000, b"middle")
        assert await session.read(handle, 69_999, 8) == BIG[69_999:70_000] + b"middle" + BIG[70_006:70_007]
        await session.close(handle)
        assert await session.get("/inbox/a") == BIG[:70_000] + b"middle" + BIG[70_006:] + b"tail"
        await desk.land_all()
        handle = await session.open("/inbox/a", RESUME)
        await session.write(handle, 0, b"front")
        await session.close(handle)
        assert (await session.get("/inbox/a"))[:6] == b"front" + BIG[5:6]

    run(work, tmp_path)


def test_cutting_by_path_makes_a_new_paper(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", BIG)
        await desk.land_all()
        await session.set("/inbox/a", size=70_000)
        assert await session.get("/inbox/a") == BIG[:70_000]
        await session.set("/inbox/a", size=70_003)
        assert await session.get("/inbox/a") == BIG[:70_000] + bytes(3)
        await session.set("/inbox/a", size=0)
        assert await session.get("/inbox/a") == b""
        await desk.land_all()
        assert desk.landed()[0][1] == BIG

    run(work, tmp_path)


def test_what_was_acknowledged_stays_when_adding_to_it_fails(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"acknowledged")
        handle = await session.open("/inbox/a", APPEND)
        desk.space.reserve_bytes = 2**62
        desk.space._looked_at = float("-inf")
        with pytest.raises(Refusal, match="no space"):
            await session.write(handle, 12, b"more")
        with pytest.raises(Refusal, match="not whole"):
            await session.close(handle)
        assert await session.get("/inbox/a") == b"acknowledged"
        await desk.land_all()
        assert desk.landed() == [("/inbox/a", b"acknowledged")]

    run(work, tmp_path)


def test_a_session_sees_what_it_writes_and_nobody_else_does(tmp_path: Path) -> None:
    """sshfs and editors ask by name for what they wrote by handle; a file system would show it to them."""

    async def work(desk: Desk) -> None:
        mine, other = desk.session(), desk.session()
        await mine.put("/inbox/a", b"first")
        await desk.land_all()
        handle = await mine.open("/inbox/a", RESUME)
        await mine.write(handle, 5, b" and second")
        assert (await mine.stat("/inbox/a")).size == (await mine.stat_handle(handle)).size == 16
        assert await mine.get("/inbox/a") == b"first and second"
        assert await mine.list_sizes("/inbox") == [("a", 16)]
        assert (await other.stat("/inbox/a")).size == 5
        assert await other.get("/inbox/a") == b"first"
        assert await other.list_sizes("/inbox") == [("a", 5)]

        emptied = await mine.open("/inbox/a", WRITE)
        assert (await mine.stat("/inbox/a")).size == 0
        assert await mine.get("/inbox/a") == b""
        await mine.write(emptied, 0, b"x")
        reader = await mine.open("/inbox/a", OpenFlag.READ)
        await mine.close(handle)
        await mine.close(emptied)
        assert await mine.read(reader, 0, 10) == b"x"
        await mine.close(reader)
        await desk.land_all()
        assert await other.get("/inbox/a") == b"x"
        assert [content for _, content in desk.landed()] == [b"first", b"x"]

    run(work, tmp_path)


def test_what_a_session_read_of_its_broken_overwrite_is_not_published(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"old")
        await desk.land_all()
        await session.write(await session.open("/inbox/a", APPEND), 3, b"er")
        reader = await session.open("/inbox/a", OpenFlag.READ)
        assert await session.read(reader, 0, 10) == b"older"
        await session.lost()
        assert await desk.session().get("/inbox/a") == b"old"
        assert desk.partials() == []

    run(work, tmp_path)


def test_a_gap_in_a_new_paper_counts_for_its_writer_alone(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        handle = await session.open("/inbox/a", WRITE)
        await session.write(handle, 70_000, b"end")
        assert (await session.stat("/inbox/a")).size == 70_003
        assert (await desk.session().stat("/inbox/a")).size == 0, "another connection could resume from its start alone"
        await session.close(handle)
        assert (await desk.session().stat("/inbox/a")).size == 70_003

    run(work, tmp_path)
