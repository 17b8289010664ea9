"""Several sessions at once: what an OK at CLOSE means then, what a drop box keeps, what a rename carries along, and who waits for whom."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.catalog.limits import Limits
from gateway.jail.paths import MAX_PATH_BYTES
from gateway.sftp.limits.space import roughly
from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.wire import OpenFlag, Status
from tests.integration.sftp_rig import APPEND, RESUME, WRITE, Desk, Refusal, Session, run

pytestmark = pytest.mark.usefixtures("closing")
DROP = Limits(profile="drop")
BIG = bytes(range(256)) * 2000  # it is not finished on the event loop, so that others come in between


class Gate:
    """Stands before a method that a thread calls: `reached` when it is called, which goes on after `open`."""

    def __init__(self, owner: Any, name: str) -> None:
        self._method = getattr(owner, name)
        self._reached, self._open = threading.Event(), threading.Event()
        setattr(owner, name, self)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self._reached.set()
        assert self._open.wait(30)
        return self._method(*args, **options)

    async def reached(self) -> None:
        await asyncio.to_thread(self._reached.wait, 30)

    def open(self) -> None:
        self._open.set()


async def make(session: Session, path: str) -> None:
    await session.ask(ask.MakeFolder, path.encode())


async def refused(attempt: Any, code: Status, match: str) -> None:
    with pytest.raises(Refusal, match=match) as caught:
        await attempt
    assert caught.value.code is code


@pytest.mark.parametrize("flags", [WRITE, RESUME, APPEND])
def test_a_drop_box_keeps_a_paper_that_becomes_whole_while_another_session_waits_for_its_name(tmp_path: Path, flags: int) -> None:
    async def work(desk: Desk) -> None:
        first, second = desk.session(), desk.session()
        handle = await first.open("/inbox/a", WRITE)
        await first.write(handle, 0, BIG)
        gate = Gate(desk.tree, "put")
        closing = asyncio.create_task(first.close(handle))
        await gate.reached()
        opening = asyncio.create_task(second.open("/inbox/a", flags))  # the name stands for something unfinished still
        await asyncio.sleep(0)
        gate.open()
        await closing
        await refused(opening, Status.PERMISSION_DENIED, "replaced")
        await desk.land_all()
        assert desk.landed() == [("/inbox/a", BIG)]

    run(work, tmp_path, limits=DROP)


def test_a_rename_into_a_drop_box_replaces_nothing_that_became_whole_while_it_waited(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        first, second = desk.session(), desk.session()
        await second.put("/inbox/b.part", b"second")
        handle = await first.open("/inbox/a", WRITE)
        await first.write(handle, 0, BIG)
        gate = Gate(desk.tree, "put")
        closing = asyncio.create_task(first.close(handle))
        await gate.reached()
        renaming = asyncio.create_task(second.rename("/inbox/b.part", "/inbox/a", replace=True))
        await asyncio.sleep(0)
        gate.open()
        await closing
        await refused(renaming, Status.PERMISSION_DENIED, "replaced")
        assert sorted(await first.list_sizes("/inbox")) == [("a", len(BIG)), ("b.part", 6)]

    run(work, tmp_path, limits=DROP)


@pytest.mark.parametrize("flags", [WRITE, RESUME])
def test_an_upload_into_a_drop_box_is_one_sessions_at_a_time(tmp_path: Path, flags: int) -> None:
    async def work(desk: Desk) -> None:
        first, second = desk.session(), desk.session()
        old = await first.open("/inbox/a", RESUME)
        await first.write(old, 0, b"first-----")
        new = await second.open("/inbox/a", flags)
        await second.write(new, 0, b"second")
        await refused(first.write(old, 0, b"FIRST"), Status.FAILURE, "another session has gone on")
        await refused(first.set_handle(old, size=1), Status.FAILURE, "another session has gone on")
        await second.close(new)
        await refused(second.open("/inbox/a", WRITE), Status.PERMISSION_DENIED, "replaced")  # acknowledged, though a handle is open still
        await refused(first.close(old), Status.FAILURE, "another session has gone on")
        await desk.land_all()
        assert desk.landed() == [("/inbox/a", b"second" if flags == WRITE else b"second----")]

    run(work, tmp_path, limits=DROP)


def test_handles_of_one_session_share_an_upload_in_a_drop_box_too(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        one, two = await session.open("/inbox/a", WRITE), await session.open("/inbox/a", OpenFlag.WRITE)
        await session.write(one, 0, b"half")
        await session.write(two, 4, b"half")
        await session.close(one)
        await session.close(two)
        await desk.land_all()
        assert desk.landed() == [("/inbox/a", b"halfhalf")]

    run(work, tmp_path, limits=DROP)


@pytest.mark.parametrize("way", ["removed", "replaced"])
def test_nobody_is_told_ok_for_a_paper_whose_name_another_session_took(tmp_path: Path, way: str) -> None:
    async def work(desk: Desk) -> None:
        first, second = desk.session(), desk.session()
        handle = await first.open("/inbox/a", WRITE)
        await first.write(handle, 0, b"first")
        if way == "removed":
            await second.remove("/inbox/a")
        else:
            await second.put("/inbox/b", b"second")
            await second.rename("/inbox/b", "/inbox/a", replace=True)
        await refused(first.close(handle), Status.FAILURE, "another session has removed or replaced this name")
        assert "paper.broken_off" in desk.events()
        await desk.land_all()
        assert desk.landed() == ([] if way == "removed" else [("/inbox/b", b"second")])
        assert desk.partials() == []

    run(work, tmp_path)


@pytest.mark.parametrize("way", ["left", "lost", "removed"])
def test_what_was_acknowledged_lands_whatever_an_idle_handle_or_another_session_does(tmp_path: Path, way: str) -> None:
    async def work(desk: Desk) -> None:
        first, second, third = desk.session(), desk.session(), desk.session()
        handle = await first.open("/inbox/a", WRITE)
        idle = await second.open("/inbox/a", RESUME)
        await first.write(handle, 0, b"first")
        await first.close(handle)
        if way == "removed":
            await third.remove("/inbox/a")
        if way == "lost":
            await second.lost()
        else:
            await second.close(idle)
        await desk.land_all()
        await desk.tasks.drained(5)
        for draft in desk.papers.book.drafts.values():
            pytest.fail(f"{draft.path} is left")
        assert way == "removed" or await first.list("/inbox") == ["a"]
        while way == "removed" and not desk.landed():
            await asyncio.sleep(0.01)
        assert desk.landed() == [("/inbox/a", b"first")]
        assert desk.partials() == []

    run(work, tmp_path, settle=0.01)


def test_no_folder_is_made_below_one_that_is_being_moved(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session, other = desk.session(), desk.session()
        await make(session, "/inbox/short")
        target = "/inbox"
        while len(target) + 201 < MAX_PATH_BYTES:
            target += "/" + "x" * 200
            await make(session, target)
        gate = Gate(desk.tree, "rename")  # it measures what lies in the folder, and moves it after that
        moving = asyncio.create_task(session.rename("/inbox/short", f"{target}/s"))
        await gate.reached()
        making = asyncio.create_task(make(other, "/inbox/short/" + "y" * 250))
        done, _ = await asyncio.wait({making}, timeout=0.1)
        assert not done, "made while the other was about to move what it lies in"
        gate.open()
        await moving
        await refused(making, Status.NO_SUCH_FILE, "no such")
        assert await session.list(f"{target}/s") == []

    run(work, tmp_path)


def test_uploads_that_go_on_and_copies_keep_nobody_from_reading(tmp_path: Path) -> None:
    """Both take as long as the paper is large: a client that begins many takes a thread for itself, and no more."""

    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/whole", b"first")
        for number in range(6):
            await session.put(f"/inbox/copied{number}", b"x" * 10)
        await desk.land_all()
        desk.seal_all()
        for number in range(6):
            await session.write(await session.open(f"/inbox/broken{number}", WRITE), 0, b"x")
        await session.lost()
        session = desk.session()
        gate = Gate(desk.spool, "reopen")
        others = [desk.session() for _ in range(12)]
        resuming = [asyncio.create_task(others[number].open(f"/inbox/broken{number}", RESUME)) for number in range(6)]
        await gate.reached()
        copying = [asyncio.create_task(others[6 + number].put(f"/inbox/copied{number}", b"y", RESUME)) for number in range(6)]
        assert await asyncio.wait_for(session.get("/inbox/whole"), 10) == b"first"
        gate.open()
        for other, handle in zip(others, await asyncio.gather(*resuming), strict=False):
            await other.close(handle)
        await asyncio.gather(*copying)
        assert await session.get("/inbox/copied5") == b"y" + b"x" * 9

    run(work, tmp_path)


def test_what_is_free_on_the_disk_is_told_roughly() -> None:
    for free in (0, 1, 15, 1000, 10**9 + 1, 2**40 - 1):
        assert free * 7 // 8 <= roughly(free) <= free
    assert roughly(500 * 10**9) == roughly(500 * 10**9 - 10**9), "another client's gigabyte"
