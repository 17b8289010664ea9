"""What one person gets of the event loop and of the threads, however much they ask for."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial

import pytest

from gateway.sftp.session.pool import FairPool
from gateway.sftp.session.shares import ABOUT_SECONDS, LONE_TURN_SECONDS, TURN_SECONDS, Share, Shares, in_turns


def among_others() -> tuple[Share, Share]:
    """The shares of two who both do something."""
    shares = Shares()
    ann, bob = shares.of("ann"), shares.of("bob")
    for share in (bob, ann):
        share.begin()
        share.end()
    return ann, bob


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_sessions_of_one_person_divide_one_share_and_take_turns() -> None:
    async def work() -> None:
        (share, _), done = among_others(), []

        def session(name: str) -> None:
            done.append(name)
            share.spend(TURN_SECONDS * 0.6)
            if len(done) < 12:
                share.later(lambda: session(name))

        for name in "abc":
            share.later(partial(session, name))
        passed = 0
        while len(done) < 12:
            before = len(done)
            await asyncio.sleep(0)
            passed += 1
            assert len(done) - before <= 2  # 0.6 and 0.6: then the others come
            assert passed < 60
        assert "".join(done[:9]) == "abcabcabc"

    asyncio.run(work())


def test_a_spent_share_is_renewed_before_anybody_asks_again() -> None:
    async def work() -> None:
        share, _ = among_others()
        share.spend(LONE_TURN_SECONDS)
        assert share.left <= 0 and share.must_wait
        await turns(3)
        assert share.left == TURN_SECONDS and not share.must_wait

    asyncio.run(work())


def test_what_came_for_others_is_handled_before_a_spent_share_is_renewed() -> None:
    async def work() -> None:
        (ann, _), order = among_others(), []
        ann.spend(1)
        ann.later(lambda: order.append("ann"))
        asyncio.get_running_loop().call_soon(order.append, "bob")  # as a look at the sockets finds it
        await turns(3)
        assert order == ["bob", "ann"]

    asyncio.run(work())


def test_a_share_is_of_a_person() -> None:
    shares = Shares()
    held = shares.of("ann")
    assert shares.of("ann") is held
    assert shares.of("bob") is not held


def test_turns_are_longer_and_nothing_waits_while_nobody_else_does_anything() -> None:
    async def left_after_a_turn(share: Share) -> float:
        share.begin()
        share.spend(1)
        share.end()
        await turns(3)
        return share.left

    async def work() -> None:
        shares = Shares()
        ann, bob = shares.of("ann"), shares.of("bob")
        shares.strangers.begin()
        shares.strangers.end()
        assert await left_after_a_turn(ann) == LONE_TURN_SECONDS
        ann.spend(1)
        assert not ann.must_wait
        shares.strangers.spend(1)
        assert shares.strangers.must_wait  # for those who are in
        assert await left_after_a_turn(bob) == await left_after_a_turn(ann) == TURN_SECONDS
        shares._other_at -= ABOUT_SECONDS
        assert await left_after_a_turn(ann) == LONE_TURN_SECONDS

    asyncio.run(work())


def test_work_within_work_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        now = 100.0
        monkeypatch.setattr(time, "thread_time", lambda: now)
        share, _ = among_others()
        before = share.left
        share.begin()
        now += 0.0001
        share.begin()
        now += 0.0001
        share.end()
        assert share.left == before and not share.is_spent
        share.end()
        assert share.left == pytest.approx(before - 0.0002)

    asyncio.run(work())


def test_one_that_fails_does_not_keep_those_behind_it_waiting() -> None:
    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        share, done = Shares().of("ann"), []
        share.later(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
        share.later(lambda: done.append("next"))
        await turns(4)
        assert done == ["next"]

    asyncio.run(work())


def test_each_step_of_what_waits_takes_its_turn() -> None:
    async def work() -> None:
        (ann, _), turn, steps = among_others(), 0, []
        ann.left = TURN_SECONDS

        async def request(number: int) -> int:
            for _ in range(3):
                await asyncio.sleep(0)
                steps.append(turn)
                ann.spend(TURN_SECONDS)
            return number

        tasks = [asyncio.ensure_future(in_turns(ann, request(number))) for number in range(4)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            turn += 1
            assert turn < 200
        assert [task.result() for task in tasks] == [0, 1, 2, 3]
        assert len(set(steps)) == 12  # one in each turn

    asyncio.run(work())


def test_what_waits_for_its_turn_can_be_cancelled_and_cleans_up() -> None:
    async def work() -> None:
        (ann, _), ended = among_others(), []
        ann._is_scheduled = True  # its turn does not come
        ann.spend(1)

        async def request(gate: asyncio.Future[None]) -> None:
            try:
                await gate
            except ValueError:
                ended.append("told")
            finally:
                ended.append("cleaned")

        gates = [asyncio.get_running_loop().create_future() for _ in range(3)]
        unbegun = asyncio.ensure_future(in_turns(ann, request(gates[0])))
        await turns(1)
        ann.left = 1
        waiting, failing = (asyncio.ensure_future(in_turns(ann, request(gate))) for gate in gates[1:])
        await turns(2)
        unbegun.cancel()
        waiting.cancel()
        gates[2].set_exception(ValueError())
        results = await asyncio.gather(unbegun, waiting, failing, return_exceptions=True)
        assert [type(result) for result in results[:2]] == [asyncio.CancelledError] * 2 and results[2] is None
        assert sorted(ended) == ["cleaned", "cleaned", "told"]

    asyncio.run(work())


def test_whoever_asks_for_much_waits_behind_whoever_asks_for_little() -> None:
    async def work() -> None:
        pool, go, order, at_once, most = FairPool(2, "test"), threading.Event(), [], [], []

        def task(name: str) -> None:
            at_once.append(name[:4])
            most.append(at_once.count(name[:4]))
            go.wait(120)
            order.append(name)
            at_once.remove(name[:4])

        flood = [asyncio.ensure_future(pool.run("flood", partial(task, f"flood{n}"))) for n in range(20)]
        await asyncio.sleep(0)
        lone = asyncio.ensure_future(pool.run("lone", lambda: task("lone")))
        await asyncio.sleep(0.02)
        go.set()
        await asyncio.gather(*flood, lone)
        assert order.index("lone") <= 5, order
        assert max(most) == 1, "a person has one thread at a time"
        assert pool._free == 2
        pool.close()

    asyncio.run(work())


def test_whoever_goes_away_while_waiting_keeps_no_thread() -> None:
    async def work() -> None:
        pool, go = FairPool(1, "test"), threading.Event()
        first = asyncio.ensure_future(pool.run("a", lambda: go.wait(120)))
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
