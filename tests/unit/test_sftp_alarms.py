"""Timers in rows: each rings once, in its time, in order, and whatever the others do."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from gateway.sftp.papers.alarms import AT_ONCE, Alarms


async def rung(wanted: int, heard: list[int]) -> None:
    until = time.monotonic() + 240
    while len(heard) < wanted:
        assert time.monotonic() < until
        await asyncio.sleep(0.001)


def test_each_rings_once_in_order_and_not_before_its_time() -> None:
    async def work() -> None:
        alarms, heard, began = Alarms(), [], time.monotonic()
        for number in range(3 * AT_ONCE):
            alarms.set(0.03, partial(heard.append, number))
        alarms.set(600.0, partial(heard.append, 600))
        alarms.set(0.0, partial(heard.append, -1))
        await rung(3 * AT_ONCE + 1, heard)
        assert time.monotonic() - began >= 0.03
        heard.remove(-1)  # the first, unless the machine held up both
        assert heard == list(range(3 * AT_ONCE))
        assert set(alarms._rows) == {600.0}
        alarms.set(0.03, partial(heard.append, 100))
        await rung(3 * AT_ONCE + 1, heard)

    asyncio.run(work())


def test_one_that_is_cancelled_or_fails_changes_nothing_for_the_others() -> None:
    async def work() -> None:
        alarms, heard = Alarms(), []
        set_ones = [alarms.set(0.01, partial(heard.append, number)) for number in range(3)]
        alarms.set(0.01, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
        alarms.set(0.01, partial(heard.append, 3))
        set_ones[0].cancel()
        set_ones[2].cancel()
        set_ones[2].cancel()
        await rung(2, heard)
        assert heard == [1, 3]

    asyncio.run(work())


def test_what_is_set_while_it_rings_is_heard() -> None:
    async def work() -> None:
        alarms, heard = Alarms(), []

        def again() -> None:
            heard.append(0)
            if len(heard) < 3:
                alarms.set(0.001, again)

        alarms.set(0.001, again)
        await rung(3, heard)

    asyncio.run(work())


def test_others_come_between_many() -> None:
    async def work() -> None:
        alarms, heard, seen = Alarms(), [], []
        for number in range(5 * AT_ONCE):
            alarms.set(0.0, partial(heard.append, number))
        while len(heard) < 5 * AT_ONCE:
            await asyncio.sleep(0)
            seen.append(len(heard))
        assert all(later - earlier <= AT_ONCE for earlier, later in zip([0, *seen], seen, strict=False))

    asyncio.run(work())
