"""The defender: what is counted together, when a ban comes and how long, what workers share, and what a flood costs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from config.errors import OutOfReach
from gateway.sftp.defender.bans import Ban, BanStore, Rules, group_of
from gateway.sftp.defender.defender import MOST_WAITING, Defender
from gateway.sftp.defender.tallies import Board

RULES = Rules(limit=10, window=600, first=60, longest=3600)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def defender(path: Path, clock: Clock, told: list[Ban], trusted: tuple[str, ...] = ()) -> Defender:
    return Defender(BanStore(path), RULES, trusted, told.append, clock)


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9%eth0", "2001:db8:1:2::/64"),
        ("unknown", "unknown"),
    ],
)
def test_groups(address: str, group: str) -> None:
    assert group_of(address) == group


def test_a_ban_grows_is_shared_and_ends(tmp_path: Path) -> None:
    async def work() -> None:
        clock, told = Clock(), []
        one, other = (defender(tmp_path / "d", clock, told) for _ in range(2))
        for lasts in (60, 120, 240):
            one.failed("192.0.2.7", 6)
            await one.sync()
            assert not one.refuses("192.0.2.7")
            other.failed("192.0.2.7", 6)  # together they are enough
            await other.sync()
            await one.sync()
            assert one.refuses("192.0.2.7")
            assert other.refuses("192.0.2.7")
            assert not one.refuses("192.0.2.8")
            clock.now += lasts - 1
            assert one.refuses("192.0.2.7")
            clock.now += 2
            assert not one.refuses("192.0.2.7")
        assert [(ban.address, ban.level, round(ban.until - ban.since)) for ban in told] == [("192.0.2.7", n, 30 * 2**n) for n in (1, 2, 3)]
        one.failed("192.0.2.7", 10)
        await one.close()
        again = defender(tmp_path / "d", clock, told)  # a restart
        await again.sync()
        assert again.refuses("192.0.2.7")
        await again.close()
        await other.close()

    asyncio.run(work())


def test_a_burst_over_all_workers_is_counted_together_before_anything_is_written(tmp_path: Path) -> None:
    async def work() -> None:
        clock, told, board = Clock(), [], Board(4)
        workers = [Defender(BanStore(tmp_path / "d"), RULES, (), told.append, clock, board.recent(number)) for number in range(4)]
        for number, one in enumerate(workers):
            assert [other.refuses("192.0.2.7") for other in workers] == [number == 3] * 4
            one.failed("192.0.2.7", 3.5)
        assert all(one.refuses("192.0.2.7") for one in workers)
        assert not any(one.refuses("192.0.2.8") for one in workers)
        for one in workers:  # each gives up its own points, and the others have not read the ban yet
            await one.sync()
            assert all(other.refuses("192.0.2.7") for other in workers)
        assert len(told) == 1
        clock.now += 61
        for one in workers:
            await one.sync()
        assert not any(one.refuses("192.0.2.7") for one in workers)
        board.clear(0)
        for one in workers:
            await one.close()

    asyncio.run(work())


def test_what_fails_during_a_ban_makes_it_neither_longer_nor_shorter(tmp_path: Path) -> None:
    """Two workers see one burst; connections that were open before the ban fail after it."""

    async def work() -> None:
        clock, told = Clock(), []
        workers = [defender(tmp_path / "d", clock, told) for _ in range(2)]
        for one in workers * 2:
            one.failed("192.0.2.7", 20)
            await one.sync()
            clock.now += 0.5
        assert [(ban.level, round(ban.until - ban.since)) for ban in told] == [(1, 60)]
        store = BanStore(tmp_path / "d")
        by_hand = store.ban("192.0.2.8", 7 * 86400.0, RULES, clock.now, "ops:me")
        workers[0].failed("192.0.2.8", 20)
        await workers[0].sync()
        assert store.bans(clock.now)["192.0.2.8"] == by_hand
        store.close()
        for one in workers:
            await one.close()

    asyncio.run(work())


def test_a_ban_counts_before_it_is_written_and_slow_failures_are_forgiven(tmp_path: Path) -> None:
    async def work() -> None:
        clock, told = Clock(), []
        one = defender(tmp_path / "d", clock, told)
        for _ in range(10):
            one.failed("2001:db8::1", 1)
        assert one.refuses("2001:db8::2")
        assert not one.refuses("2001:db8:0:1::2")
        for _ in range(50):
            one.failed("192.0.2.9", 1)
            await one.sync()
            clock.now += 61
        assert not one.refuses("192.0.2.9")
        await one.close()

    asyncio.run(work())


def test_while_nothing_can_be_written_points_are_kept_and_forgiven_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, say: else nobody would be turned away, however often they try."""

    def full(*_: object) -> None:
        raise OutOfReach("the disk is full", "")

    async def work() -> None:
        clock, told = Clock(), []
        one = defender(tmp_path / "d", clock, told)
        with monkeypatch.context() as patch:
            patch.setattr(BanStore, "add", full)
            for _ in range(10):
                assert not one.refuses("192.0.2.7")
                one.failed("192.0.2.7", 1.1)
                clock.now += 0.5
                with pytest.raises(OutOfReach):
                    await one.sync()
            assert one.refuses("192.0.2.7")
            one.failed("192.0.2.8", 1)
            clock.now += 120  # two points
            with pytest.raises(OutOfReach):
                await one.sync()
            assert not one.refuses("192.0.2.7")
            assert set(one._points) == {"192.0.2.7"}
        one.failed("192.0.2.7", 2)
        with monkeypatch.context() as patch:
            patch.setattr(BanStore, "prune", full)
            with pytest.raises(OutOfReach):
                await one.sync()
        await one.sync()
        assert [ban.address for ban in told] == ["192.0.2.7"]  # once, though what came after it had failed
        assert one._points == {}
        assert one.refuses("192.0.2.7")
        await one.close()

    asyncio.run(work())


