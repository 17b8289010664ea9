"""What was acknowledged stays, whatever a client does next; and no client writes beyond the room that there is."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from config.folder import DataFolder
from config.settings import GatewaySettings
from gateway.audit.log import AuditUnavailable
from gateway.catalog.limits import Limits
from gateway.jail import Refused, Tree, parse
from gateway.sftp.defender.tallies import OwnTally
from gateway.sftp.papers.book import MOST_DRAFTS
from gateway.sftp.papers.clients import Clients
from gateway.sftp.papers.publish import stale_by_client
from gateway.sftp.papers.stores import Stores
from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.wire import OpenFlag
from gateway.sftp.session.sessions import Sessions
from gateway.sftp.session.shares import Shares
from gateway.store.errors import SpoolFull
from gateway.store.spool import Spool
from tests.integration.sftp_rig import APPEND, RESUME, WRITE, Desk, Refusal, Session, run

FIRST = b"acknowledged"


async def _breaks_off(_desk: Desk, session: Session, _handle: bytes) -> None:
    await session.lost()


async def _is_killed(desk: Desk, _session: Session, _handle: bytes) -> None:
    desk.again()


async def _removes_the_name(_desk: Desk, session: Session, handle: bytes) -> None:
    await session.remove("/inbox/a")
    await session.close(handle)


async def _overwrites(_desk: Desk, session: Session, handle: bytes) -> None:
    await session.write(handle, 0, b"OVERWRITTEN!")
    await session.close(handle)


async def _expires(desk: Desk, session: Session, _handle: bytes) -> None:
    await session.lost()
    await desk.papers.names.expire(set(desk.partials()))


@pytest.mark.parametrize("flags", [APPEND, RESUME])
@pytest.mark.parametrize("then", [_breaks_off, _is_killed, _removes_the_name, _overwrites, _expires])
def test_what_was_acknowledged_survives_what_is_added_to_it(
    tmp_path: Path, flags: int, then: Callable[[Desk, Session, bytes], Awaitable[None]]
) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", FIRST)
        handle = await session.open("/inbox/a", flags)
        await session.write(handle, len(FIRST), b"more")
        if not (flags == APPEND and then is _overwrites):  # an appending handle cannot
            await then(desk, session, handle)
        await desk.land_all()
        assert ("/inbox/a", FIRST) in desk.landed()

    run(work, tmp_path)


def _set_free(desk: Desk, free: int) -> None:
    desk.space._look = lambda: None  # type: ignore[method-assign]
    desk.space._free, desk.space._granted = free, 0


def test_gaps_are_no_way_round_the_reserve(tmp_path: Path) -> None:
    """Make a paper as large as the room, mostly gap; then fill the gap when the room is gone."""

    async def work(desk: Desk) -> None:
        session = desk.session()
        _set_free(desk, 1_000_000)
        handle = await session.open("/inbox/a", WRITE)
        await session.set_handle(handle, size=900_000)
        _set_free(desk, 0)
        with pytest.raises(Refusal, match="no space"):
            await session.write(handle, 0, b"x" * 30_000)

    run(work, tmp_path)


def test_gaps_take_no_room_from_others(tmp_path: Path) -> None:
    """A few small requests for gaps as large as the disk, again and again, must not have everybody else told that it is full."""

    async def work(desk: Desk) -> None:
        evil, session = desk.session(), desk.session()
        _set_free(desk, 1_000_000)
        handle = await evil.open("/inbox/gap", WRITE)
        for _ in range(3):
            await evil.set_handle(handle, size=0)
            await evil.set_handle(handle, size=900_000)
        await evil.write(handle, 920_000, b"x")
        await session.put("/inbox/a", b"a" * 300_000)
        assert await session.get("/inbox/a") == b"a" * 300_000
        with pytest.raises(Refusal, match="no space"):
            await session.put("/inbox/b", b"b" * 800_000)

    run(work, tmp_path)


def test_gaps_do_not_measure_what_others_send(tmp_path: Path) -> None:
    """Which gaps are refused tells roughly what is free, like `df`, and nothing of the last quarter of a second."""

    async def work(desk: Desk) -> None:
        session = desk.session()

        async def fits(size: int, free: int, granted: int) -> bool:
            _set_free(desk, free)
            desk.space._granted = granted
            try:
                await session.set_handle(await session.open("/inbox/gap", WRITE), size=size)
            except Refusal:
                return False
            return True

        for size in (274_877_906_944, 274_877_906_945, 298_500_000_000):
            assert len({await fits(size, 300 * 10**9 - sent, granted) for sent in (0, 10**9) for granted in (0, 10**9)}) == 1
        assert await fits(260 * 10**9, 300 * 10**9, 0)

    run(work, tmp_path)


def test_a_long_copy_stops_when_there_is_no_room_any_more(tmp_path: Path) -> None:
    """Copies, uploads and sealing that each found room at their start may lack it together."""

    async def work(desk: Desk) -> None:
        session = desk.session()
        older = os.urandom(3_000_000)
        await session.put("/inbox/a", older)
        await desk.land_all()
        desk.seal_all()
        _set_free(desk, 10_000_000)
        read = desk.space.check
        looks: list[int] = []

        def check() -> None:
            looks.append(0)
            if len(looks) > 2:
                desk.space._free = 0
            read()

        desk.space.check = check  # type: ignore[method-assign]
        handle = await session.open("/inbox/a", APPEND)
        with pytest.raises(Refusal, match="no space"):
            await session.write(handle, len(older), b"x")
        with pytest.raises(Refusal):
            await session.close(handle)
        del desk.space.check
        assert await session.get("/inbox/a") == older

    run(work, tmp_path)


def test_papers_that_are_not_there_keep_nobody_from_reading(tmp_path: Path) -> None:
    """A paper that was refused is looked for again and again, as one that is being moved: not by threads that wait."""

    async def work(desk: Desk) -> None:
        session, names = desk.session(), [f"/inbox/{number}" for number in range(40)]
        for name in ("/inbox/mine", *names):
            await session.put(name, name.encode())
        await desk.land_all()
        for paper in desk.spool.landed_papers():
            with desk.spool.open_landed(paper, identities=[desk.ingest]) as landed:
                wanted = landed.arrival.path == "/inbox/mine"
            if not wanted:
                desk.spool.remove_landed(paper)
        refused: list[str] = []

        async def look_for(name: str) -> None:
            with pytest.raises(Refusal, match="not available"):
                await desk.session().open(name, OpenFlag.READ)
            refused.append(name)

        looking = [asyncio.ensure_future(look_for(name)) for name in names]
        await asyncio.sleep(0)
        assert await desk.session().get("/inbox/mine") == b"/inbox/mine"
        assert len(refused) < 20
        await asyncio.gather(*looking)

    run(work, tmp_path)


def test_a_copy_needs_room(tmp_path: Path) -> None:
    """One byte at the end of a large paper copies all of it."""

    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", os.urandom(300_000))
        await desk.land_all()
        desk.seal_all()
        _set_free(desk, 100_000)
        handle = await session.open("/inbox/a", APPEND)
        with pytest.raises(Refusal, match="no space"):
            await session.write(handle, 300_000, b"x")
        with pytest.raises(Refusal):
            await session.close(handle)
        with pytest.raises(Refusal, match="no space"):
            await session.set("/inbox/a", size=299_999)
        await desk.land_all()
        assert desk.landed() == [] and desk.partials() == []

    run(work, tmp_path)


def test_folders_need_room(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        from gateway.sftp.protocol import requests as ask

        session = desk.session()
        _set_free(desk, 0)
        with pytest.raises(Refusal, match="no space"):
            await session.ask(ask.MakeFolder, b"/inbox/folder")

    run(work, tmp_path)


def test_many_unfinished_names_do_not_hold_many_descriptors(tmp_path: Path) -> None:
    """Each finished paper that waits for its rename holds a descriptor: 1,600 of them took a whole process of 1,024."""

    async def work(desk: Desk) -> None:
        session = desk.session()
        before = len(os.listdir("/proc/self/fd"))
        for number in range(MOST_DRAFTS + 150):
            await session.put(f"/inbox/{number}.tmp", b"x")
        await desk.tasks.drained(10)
        assert len(os.listdir("/proc/self/fd")) - before <= MOST_DRAFTS + 10
        await desk.land_all()
        assert len(desk.landed()) == MOST_DRAFTS + 150

    run(work, tmp_path)


def test_handles_of_all_sessions_are_counted_together(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.papers.handles.limit = 3
        one, two = desk.session(), desk.session()
        first = await one.open("/inbox/a", WRITE)
        await one.open("/inbox/b", WRITE)
        await two.open("/inbox/c", WRITE)
        with pytest.raises(Refusal, match="all your sessions"):
            await two.open("/inbox/d", WRITE)
        await one.close(first)
        await two.open("/inbox/d", WRITE)
        await one.lost()
        await two.lost()
        assert desk.papers.handles.taken == 0

    run(work, tmp_path)


def test_one_handle_that_fails_does_not_keep_the_others_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a session each handle is given up: a writer that stayed would keep its paper from landing for ever."""

    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.open("/inbox/a", WRITE)
        await session.open("/inbox/b", WRITE)
        close = desk.papers.closing.close
        failed: list[str] = []

        async def broken(handle: object, *, clean: bool) -> None:
            if not failed:
                failed.append("once")
                raise OSError("the first")
            await close(handle, clean=clean)  # type: ignore[arg-type]

        monkeypatch.setattr(desk.papers.closing, "close", broken)
        await session.lost()
        writers = {str(path): draft.writers for path, draft in desk.papers.book.drafts.items()}
        assert writers == {"/inbox/a": 1}

    run(work, tmp_path)


