"""Quotas through sessions: what a client is told, what stays, and that the account agrees with the disk whatever happened."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from pathlib import Path

import pytest

from gateway.catalog.limits import Limits
from gateway.sftp.limits.ledger import Ledger
from gateway.sftp.limits.quota import Usage
from gateway.sftp.limits.rooms import usage
from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.wire import OpenFlag, Status
from tests.integration.sftp_rig import APPEND, CLIENT, RESUME, WRITE, Desk, Refusal, Session, run

KIB = 1024


async def statvfs(session: Session) -> tuple[int, int, int, int]:
    """(bytes, free bytes, files, free files) as a client computes them."""
    body = await session.ask(ask.FileSystem, b"/inbox")
    numbers = [int.from_bytes(body[at : at + 8]) for at in range(0, 88, 8)]
    return numbers[1] * numbers[2], numbers[1] * numbers[4], numbers[5], numbers[7]


async def agrees(desk: Desk) -> None:
    """Once all has landed the ledger says what a count says, and nothing is reserved."""
    await desk.land_all()
    account = Ledger(desk.folder.run / "limits" / CLIENT / "quota").look()
    counted = usage(desk.folder, CLIENT, desk.tree)
    assert (account.size, account.names) == (counted.size, counted.names)
    assert account.taken == (account.size, account.stored)
    assert abs(account.stored - counted.stored) <= 16 * KIB * (1 + len(desk.spool.landed_papers()) + len(desk.partials()))


def test_over_the_quota_is_said_and_the_upload_can_go_on(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/old", b"o" * 600 * KIB)
        await desk.land_all()
        handle = await session.open("/inbox/new", WRITE)
        for number in range(12):
            await session.write(handle, number * 32 * KIB, b"n" * 32 * KIB)
        with pytest.raises(Refusal, match="over the quota: your papers may have 1048576 bytes") as caught:
            for number in range(12, 40):
                await session.write(handle, number * 32 * KIB, b"n" * 32 * KIB)
        assert caught.value.code is Status.FAILURE
        with pytest.raises(Refusal, match="not whole"):
            await session.close(handle)
        there = (await session.stat("/inbox/new")).size
        assert 12 * 32 * KIB <= there <= 424 * KIB
        await agrees(desk)
        with pytest.raises(Refusal, match="over the quota"):
            await session.put("/inbox/third", b"t" * 100 * KIB)
        await session.remove("/inbox/third")
        await session.remove("/inbox/old")
        handle = await session.open("/inbox/new", APPEND)
        await session.write(handle, there, b"n" * (800 * KIB - there))
        await session.close(handle)
        assert await session.get("/inbox/new") == b"n" * 800 * KIB
        await desk.land_all()
        await agrees(desk)

    run(work, tmp_path, limits=Limits(bytes=1024 * KIB))


def test_nobody_waits_for_the_count_of_another_client(tmp_path: Path) -> None:
    """The first one after a start reads all names that the client has; meanwhile any number of its sessions want room."""

    async def work(desk: Desk) -> None:
        counted = threading.Event()

        def count() -> Usage:
            counted.wait(60)
            return Usage(0, 0, 0)

        desk.papers.quota._count_all = count
        opening = [asyncio.ensure_future(desk.session().open(f"/inbox/{number}", WRITE)) for number in range(8)]
        making = asyncio.ensure_future(desk.session().ask(ask.MakeFolder, b"/inbox/made"))
        await asyncio.sleep(0.1)
        try:
            await asyncio.wait_for(desk.pool.run(lambda: None), 30)  # what everybody's CLOSE needs
        finally:
            counted.set()
        await asyncio.gather(*opening, making)

    run(work, tmp_path, limits=Limits(bytes=1024 * KIB))


def test_a_paper_that_may_not_be_made_longer_is_left_and_the_reason_told(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"a" * 100 * KIB)
        await desk.land_all()
        with pytest.raises(Refusal, match="over the quota"):
            await session.set("/inbox/a", size=2048 * KIB)
        assert await session.get("/inbox/a") == b"a" * 100 * KIB
        await agrees(desk)

    run(work, tmp_path, limits=Limits(bytes=1024 * KIB))


def test_statvfs_shows_a_file_system_of_the_quotas_size(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        assert await statvfs(session) == (1024 * KIB, 1024 * KIB, 10, 10)
        await session.put("/inbox/a", b"a" * 256 * KIB)
        assert await statvfs(session) == (1024 * KIB, 768 * KIB, 10, 9)
        await session.put("/inbox/a", b"b" * 128 * KIB)
        assert await statvfs(session) == (1024 * KIB, 896 * KIB, 10, 9)
        handle = await session.open("/inbox/a", OpenFlag.WRITE)
        await session.set_handle(handle, size=512 * KIB)
        assert (await statvfs(session))[1] == 512 * KIB
        await session.lost()
        assert await statvfs(session) == (1024 * KIB, 896 * KIB, 10, 9)
        await session.set("/inbox/a", size=64 * KIB)
        assert (await statvfs(desk.session()))[1] == 960 * KIB
        await agrees(desk)

    run(work, tmp_path, limits=Limits(bytes=1024 * KIB, names=10))


def test_statvfs_without_a_quota_tells_neither_the_machine_nor_what_others_send(tmp_path: Path) -> None:
    """The exact size of a disk is as good as its name, and what is free in it shows others' uploads."""

    async def work(desk: Desk) -> None:
        session, space = desk.session(), desk.space

        async def told(total: int, free: int) -> tuple[int, int]:
            space._total, space._free, space._looked_at = total, free, float("inf")
            shown = await statvfs(session)
            assert total * 7 // 8 <= shown[0] <= total
            assert free * 7 // 8 <= shown[1] <= min(free, shown[0])
            return shown[:2]

        assert await told(500_107_862_016, 300 * 10**9) == await told(510_000_000_000, 300 * 10**9 - 10**9)
        await told(500_107_862_016, 500_107_862_016)

    run(work, tmp_path)


