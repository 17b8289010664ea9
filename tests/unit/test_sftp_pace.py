"""Speed limits and places of sessions, with a clock of the test's and real files."""

from __future__ import annotations

from pathlib import Path

from gateway.sftp.limits.pace import BURST_SECONDS, DOWN, UP, Pace, SharedTimes
from gateway.sftp.limits.places import Places

MIB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.now = 10**12

    def __call__(self) -> int:
        return self.now


def seconds_for(pace: list[Pace], clock: Clock, way: int, total: int) -> float:
    """How long `total` bytes take in pieces of 32 KiB, by turns."""
    began, moved = clock.now, 0
    while moved < total:
        for one in pace:
            if one.wait_seconds == 0:
                one.moved(way, 32768)
                moved += 32768
        clock.now += 10**6
    return (clock.now - began) / 10**9


def test_a_limit_holds_over_workers_and_a_pause_gives_a_little_back(tmp_path: Path) -> None:
    clock = Clock()
    workers = [Pace(lambda: SharedTimes(tmp_path / "t"), clock) for _ in range(3)]
    for worker in workers:
        worker.limit(MIB, None)
    took = seconds_for(workers, clock, UP, 10 * MIB)
    assert 10 - BURST_SECONDS - 0.3 < took < 10.5
    clock.now += 10**12
    assert seconds_for(workers[:1], clock, UP, MIB // 4) < 0.1


def test_uploads_and_downloads_have_their_own_limits(tmp_path: Path) -> None:
    clock = Clock()
    pace = Pace(lambda: SharedTimes(tmp_path / "t"), clock)
    pace.limit(None, 100_000)
    assert seconds_for([pace], clock, UP, 100 * MIB) < 5
    assert seconds_for([pace], clock, DOWN, 1_000_000) > 8
    pace.limit(None, None)
    assert not pace.is_limited


def test_a_clock_of_another_boot_stops_nobody(tmp_path: Path) -> None:
    clock = Clock()
    pace = Pace(lambda: SharedTimes(tmp_path / "t"), clock)
    pace.limit(MIB, None)
    seconds_for([pace], clock, UP, MIB)
    clock.now = 10**6
    fresh = Pace(lambda: SharedTimes(tmp_path / "t", b"another boot"), clock)
    fresh.limit(MIB, None)
    fresh.moved(UP, 32768)
    assert fresh.wait_seconds < 1


def test_places_are_shared_and_given_back(tmp_path: Path) -> None:
    first, second = Places(lambda: tmp_path / "p"), Places(lambda: tmp_path / "p")
    taken = [first.take(3), second.take(3), first.take(3)]
    assert sorted(taken) == [0, 1, 2]
    assert first.take(3) is None and second.take(3) is None
    first.give(0)
    assert second.take(3) == 0
    second.close()
    assert {first.take(3), first.take(3)} == {0, 1}
