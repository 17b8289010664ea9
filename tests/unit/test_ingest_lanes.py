"""Two lanes: small papers pass large ones by, but versions of one name never overtake each other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.ingest.lanes import Lanes
from gateway.store import Arrival
from gateway.store.errors import StoreFailed

START = datetime(2024, 5, 17, tzinfo=UTC)


class House:
    def __init__(self, landed: Path) -> None:
        self.landed = landed
        self.arrivals: dict[str, Arrival] = {}
        self.peeked: list[str] = []
        self.lanes = Lanes(lambda: sorted(path.name for path in landed.iterdir()), landed, self.peek, large_bytes=100)

    def peek(self, paper: str) -> Arrival | None:
        self.peeked.append(paper)
        return self.arrivals.get(paper)

    def land(self, digit: str, size: int, path: str, seconds: float, client: str = "acme") -> Arrival:
        paper = digit * 32
        (self.landed / paper).write_bytes(b"x" * size)
        arrival = Arrival(paper, client, client, path, START + timedelta(seconds=seconds), None, "", "", "")
        self.arrivals[paper] = arrival
        return arrival

    def pass_small(self) -> list[str]:
        papers = self.lanes.small()
        self.lanes.small_is_through()
        return [paper[0] for paper in papers]

    def large(self) -> list[str]:
        return [paper[0] for paper in self.lanes.large()]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_each_paper_is_in_one_lane(house: House) -> None:
    house.land("1", 100, "/inbox/a", 1)
    house.land("2", 101, "/inbox/b", 2)
    assert house.pass_small() == ["1"] and house.large() == ["2"]


def test_a_large_paper_begins_after_the_small_ones_that_landed_with_it(house: House) -> None:
    house.land("1", 10, "/inbox/a", 1)
    house.land("2", 200, "/inbox/a", 2)
    house.lanes.small()
    assert house.large() == []
    assert house.lanes.small_is_through()
    assert house.large() == ["2"]


def test_a_small_paper_waits_for_a_large_one_of_the_same_name_that_came_before(house: House) -> None:
    house.land("1", 200, "/inbox/a", 1)
    newer = house.land("2", 10, "/inbox/a", 2)
    older = house.land("3", 10, "/inbox/a", 0)
    another_name = house.land("4", 10, "/inbox/b", 2)
    another_client = house.land("5", 10, "/inbox/a", 2, client="other")
    house.pass_small()
    assert house.lanes.must_wait(newer)
    assert not any(house.lanes.must_wait(arrival) for arrival in (older, another_name, another_client))
    (house.landed / ("1" * 32)).unlink()
    assert not house.lanes.must_wait(newer)


def test_nobody_waits_for_a_large_paper_that_was_given_up(house: House) -> None:
    house.land("1", 200, "/inbox/a", 1)
    newer = house.land("2", 10, "/inbox/a", 2)
    house.pass_small()
    house.lanes.gave_up = lambda paper: paper == "1" * 32
    assert not house.lanes.must_wait(newer)


def test_a_large_paper_that_cannot_be_opened_is_in_its_lane_all_the_same(house: House) -> None:
    house.land("1", 200, "/inbox/a", 1)
    newer = house.land("2", 10, "/inbox/a", 2)
    del house.arrivals["1" * 32]
    assert house.pass_small() == ["2"] and house.large() == ["1"]
    assert not house.lanes.must_wait(newer)


def test_a_large_paper_is_opened_once_to_learn_its_name(house: House) -> None:
    house.land("1", 200, "/inbox/a", 1)
    for _ in range(3):
        house.pass_small()
    assert house.peeked == ["1" * 32]


def test_without_large_papers_the_other_lane_is_left_asleep(house: House) -> None:
    house.land("1", 10, "/inbox/a", 1)
    house.lanes.small()
    assert not house.lanes.small_is_through()


def test_a_large_paper_that_the_disk_does_not_give_holds_up_nobody(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.land("1", 200, "/inbox/a", 1)
    newer = house.land("2", 10, "/inbox/a", 2)
    peek = house.peek

    def broken(paper: str) -> Arrival | None:
        raise StoreFailed("the spool's disk failed while reading a paper")

    monkeypatch.setattr(house.lanes, "_peek", broken)
    assert house.pass_small() == ["2"] and house.large() == ["1"]
    monkeypatch.setattr(house.lanes, "_peek", peek)
    assert house.pass_small() == ["2"]
    assert house.lanes.must_wait(newer), "it is asked again once the disk is well"
