"""What one person gets of the event loop and of the threads, however much they ask for."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from gateway.sftp.session.pool import FairPool
from gateway.sftp.shares import LONE_TURN_SECONDS, TURN_SECONDS, Share, Shares


def test_sessions_of_one_person_divide_one_share_and_take_turns() -> None:
    async def work() -> None:
        share, done = Share(), []

        def session(name: str) -> None:
            done.append(name)
            share.spend(TURN_SECONDS * 0.6)
            if len(done) < 12:
                share.later(lambda: session(name))

        for name in "abc":
            share.later(partial(session, name))
        turns = 0
        while len(done) < 12:
            before = len(done)
            await asyncio.sleep(0)
            turns += 1
            assert len(done) - before <= 2  # 0.6 and 0.6: then the others come
            assert turns < 30
        assert "".join(done[:9]) == "abcabcabc"

    asyncio.run(work())


def test_a_spent_share_is_renewed_before_anybody_asks_again() -> None:
    async def work() -> None:
        share = Share()
        share.spend(TURN_SECONDS / 2)
        await asyncio.sleep(0)
        assert 0 < share.left < TURN_SECONDS
        share.spend(TURN_SECONDS)
        assert share.left < 0
        await asyncio.sleep(0)
        assert share.left == TURN_SECONDS

    asyncio.run(work())


def test_a_share_is_of_a_person() -> None:
    shares = Shares()
    held = shares.of("ann")
    assert shares.of("ann") is held
    assert shares.of("bob") is not held


def test_turns_are_longer_while_nobody_else_is_there() -> None:
    async def left_after_a_turn(share: Share) -> float:
        share.later(lambda: None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return share.left

    async def work() -> None:
        shares = Shares()
        ann = shares.of("ann")
        assert await left_after_a_turn(ann) == LONE_TURN_SECONDS
        bob = shares.of("bob")
        assert await left_after_a_turn(ann) == await left_after_a_turn(bob) == TURN_SECONDS
        del bob
        assert await left_after_a_turn(ann) == LONE_TURN_SECONDS

    asyncio.run(work())


def test_whoever_asks_for_much_waits_behind_whoever_asks_for_little() -> None:
    async def work() -> None:
        pool, go, order = FairPool(2, "test"), threading.Event(), []

        def task(name: str) -> None:
            go.wait(10)
            order.append(name)

        flood = [asyncio.ensure_future(pool.run("flood", partial(task, f"flood{n}"))) for n in range(20)]
        await asyncio.sleep(0)
        lone = asyncio.ensure_future(pool.run("lone", lambda: task("lone")))
        await asyncio.sleep(0.02)
        go.set()
        await asyncio.gather(*flood, lone)
        assert order.index("lone") <= 5, order
        assert pool._free == 2
        pool.close()

    asyncio.run(work())


def test_whoever_goes_away_while_waiting_keeps_no_thread() -> None:
    async def work() -> None:
        pool, go = FairPool(1, "test"), threading.Event()
        first = asyncio.ensure_future(pool.run("a", lambda: go.wait(10)))
        await asyncio.sleep(0)
        waiting = [asyncio.ensure_future(pool.run("b", lambda: None)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        go.set()
        await first
        waiting[1].cancel()  # its turn may have come already
        await asyncio.gather(*waiting, return_exceptions=True)
        assert pool._free == 1
        with pytest.raises(ZeroDivisionError):
            await pool.run("c", lambda: 1 // 0)
        assert pool._free == 1
        pool.close()

    asyncio.run(work())
