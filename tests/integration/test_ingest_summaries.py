"""The daily summary: complete, signed, written anew only when something changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.ingest import summaries
from gateway.ingest.summaries import summarise
from gateway.jail import Tree
from gateway.jail.paths import VirtualPath
from gateway.jail.refused import Refused
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


def test_a_client_that_was_destroyed_gets_none_and_its_days_are_not_read_every_hour(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.catalog.begin_destruction("acme", ordered_by="the court", reason="an order", keys=[])
    shutil.rmtree(world.folder.jail("acme"))
    seen = summaries.Seen()
    assert write(world, seen=seen) == 1 and today(world) in seen
    assert "summary_failed" not in "".join(capfd.readouterr())


def days_that_ingest_missed(world: World) -> list[date]:
    """With a paper each; the last of them is too old to be looked at in the ordinary way, as of today."""
    first = today(world) - timedelta(days=20)
    for ago in (20, 18, 9):
        world.land(f"{ago} days ago.pdf", bytes(ago), received_at=datetime.now(UTC) - timedelta(days=ago))
    world.ingest()
    return [first, first + timedelta(days=2), first + timedelta(days=11)]


def test_days_that_ingest_was_down_for_are_summed_up_too(world: World) -> None:
    days, seen = days_that_ingest_missed(world), summaries.Seen()
    assert write(world, today(world), seen) == 3
    assert sorted(lying(world)) == [f"{day}.json" for day in days]
    assert write(world, today(world), seen) == write(world, today(world)) == 0
    world.land("late.pdf", b"late", received_at=datetime.now(UTC) - timedelta(days=18))
    world.ingest()
    assert write(world, today(world)) == 1, "one that was large, say, is sealed after all small ones"
    assert json.loads(lying(world)[f"{days[1]}.json"].read_bytes())["papers"] == 2


def test_so_many_missing_days_are_made_up_for_at_once_from_the_oldest_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "MOST_AT_ONCE", 1)
    days, seen = days_that_ingest_missed(world), summaries.Seen()
    for number in range(1, 4):
        assert write(world, today(world), seen) == 1
        assert sorted(lying(world)) == [f"{day}.json" for day in days[:number]]
    assert write(world, today(world), seen) == 0


def test_an_old_day_that_tells_of_more_than_the_catalog_is_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog that was rebuilt from the vault does not know all that was refused."""
    write(world)
    path = next(iter(lying(world).values()))
    facts = json.loads(path.read_bytes())
    path.write_text(json.dumps(facts | {"papers": 99}))
    assert write(world, today(world) + timedelta(days=30)) == 0
    path.write_text(json.dumps(facts | {"papers": 1}))
    monkeypatch.setattr(summaries, "MOST_BACK", 29)
    assert write(world, today(world) + timedelta(days=30)) == 0, "too long ago"
    monkeypatch.undo()
    assert write(world, today(world) + timedelta(days=30)) == 1


def test_old_days_are_not_looked_through_beyond_a_week_that_lacks_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for ago in range(30, 8, -1):
        world.land(f"{ago} days ago.pdf", b"x", received_at=datetime.now(UTC) - timedelta(days=ago))
    world.ingest()
    seen = summaries.Seen()
    assert write(world, today(world), seen) == 22
    looked: list[date] = []
    lacks = summaries._lacks
    monkeypatch.setattr(summaries, "_lacks", lambda parts, day, standing: looked.append(day) or lacks(parts, day, standing))
    assert write(world, today(world), seen) == 0 and looked == []
    assert write(world, today(world)) == 0 and len(looked) == summaries.DAYS


def test_no_client_s_summary_of_an_old_day_loses_papers_because_another_client_s_is_missing(world: World) -> None:
    write(world)
    fuller, missing = (next(iter(lying(world, client).values())) for client in ("acme", "zeta"))
    fuller.write_text(json.dumps(json.loads(fuller.read_bytes()) | {"papers": 99}))
    missing.unlink()
    assert write(world, today(world) + timedelta(days=30)) == 1
    assert missing.exists() and json.loads(fuller.read_bytes())["papers"] == 99


def test_old_days_that_cannot_be_summed_up_do_not_keep_the_others_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One client's folder lets itself be read and not written, say; what it lacks is tried again the next day."""
    monkeypatch.setattr(summaries, "MOST_AT_ONCE", 1)
    days, seen = days_that_ingest_missed(world), summaries.Seen()
    place, tried = Tree.write_plains, []

    def fails(tree: Tree, files: Sequence[tuple[VirtualPath, bytes]], **durable: bool) -> None:
        if str(days[0]) in files[0][0].name:
            tried.append(files)
            raise Refused("permission", "not writable")
        place(tree, files, **durable)

    monkeypatch.setattr(Tree, "write_plains", fails)
    assert [write(world, today(world), seen) for _ in range(4)] == [0, 1, 1, 0]
    assert len(tried) == 1 and sorted(lying(world)) == [f"{day}.json" for day in days[1:]]
    monkeypatch.undo()
    assert write(world, today(world)) == 1


def test_a_day_of_very_long_names_is_listed_only_so_far_that_it_can_be_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would look changed for ever."""
    for number in range(20):
        world.land(f"{number} " + 'a"\u202e\u5408' * 30, b"x")
    world.ingest()
    monkeypatch.setattr(summaries, "MOST_BYTES", 16 * 1024)
    assert write(world) == 2
    facts = json.loads(next(iter(lying(world).values())).read_bytes())
    assert facts["papers"] == 23 and 3 < len(facts["listed"]) < 23
    assert write(world) == write(world, today(world) + timedelta(days=30)) == 0