def test_names_are_counted_folders_too(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.ask(ask.MakeFolder, b"/inbox/d")
        await session.put("/inbox/d/a", b"")
        for attempt in (session.put("/inbox/b", b""), session.ask(ask.MakeFolder, b"/inbox/e")):
            with pytest.raises(Refusal, match="2 files and folders"):
                await attempt
        await session.put("/inbox/d/a", b"again")
        await session.remove("/inbox/d/a")
        await session.ask(ask.RemoveFolder, b"/inbox/d")
        with pytest.raises(Refusal):
            await session.ask(ask.RemoveFolder, b"/inbox/d")
        await session.put("/inbox/b", b"")
        await agrees(desk)

    run(work, tmp_path, limits=Limits(names=2))


def test_versions_count_against_what_is_stored(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        for _ in range(3):
            await session.put("/inbox/a", b"a" * 100 * KIB)
            await desk.land_all()
        desk.seal_all()
        with pytest.raises(Refusal, match="older versions included"):
            await session.put("/inbox/a", b"a" * 150 * KIB)
        assert await session.get("/inbox/a") == b"a" * 100 * KIB
        await session.lost()
        await agrees(desk)

    run(work, tmp_path, limits=Limits(stored_bytes=400 * KIB))


def test_uploads_at_once_do_not_overshoot_together(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        async def one(number: int) -> int:
            session = desk.session()
            handle = await session.open(f"/inbox/{number}", WRITE)
            written = 0
            with contextlib.suppress(Refusal):
                while True:
                    await session.write(handle, written, b"x" * 32 * KIB)
                    written += 32 * KIB
                    await asyncio.sleep(0)
            return written

        assert sum(await asyncio.gather(*(one(number) for number in range(10)))) <= 1024 * KIB

    run(work, tmp_path, limits=Limits(bytes=1024 * KIB))


def test_after_a_kill_the_account_is_counted_anew(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", b"a" * 300 * KIB)
        handle = await session.open("/inbox/b", WRITE)
        await session.write(handle, 0, b"b" * 200 * KIB)
        desk.again()
        session = desk.session()
        free = (await statvfs(session))[1]
        assert free == 1024 * KIB - 300 * KIB - (await session.stat("/inbox/b")).size
        handle = await session.open("/inbox/b", RESUME)
        with pytest.raises(Refusal, match="over the quota"):
            await session.write(handle, 724 * KIB, b"b")
        await session.lost()
        await agrees(desk)

    run(work, tmp_path, limits=Limits(bytes=1024 * KIB))


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_the_account_agrees_with_the_disk(tmp_path: Path, seed: int) -> None:
    async def work(desk: Desk) -> None:
        draw = random.Random(seed)
        sessions = [desk.session() for _ in range(2)]
        open_handles: list[tuple[Session, bytes]] = []
        paths = [f"/inbox/{name}" for name in ("a", "b", "c", "d/a", "d/b")]
        with contextlib.suppress(Refusal):
            await sessions[0].ask(ask.MakeFolder, b"/inbox/d")
        for _ in range(150):
            session, path = draw.choice(sessions), draw.choice(paths)
            with contextlib.suppress(Refusal):
                match draw.randrange(9):
                    case 0 | 1:
                        open_handles.append((session, await session.open(path, draw.choice([WRITE, RESUME, APPEND]))))
                    case 2 | 3 if open_handles:
                        owner, handle = draw.choice(open_handles)
                        await owner.write(handle, draw.choice([0, 50, 100]) * KIB, b"w" * draw.randrange(64 * KIB))
                    case 4 if open_handles:
                        owner, handle = open_handles.pop(draw.randrange(len(open_handles)))
                        await owner.close(handle)
                    case 5:
                        await session.rename(path, draw.choice(paths), replace=draw.random() < 0.7)
                    case 6:
                        await session.remove(path)
                    case 7 if draw.random() < 0.3:
                        await session.lost()
                        open_handles = [pair for pair in open_handles if pair[0] is not session]
                        sessions[sessions.index(session)] = desk.session()
                    case _:
                        await desk.land_all()
            if draw.random() < 0.1:
                desk.seal_all()
        for session in sessions:
            await session.lost()
        await desk.land_all()
        await agrees(desk)

    run(work, tmp_path, limits=Limits(bytes=300 * KIB, names=5, stored_bytes=5000 * KIB))