def test_a_session_that_cannot_be_recorded_is_refused_in_order(tmp_path: Path) -> None:
    """It used to be an exception in the middle of the protocol."""
    taken: list[str] = []

    class Unrecorded:
        def record(self, *_: Any, **__: Any) -> None:
            raise AuditUnavailable("no space")

    class Home:
        def papers_of(self, _: object, __: float) -> Any:
            taken.append("place")
            return SimpleNamespace(take_place=lambda: taken.clear)

    stores = cast(Stores, SimpleNamespace(folder=DataFolder(tmp_path), recorder=Unrecorded()))
    nothing = cast(Any, None)
    sessions = Sessions(GatewaySettings, stores, nothing, cast(Clients, Home()), nothing, nothing, lambda _: OwnTally(), None, Shares())
    account = SimpleNamespace(person=SimpleNamespace(name="acme", role="client"), found_at=0.0)
    login = SimpleNamespace(account=account, client=SimpleNamespace(name="acme"), address="192.0.2.1", software="x")
    assert sessions.enter(cast(Any, login), nothing) is None
    assert taken == []  # its place is given back


def test_clients_that_went_away_keep_few_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.sftp.papers.clients.MOST_IDLE", 3)

    async def work(desk: Desk) -> None:
        stores = Stores(desk.folder, cast(Any, None), desk.spool, desk.vault, cast(Any, desk.keys), desk.recorder)
        clients = Clients(GatewaySettings, stores, desk.papers.book.parts, lambda _: True)
        names = [f"c{number}" for number in range(40)]
        for name in names:
            Tree.create(desk.folder.jail(name)).close()
        before = len(os.listdir("/proc/self/fd"))
        first = None
        for name in names:
            papers = clients.papers_of(cast(Any, SimpleNamespace(name=name, limits=Limits(), custody="managed")), 0.0)
            first = first or papers
            first.users.add(desk)  # somebody has a session all the time
        assert len(os.listdir("/proc/self/fd")) - before <= 2 * 8
        assert first is not None and first.tree.stat(parse(b"/inbox")).kind == "folder"
        clients.close()
        assert len(os.listdir("/proc/self/fd")) == before

    run(work, tmp_path)


