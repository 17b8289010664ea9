"""Turns: one at a time on a path, nobody while all names are moved, and no one is forgotten."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.jail import VirtualPath
from gateway.sftp.papers.publish import settle_seconds
from gateway.sftp.papers.turns import Turns


def test_never_two_at_once() -> None:
    async def main() -> None:
        turns = Turns()
        on: dict[str, int] = {}
        moving = 0
        choose = random.Random(7)

        async def one(path: str) -> None:
            async with turns.path(path):
                assert on.get(path, 0) == 0 and moving == 0
                on[path] = 1
                await asyncio.sleep(choose.random() / 1000)
                on[path] = 0

        async def every() -> None:
            nonlocal moving
            async with turns.all():
                assert not any(on.values()) and moving == 0
                moving += 1
                await asyncio.sleep(choose.random() / 1000)
                moving -= 1

        await asyncio.wait_for(asyncio.gather(*(every() if choose.random() < 0.2 else one(choose.choice("abc")) for _ in range(300))), 30)
        assert turns.idle

    asyncio.run(main())


def test_those_who_want_all_come_before_new_ones() -> None:
    async def main() -> None:
        turns = Turns()
        order: list[str] = []

        async def every() -> None:
            async with turns.all():
                order.append("all")

        async def later() -> None:
            async with turns.path("b"):
                order.append("path")

        await turns.take("a")
        moving = asyncio.create_task(every())
        await asyncio.sleep(0)
        assert not turns.free("b")
        waiting = asyncio.create_task(later())
        await asyncio.sleep(0)
        turns.give("a")
        await asyncio.gather(moving, waiting)
        assert order == ["all", "path"]

    asyncio.run(main())


def test_a_cancelled_one_holds_up_nobody() -> None:
    async def main() -> None:
        turns = Turns()

        async def every() -> None:
            async with turns.all():
                raise AssertionError("it was cancelled")

        await turns.take("a")
        moving = asyncio.create_task(every())
        await asyncio.sleep(0)
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
        assert turns.free("b")
        turns.give("a")
        assert turns.idle

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "seconds"), [("a.pdf", 0.2), ("a.pdf.filepart", 5.0), ("A.PART", 5.0), ("x.x7f3.partial", 5.0), ("a.tmp", 5.0), ("tmp", 0.2)]
)
def test_names_that_are_going_to_be_renamed_wait_longer(name: str, seconds: float) -> None:
    assert settle_seconds(VirtualPath(("inbox", name)), 0.2, 5.0) == seconds