def test_trusted_networks_are_exempt(tmp_path: Path) -> None:
    async def work() -> None:
        told: list[Ban] = []
        one = defender(tmp_path / "d", Clock(), told, ("192.0.2.0/24",))
        one.failed("192.0.2.7", 1000)
        await one.sync()
        assert not one.refuses("192.0.2.7")
        assert told == []
        await one.close()

    asyncio.run(work())


def test_a_flood_is_cheap_and_bounded(tmp_path: Path) -> None:
    async def work() -> None:
        one = Defender(BanStore(tmp_path / "d"), RULES, (), lambda _: None, Clock(), Board(8).recent(0))
        for number in range(MOST_WAITING + 5000):
            one.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1)
        assert len(one._points) == MOST_WAITING
        await one.sync()
        one.failed("192.0.2.1", 10)
        await one.sync()
        began = time.process_time()
        for _ in range(20_000):
            assert one.refuses("192.0.2.1")
        assert (time.process_time() - began) / 20_000 < 0.0005  # a connection of TCP alone costs the kernel as much
        await one.close()

    asyncio.run(work())


def test_ban_and_unban_by_hand_and_a_damaged_file(tmp_path: Path) -> None:
    store = BanStore(tmp_path / "d")
    made = store.ban("192.0.2.1", 5.0, RULES, 100.0, "ops:me")
    assert store.bans(104.9) == {"192.0.2.1": made}
    assert store.bans(105.1) == {}
    assert store.ban("192.0.2.1", None, RULES, 200.0, "x").level == 2
    assert store.unban("192.0.2.1")
    assert not store.unban("192.0.2.1")
    store.prune(RULES, 1e9)
    store.close()
    for end in ("-wal", "-shm"):
        (tmp_path / f"d{end}").unlink(missing_ok=True)
    (tmp_path / "d").write_bytes(b"this is no database" * 100)
    again = BanStore(tmp_path / "d")
    assert again.bans(0) == {}
    again.close()
