"""Sessions on real stores: what a lost connection or a dead process leaves, and how an upload goes on from there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.jail import parse
from gateway.sftp.papers.closing import _arrival
from tests.integration.sftp_rig import APPEND, RESUME, WRITE, Desk, Refusal, run

pytestmark = pytest.mark.usefixtures("closing")
BIG = os.urandom(300_000)


def test_nothing_is_published_that_was_not_closed(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        handle = await session.open("/inbox/a", WRITE)
        await session.write(handle, 0, BIG[:100_000])
        await session.lost()
        await desk.land_all()
        assert desk.landed() == []
        assert desk.again() == 0
        assert desk.landed() == []
        assert (await desk.session().stat("/inbox/a")).size == 100_000
        assert "paper.broken_off" in desk.events()

    run(work, tmp_path)


@pytest.mark.parametrize("flags", [APPEND, RESUME])
@pytest.mark.parametrize("restart", [False, True])
def test_a_broken_upload_goes_on_where_it_stopped(tmp_path: Path, flags: int, restart: bool) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        handle = await session.open("/inbox/a", WRITE)
        await session.write(handle, 0, BIG[:150_000])
        await session.write(handle, 200_000, BIG[200_000:])  # out of order: beyond the gap it is dropped
        await session.lost()
        if restart:
            desk.again()
        session = desk.session()
        size = (await session.stat("/inbox/a")).size
        assert size == 150_000
        handle = await session.open("/inbox/a", flags)
        await session.write(handle, size, BIG[size:])
        await session.close(handle)
        await desk.land_all()
        assert desk.landed() == [("/inbox/a", BIG)]
        assert ("spool", "acme", "resume") in desk.keys.asked

    run(work, tmp_path)


def test_appending_behind_the_end_is_refused_not_guessed(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        handle = await session.open("/inbox/a", APPEND)
        await session.write(handle, 0, b"abc")
        with pytest.raises(Refusal, match="look at its size"):
            await session.write(handle, 10, b"x")
        with pytest.raises(Refusal, match="not whole"):
            await session.close(handle)
        await desk.land_all()
        assert desk.landed() == []

    run(work, tmp_path)


def test_a_dead_connection_does_not_spoil_the_upload_that_took_its_place(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        dead, alive = desk.session(), desk.session()
        handle = await dead.open("/inbox/a", WRITE)
        await dead.write(handle, 0, BIG[:1000])
        resumed = await alive.open("/inbox/a", RESUME)
        await alive.write(resumed, 1000, BIG[1000:])
        await alive.close(resumed)
        await desk.land_all()
        assert desk.landed() == [], "the other handle may still write"
        await dead.lost()
        await desk.land_all()
        assert desk.landed() == [("/inbox/a", BIG)]

    run(work, tmp_path)


def test_a_connection_that_dies_while_others_write_leaves_a_partial(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        first, second = desk.session(), desk.session()
        one, two = await first.open("/inbox/a", WRITE), await second.open("/inbox/a", RESUME)
        await first.write(one, 0, BIG[:100_000])
        await second.write(two, 100_000, BIG[100_000:200_000])
        await first.close(one)
        await second.lost()
        await desk.land_all()
        assert desk.landed() == []
        third = desk.session()
        handle = await third.open("/inbox/a", RESUME)
        await third.write(handle, 100_000, BIG[100_000:])
        await third.close(handle)
        await desk.land_all()
        assert desk.landed() == [("/inbox/a", BIG)]

    run(work, tmp_path)


def test_what_a_dead_process_had_finished_is_landed_at_the_start(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", BIG)
        await session.rename("/inbox/a", "/inbox/b")
        assert desk.again() == 1
        assert desk.again() == 0
        assert [content for _, content in desk.landed()] == [BIG]
        assert await desk.session().get("/inbox/b") == BIG

    run(work, tmp_path)


def test_old_broken_uploads_expire_and_live_ones_do_not(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        live, broken = desk.session(), desk.session()
        await live.write(await live.open("/inbox/live", WRITE), 0, b"x")
        await broken.write(await broken.open("/inbox/broken", WRITE), 0, b"x")
        await broken.lost()
        assert await desk.papers.names.expire(set(desk.partials())) == 1
        assert await live.list("/inbox") == ["live"]
        assert len(desk.partials()) == 1

    run(work, tmp_path)


def test_a_crash_between_footer_and_pointer_ends_with_a_whole_name(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        handle = await session.open("/inbox/a", WRITE)
        await session.write(handle, 0, BIG)
        (draft,) = desk.papers.book.drafts.values()
        draft.file.finish(_arrival(draft, draft.visitor))
        assert desk.again() == 1
        pointer = desk.tree.stat(parse(b"/inbox/a")).pointer
        assert pointer is not None and (pointer.state, pointer.size) == ("whole", len(BIG))
        assert await desk.session().get("/inbox/a") == BIG

    run(work, tmp_path)


def test_starting_over_drops_the_broken_upload(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.write(await session.open("/inbox/a", WRITE), 0, BIG)
        await session.lost()
        await desk.session().put("/inbox/a", b"new")
        assert len(desk.partials()) == 1
        await desk.land_all()
        assert desk.landed() == [("/inbox/a", b"new")]

    run(work, tmp_path)


def test_after_a_kill_a_broken_upload_shows_what_reached_the_disk(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        handle = await session.open("/inbox/a", WRITE)
        for start in range(0, 150_000, 30_000):
            await session.write(handle, start, BIG[start : start + 30_000])
        desk.again()
        session = desk.session()
        size = (await session.stat("/inbox/a")).size
        assert size == 131_072, "whole blocks are written at once"
        handle = await session.open("/inbox/a", APPEND)
        await session.write(handle, size, BIG[size:])
        await session.close(handle)
        await desk.land_all()
        assert desk.landed() == [("/inbox/a", BIG)]

    run(work, tmp_path)
