"""The daily summary: complete, signed, written anew only when something changed."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.ingest import summaries
from gateway.ingest.summaries import summarise
from tests.integration.ingest_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """With papers of one day."""
    made = filled(tmp_path / "world")
    return made if len({row.received_at.date() for row in made.catalog.papers()}) == 1 else filled(tmp_path / "the day after")


def filled(place: Path) -> World:
    place.mkdir()
    made = World(place)
    made.add_client("zeta")
    for number in range(3):
        made.land(f"{number}.pdf", bytes(number))
    made.land("a.pdf", b"of zeta", client="zeta")
    made.ingest()
    return made


def today(world: World) -> date:
    """When its papers came."""
    return max(row.received_at for row in world.catalog.papers()).date()


def write(world: World, day: date | None = None, seen: summaries.Seen | None = None) -> int:
    """As on the day after, or on another."""
    with AuditLog(world.folder.audit, "ingest") as audit:
        return summarise(world.parts(audit), day or today(world) + timedelta(days=1), seen)


def lying(world: World, client: str = "acme") -> dict[str, Path]:
    return {path.name: path for path in (world.folder.jail(client) / "receipts" / "summaries").glob("*.json")}


def test_a_day_that_is_over_is_summed_up_once_for_each_client(world: World) -> None:
    assert write(world, today(world)) == 0, "the day is not over"
    assert write(world) == 2
    days = {row.received_at.date().isoformat() for row in world.catalog.papers()}
    found = lying(world)
    assert {name.removesuffix(".json") for name in found} == days
    facts = [json.loads(path.read_bytes()) for path in found.values()]
    rows = {row.id: row for row in world.catalog.papers("acme")}
    assert {one["paper"]: one["sha256"] for each in facts for one in each["listed"]} == {row.id: row.sha256 for row in rows.values()}
    assert sum(each["papers"] for each in facts) == 3 and sum(each["verdicts"]["accepted"] for each in facts) == 3
    for each in facts:
        for one in each["listed"]:
            assert (world.folder.jail("acme") / one["receipt"][1:]).is_file()
    assert all(world.ssh_keygen_verifies(path) for path in found.values())
    assert write(world) == 0, "nothing has changed"
    assert {line["audit_head"] for line in facts} and len(world.events(Event.SUMMARY_WRITTEN)) >= 2


def test_what_changes_afterwards_is_in_a_new_one(world: World) -> None:
    write(world)
    before = {name: path.read_bytes() for name, path in lying(world).items()}
    world.land("late.pdf", b"late")
    world.ingest()
    assert write(world) == 1
    paper = next(iter(world.contents))
    world.catalog.change_verdict(paper, "refused", "x", "virus")
    assert write(world) == 1
    after = {name: json.loads(path.read_bytes()) for name, path in lying(world).items()}
    assert sum(each["papers"] for each in after.values()) == 4 and sum(each["verdicts"].get("refused", 0) for each in after.values()) == 1
    assert {name: path.read_bytes() for name, path in lying(world).items()} != before
    next(iter(lying(world).values())).write_bytes(b"damaged")
    assert write(world) == 1


def test_a_day_that_stands_as_it_stood_is_not_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, read = summaries.Seen(), summaries.Seen()
    assert write(world, seen=seen) == 2
    with monkeypatch.context() as unread:
        unread.setattr("gateway.catalog.Catalog.received_between", lambda *_: read.setdefault(today(world), 1) and iter(()))
        assert write(world, seen=seen) == 0 and not read
    first, second, _ = (row.id for row in world.catalog.papers("acme"))
    world.catalog.change_verdict(first, "refused", "x", "virus")
    assert write(world, seen=seen) == 1
    world.catalog.change_verdict(first, "accepted", "x", "released")  # as many of each as before
    world.catalog.change_verdict(second, "refused", "x", "virus")
    assert write(world, seen=seen) == 1
    assert write(world, seen=seen) == 0


def test_a_day_with_very_many_is_counted_in_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "MOST_LISTED", 1)
    write(world)
    for path in lying(world).values():
        facts = json.loads(path.read_bytes())
        assert len(facts["listed"]) == 1 and facts["papers"] == sum(facts["verdicts"].values())
    many = summaries.Papers()
    rows = sorted(world.catalog.papers("acme"), key=lambda row: row.received_at)
    for row in [*rows[::-1]] * 100:
        many.take(row)
        assert len(many._first) <= 2, "they are not all kept in memory"
    assert (many.count, many.first()) == (300, rows[:1])


def test_a_client_without_a_jail_does_not_stop_the_others(world: World) -> None:
    world.folder.jail("acme").rename(world.folder.jail("acme").with_name("gone"))
    assert write(world) == 1 and lying(world, "zeta")