def test_a_client_without_folders_does_not_keep_the_leftovers_of_others(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.write(await session.open("/inbox/a", WRITE), 0, b"broken off")
        await session.lost()
        orphan = desk.spool.create("0" * 32, "aaa")
        orphan.write(0, b"x")
        orphan.close()
        assert len(desk.partials()) == 2
        stores = Stores(desk.folder, cast(Any, None), desk.spool, desk.vault, cast(Any, desk.keys), desk.recorder)
        clients = Clients(lambda: GatewaySettings(partial_days=1e-9), stores, desk.papers.book.parts, lambda _: True)
        assert not desk.folder.jail("aaa").exists()
        await clients.expire()
        assert desk.partials() == ["0" * 32]
        clients.close()

    run(work, tmp_path)


def test_what_another_worker_removed_meanwhile_is_not_told_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers that start look through the same leftovers."""

    async def work(desk: Desk) -> None:
        damaged, gone = "1" * 32, "2" * 32
        (desk.folder.spool_partial / damaged).write_bytes(b"no header" * 1000)
        os.utime(desk.folder.spool_partial / damaged, (1, 1))
        listing, found = [[damaged, gone]], Spool.stale
        monkeypatch.setattr(Spool, "stale", lambda spool, limit: listing.pop() if listing else found(spool, limit))
        with capture_logs() as logs:
            assert stale_by_client(desk.spool, 1e-9) == {}
        assert {(entry["event"], entry["paper"]) for entry in logs} == {("partial.unreadable", damaged), ("partial.unreadable_removed", damaged)}
        assert desk.partials() == []

    run(work, tmp_path)


def test_a_handle_that_was_not_given_out_is_nothing(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        mine, other = desk.session(), desk.session()
        handle = await mine.open("/inbox/a", WRITE)
        await mine.write(handle, 0, b"mine")
        folder = (await mine.ask(ask.OpenFolder, b"/inbox"))[4:]
        closed = await mine.open("/inbox/b", WRITE)
        await mine.close(closed)
        forged = [b"", b"\x00", b"\xff" * 8, b"\xff" * 256, handle[:-1], handle + b"\x00", bytes(8), (2**63).to_bytes(8, "big")]
        for session, handles in ((mine, [*forged, closed]), (other, [*forged, closed, handle, folder])):
            for name in handles:
                for kind, fields in (
                    (ask.Read, (0, 10)),
                    (ask.Write, (0, memoryview(b"x"))),
                    (ask.Close, ()),
                    (ask.HandleStat, ()),
                    (ask.HandleSetStat, (ask.Attributes(size=0),)),
                    (ask.ReadFolder, ()),
                    (ask.Sync, ()),
                    (ask.HandleFileSystem, ()),
                ):
                    with pytest.raises(Refusal, match="invalid handle"):
                        await session.ask(kind, name, *fields)
        for kind, fields in ((ask.Read, (0, 10)), (ask.Write, (0, memoryview(b"x"))), (ask.Sync, ())):
            with pytest.raises(Refusal, match="not open for"):
                await mine.ask(kind, folder, *fields)
        with pytest.raises(Refusal, match="not of a folder"):
            await mine.ask(ask.ReadFolder, handle)
        await mine.close(handle)
        assert await mine.get("/inbox/a") == b"mine"

    run(work, tmp_path)


@pytest.mark.parametrize("gone", [False, True])
def test_a_resume_that_fails_half_way_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool) -> None:
    """Else the partial stays locked until a restart, or one without a name lies in the spool."""

    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.write(await session.open("/inbox/a", WRITE), 0, bytes(300_000))
        await session.lost()
        if gone:
            (desk.folder.spool_partial / desk.partials()[0]).unlink()

        def fails(*_: Any, **__: Any) -> Any:
            raise Refused("failure", "the disk is full")

        gc.collect()  # what earlier tests left would be closed meanwhile, and counted
        again, before = desk.session(), (desk.partials(), len(os.listdir("/proc/self/fd")))
        with monkeypatch.context() as patch:
            patch.setattr(type(desk.tree), "put", fails) if gone else patch.setattr(type(desk.papers.quota), "adopt", fails)
            with pytest.raises(Refusal, match="full"):
                await again.open("/inbox/a", RESUME)
        assert (desk.partials(), len(os.listdir("/proc/self/fd"))) == before
        await again.close(await again.open("/inbox/a", RESUME))

    run(work, tmp_path)


def test_an_upload_that_goes_on_while_broken_ones_expire_is_not_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(desk: Desk) -> None:
        first = desk.session()
        await first.write(await first.open("/inbox/a", WRITE), 0, b"broken off")
        await first.lost()
        stores = Stores(desk.folder, cast(Any, None), desk.spool, desk.vault, cast(Any, desk.keys), desk.recorder)
        clients = Clients(lambda: GatewaySettings(partial_days=1e-9), stores, desk.papers.book.parts, lambda _: True)
        listed, looked, pointers = threading.Event(), threading.Event(), Tree.pointers

        def slowly(tree: Tree) -> Iterator[Any]:
            yield from pointers(tree)
            listed.set()
            looked.wait(60)

        monkeypatch.setattr(Tree, "pointers", slowly)
        expiring = asyncio.create_task(clients.expire())
        assert await asyncio.to_thread(listed.wait, 60)
        monkeypatch.undo()
        mine = desk.papers
        desk.papers = clients.papers_of(cast(Any, SimpleNamespace(name="acme", limits=Limits(), custody="managed")), 0.0)
        try:
            session = desk.session()
            upload = asyncio.create_task(session.put("/inbox/a", b"went on, and was acknowledged", RESUME))
            await asyncio.wait([upload], timeout=1)
            looked.set()
            await expiring
            await upload
            assert await session.get("/inbox/a") == b"went on, and was acknowledged"
        finally:
            looked.set()
            desk.papers = mine
            clients.close()

    run(work, tmp_path)


def test_a_paper_that_could_not_land_at_the_start_lands_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an acknowledged paper would wait for a start that may be months away."""

    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.put("/inbox/a", FIRST)
        land = Spool.land

        def full(_spool: Spool, _paper: str) -> None:
            raise SpoolFull("no space left in the spool while landing a paper")

        monkeypatch.setattr(Spool, "land", full)
        assert desk.again() == 0 and desk.landed() == []
        monkeypatch.setattr(Spool, "land", land)
        stores = Stores(desk.folder, cast(Any, None), desk.spool, desk.vault, cast(Any, desk.keys), desk.recorder)
        clients = Clients(GatewaySettings, stores, desk.papers.book.parts, lambda _: True)
        keeping = asyncio.create_task(clients.keep_expiring())
        while not desk.landed():
            await asyncio.sleep(0.02)
        keeping.cancel()
        assert [content for _, content in desk.landed()] == [FIRST]
        clients.close()

    run(work, tmp_path)
