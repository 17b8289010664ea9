"""Sessions on real stores: when a paper counts as whole, what overwriting, resuming, renaming and removing do to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from pathlib import Path

import pytest

from gateway.jail import parse
from gateway.sftp import requests as ask
from gateway.sftp.closing import _arrival
from gateway.sftp.wire import OpenFlag, Status
from tests.integration.sftp_rig import APPEND, RESUME, WRITE, Desk, Refusal, run

BIG = os.urandom(300_000)


def test_put_and_get_at_every_station(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        for size in (0, 1, 65535, 65536, 65537, 300_000):
            path = f"/inbox/{size}"
            await session.put(path, BIG[:size])
            assert await session.get(path) == BIG[:size], "while it settles"
            assert (await session.stat(path)).size == size
        await desk.land_all()
        for size in (0, 1, 65535, 65536, 65537, 300_000):
            assert await session.get(f"/inbox/{size}") == BIG[:size], "landed"
        assert sorted(desk.landed()) == sorted((f"/inbox/{size}", BIG[:size]) for size in (0, 1, 65535, 65536, 65537, 300_000))
        desk.seal_all()
        for size in (0, 1, 65535, 65536, 65537, 300_000):
            assert await session.get(f"/inbox/{size}") == BIG[:size], "sealed"
        assert desk.partials() == []

    run(work, tmp_path)


def test_a_paper_lands_by_itself_once_it_has_settled(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        await desk.session().put("/inbox/a", b"1")
        assert desk.landed() == []
        await asyncio.sleep(0.4)
        assert desk.landed() == [("/inbox/a", b"1")]
        assert desk.events() == ["paper.deposited", "paper.landed"]

    run(work, tmp_path, settle=0.1)


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


def test_times_are_kept_before_and_after_landing(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        handle = await session.open("/inbox/a", WRITE)
        await session.set_handle(handle, atime=1, mtime=1_000_000_000)
        await session.write(handle, 0, b"x")
        await session.close(handle)
        assert (await session.stat("/inbox/a")).mtime == 1_000_000_000
        await desk.land_all()
        await session.set("/inbox/a", atime=2, mtime=1_100_000_000, permissions=0o4777)
        assert (await session.stat("/inbox/a")).mtime == 1_100_000_000

    run(work, tmp_path)


def test_a_draft_follows_its_name(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.ask(ask.MakeFolder, b"/inbox/d")
        handle = await session.open("/inbox/d/a.part", WRITE)
        await session.write(handle, 0, b"1")
        await session.rename("/inbox/d/a.part", "/inbox/d/b.part")
        await session.rename("/inbox/d", "/inbox/e")
        await session.write(handle, 1, b"2")
        await session.close(handle)
        await session.rename("/inbox/e/b.part", "/inbox/e/c")
        assert await session.get("/inbox/e/c") == b"12"
        await desk.land_all()
        assert await session.list("/inbox/e") == ["c"]
        assert [content for _, content in desk.landed()] == [b"12"]

    run(work, tmp_path)


def test_renaming_over_a_paper_keeps_it(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"old")
        await session.put("/inbox/a.filepart", b"new")
        with pytest.raises(Refusal):
            await session.rename("/inbox/a.filepart", "/inbox/a")
        await session.rename("/inbox/a.filepart", "/inbox/a", replace=True)
        assert await session.get("/inbox/a") == b"new"
        await desk.land_all()
        assert sorted(content for _, content in desk.landed()) == [b"new", b"old"]

    run(work, tmp_path)


def test_removing_a_name(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/whole", b"acknowledged")
        await session.remove("/inbox/whole")
        assert desk.landed() == [("/inbox/whole", b"acknowledged")], "it was acknowledged"
        handle = await session.open("/inbox/part", WRITE)
        await session.write(handle, 0, BIG)
        await session.remove("/inbox/part")
        await session.write(handle, 5, b"still")
        await session.close(handle)
        broken = desk.session()
        await broken.write(await broken.open("/inbox/broken", WRITE), 0, b"x")
        await broken.lost()
        await session.remove("/inbox/broken")
        await desk.land_all()
        assert len(desk.landed()) == 1
        assert desk.partials() == []
        assert await session.list("/inbox") == []

    run(work, tmp_path)


def test_reading_goes_on_while_a_paper_moves_from_spool_to_vault(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", BIG)
        handle = await session.open("/inbox/a", OpenFlag.READ)
        assert await session.read(handle, 0, 10) == BIG[:10]
        await desk.land_all()
        assert await session.read(handle, 10, 10) == BIG[10:20]
        desk.seal_all()
        assert await session.read(handle, 100_000, 10) == BIG[100_000:100_010]
        await session.close(handle)
        assert await session.get("/inbox/a") == BIG

    run(work, tmp_path)


def test_keyd_away_stops_reading_not_writing(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"x")
        await desk.land_all()
        desk.keys.away = True
        with pytest.raises(Refusal, match="at the moment") as caught:
            await session.get("/inbox/a")
        assert caught.value.code is Status.FAILURE
        await session.put("/inbox/b", b"y")
        desk.keys.away = False
        assert await session.get("/inbox/a") == b"x"

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
            await session.close(await session.open(f"/inbox/{number}", WRITE))
        assert sorted(await session.list("/inbox")) == sorted(str(number) for number in range(700))

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


def test_a_paper_that_moves_while_its_key_is_asked_for_is_found(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", BIG)
        await desk.land_all()
        ask_keys, moved = desk.keys.paper_key, []

        def moving(client: str, paper: str, where: str, person: str, reason: str) -> bytes:
            if not moved:
                moved.append(paper)
                desk.seal_all()
            return ask_keys(client, paper, where, person, reason)

        desk.keys.paper_key = moving  # type: ignore[method-assign]
        assert await session.get("/inbox/a") == BIG
        assert moved

    run(work, tmp_path)


def test_two_sessions_change_names_at_random_and_every_acknowledged_paper_lands(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        acknowledged: list[bytes] = []

        async def client(seed: int) -> None:
            choose = random.Random(seed)
            session = desk.session()
            for number in range(60):
                name = f"/inbox/{choose.randrange(4)}"
                match choose.randrange(6):
                    case 0 | 1 | 2:
                        content = f"{seed}:{number}".encode() * choose.choice((1, 9000))
                        handle = await session.open(f"{name}.{seed}.part", WRITE)
                        await session.write(handle, 0, content)
                        await asyncio.sleep(choose.random() / 500)
                        await session.close(handle)
                        acknowledged.append(content)
                        await session.rename(f"{name}.{seed}.part", name, replace=True)
                    case 3:
                        with contextlib.suppress(Refusal):
                            await session.remove(name)
                    case 4:
                        with contextlib.suppress(Refusal):
                            await session.get(name)
                    case 5:
                        session, old = desk.session(), session
                        await old.open(f"/inbox/lost{seed}", WRITE)
                        await old.lost()

        await asyncio.gather(*(client(seed) for seed in range(5)))
        await desk.land_all()
        assert sorted(content for _, content in desk.landed()) == sorted(acknowledged)
        assert desk.papers.book.turns.idle and not desk.papers.book.drafts

    run(work, tmp_path, settle=0.01)


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


def test_a_flood_of_failed_logins_does_not_fill_the_disk(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        for number in range(1000):
            desk.recorder.login_failed(person=f"p{number}", address="192.0.2.7", software="x", attempts=1, reason="no")
        assert 200 <= desk.events().count("login.failed") < 300

    run(work, tmp_path)


def test_refusals_of_one_session_are_counted_when_they_are_too_many(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        for _ in range(300):
            with contextlib.suppress(Refusal):
                await session.remove("/receipts/x")
        assert desk.events().count("operation.refused") == 200

    run(work, tmp_path)
