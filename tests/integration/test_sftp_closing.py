"""CLOSE: what is on the disk before it is answered, and what it means when it is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.jail import Pointer, Refused, VirtualPath
from gateway.sftp.papers.sync_cost import SyncCost
from gateway.sftp.protocol import requests as ask
from tests.integration.sftp_rig import CLIENT, WRITE, Desk, Refusal, run

pytestmark = pytest.mark.usefixtures("closing")
BIG = os.urandom(300_000)


def test_content_and_names_are_synced_before_close_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        await session.ask(ask.MakeFolder, b"/inbox/new")
        handle = await session.open("/inbox/new/a", WRITE)
        await session.write(handle, 0, BIG[:20_000])
        synced: list[str] = []
        sync = os.fsync

        def watched(descriptor: int) -> None:
            synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(desk.folder.root)))
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", watched)
        await session.close(handle)
        (paper,) = desk.partials()
        content, partials, pointer, folder = synced
        assert (content, partials, folder) == (f"spool/partial/{paper}", "spool/partial", f"jails/{CLIENT}/inbox/new")
        assert pointer.startswith(f"jails/{CLIENT}/.tmp/")

    run(work, tmp_path)


def test_a_small_paper_is_closed_at_once_where_syncing_is_cheap(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        handle = await session.open("/inbox/a", WRITE)
        await session.write(handle, 0, BIG[:20_000])
        reply = session.operations.answer(ask.Close(1, handle))
        assert isinstance(reply, bytes) == SyncCost.is_low
        if not isinstance(reply, bytes):
            await reply
        large = await session.open("/inbox/b", WRITE)
        await session.write(large, 0, BIG)
        reply = session.operations.answer(ask.Close(2, large))
        assert not isinstance(reply, bytes)
        await reply

    run(work, tmp_path)


def test_a_paper_that_cannot_be_made_durable_is_not_acknowledged_and_stays_resumable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(desk: Desk) -> None:
        session = desk.session()
        put = desk.tree.put

        def failing(path: VirtualPath, pointer: Pointer, *, mtime: float | None, durable: bool) -> None:
            if durable:
                raise Refused("no_space", "no space left on the server")
            put(path, pointer, mtime=mtime, durable=durable)

        monkeypatch.setattr(desk.tree, "put", failing)
        handle = await session.open("/inbox/a", WRITE)
        await session.write(handle, 0, BIG[:20_000])
        with pytest.raises(Refusal, match="no space"):
            await session.close(handle)
        assert "paper.deposited" not in desk.events()
        assert desk.events()[-1] == "paper.broken_off"
        monkeypatch.undo()
        await session.put("/inbox/a", BIG[:20_000])
        await desk.land_all()
        assert [content for _, content in desk.landed()][-1] == BIG[:20_000]

    run(work, tmp_path)
