"""Sessions on real stores: a paper's way from its first byte to the vault, its times, and what renaming and removing do to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from pathlib import Path

import pytest

from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.wire import OpenFlag, Status
from tests.integration.sftp_rig import WRITE, Desk, Refusal, run

pytestmark = pytest.mark.usefixtures("closing")
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
        async with asyncio.timeout(50):
            while not desk.landed():
                await asyncio.sleep(0.02)
        assert desk.landed() == [("/inbox/a", b"1")]
        assert desk.events() == ["paper.deposited", "paper.landed"]

    run(work, tmp_path, settle=0.5)


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


def test_times_that_are_set_through_a_handle_on_a_finished_paper_are_kept(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"1")
        handle = await session.open("/inbox/a", OpenFlag.WRITE)
        await session.set_handle(handle, atime=5, mtime=1_234_567_890)
        await session.close(handle)
        for _ in range(2):
            assert (await session.stat("/inbox/a")).mtime == 1_234_567_890
            await desk.land_all()
        assert desk.landed() == [("/inbox/a", b"1")]

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
