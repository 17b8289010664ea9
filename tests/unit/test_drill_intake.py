"""Catalogs are read by SQL: what that takes in, what it doubts, and what it must not take."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.drill.errors import ScratchFailed
from backup.drill.judge import Cause, Finding
from backup.drill.ledger import Ledger
from gateway.catalog import Catalog, NewPaper

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
PAPER = NewPaper(
    id="", client="acme", path="/inbox/a", person="acme", state="accepted", reason="", size=1, sha256="a" * 64, received_at=NOON,
    sealed_at=NOON + timedelta(microseconds=1), modified_at=None, generation=1, header_mac="b" * 64, sealed_sha256="c" * 64, sealed_size=200,
    session="s", address="a",
)  # fmt: skip


def identity(number: int) -> str:
    return f"{number:032x}"


class World:
    """A catalog of ten papers, its dump, and a ledger."""

    def __init__(self, root: Path) -> None:
        self.live, self.dump = root / "live.sqlite3", root / "dump.sqlite3"
        with Catalog.create(self.live) as catalog:
            for client in ("acme", "zeta"):
                catalog.add_client(client, recipient="age1x")
            catalog.record([replace(PAPER, id=identity(number), client=("acme", "zeta")[number % 2]) for number in range(10)])
            catalog.dump(self.dump)
        self.ledger = Ledger(root / "ledger")
        self.found: list[Finding] = []

    def alter(self, file: Path, change: str, *values: object) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as base:
            base.execute(f"UPDATE papers SET {change}", values)

    def take_in(self) -> list[str]:
        """The ids that the ledger has then."""
        self.ledger.add_catalog("live", self.live, "the live catalog", self.found.append)
        self.ledger.add_catalog("dump", self.dump, "the dump", self.found.append)
        return [entry.paper for entry in self.ledger.entries()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.ledger.close()


def test_both_catalogs_are_taken_in_as_they_are(world: World) -> None:
    assert world.take_in() == [identity(number) for number in range(10)]
    entry = next(world.ledger.entries())
    assert entry.live == entry.dump == world.ledger.record(identity(0))
    assert entry.live is not None
    assert (entry.live.sealed_at, entry.live.received_at, entry.live.receipted) == (PAPER.sealed_at, NOON, False)
    assert not world.found


def test_an_altered_hash_is_seen_in_either(world: World) -> None:
    world.alter(world.live, "sha256 = ? WHERE id = ?", "1" * 64, identity(3))
    world.alter(world.dump, "sha256 = ? WHERE id = ?", "2" * 64, identity(4))
    world.take_in()
    differing = {entry.paper: (entry.live, entry.dump) for entry in world.ledger.entries() if entry.live != entry.dump}
    assert list(differing) == [identity(3), identity(4)]
    assert [(live.sha256[0], dump.sha256[0]) for live, dump in differing.values() if live and dump] == [("1", "a"), ("a", "2")]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("client", "../etc"),
        ("client", b"acme"),
        ("path", "inbox"),
        ("path", b"/inbox"),
        ("path", 7),
        ("size", "many"),
        ("size", -1),
        ("size", 1.5),
        ("sha256", "A" * 64),
        ("sha256", "a" * 63 + "\0"),
        ("sha256", "a" * 63),
        ("sha256", "a" * 65),
        ("header_mac", b"b" * 64),
        ("sealed_sha256", "c" * 63 + "\u0663"),
        ("id", "Z" * 32),
    ],
)
@pytest.mark.parametrize("file", ["live", "dump"])
def test_a_row_that_cannot_be_a_papers_is_reported_and_not_taken(world: World, file: str, column: str, value: object) -> None:
    world.alter(getattr(world, file), f"{column} = ? WHERE id = ?", value, identity(5))
    world.take_in()
    assert [finding.cause for finding in world.found] == [Cause.ROW_BAD]
    entry = next(entry for entry in world.ledger.entries() if entry.paper == identity(5))
    assert (entry.live is None, entry.dump is None) == (file == "live", file == "dump")


def test_a_path_that_is_no_text_anywhere_is_reported(world: World) -> None:
    world.alter(world.dump, "path = CAST(? AS TEXT) WHERE id = ?", b"/inbox/\xff", identity(5))
    world.take_in()
    assert [(finding.paper, finding.cause) for finding in world.found] == [(identity(5), Cause.ROW_BAD)]


def test_what_sql_only_doubts_is_taken_all_the_same(world: World) -> None:
    """A client that the catalog does not list is odd, and its papers are papers; so are names in any script."""
    with closing(sqlite3.connect(world.dump, isolation_level=None)) as base:
        base.execute("DELETE FROM clients WHERE name = 'zeta'")
    world.alter(world.live, "path = '/inbox/\u00e4\u6f22' WHERE id = ?", identity(5))
    world.alter(world.dump, "path = '/inbox/\u00e4\u6f22' WHERE id IN (?, ?)", identity(5), identity(7))
    assert len(world.take_in()) == 10
    assert not world.found
    entries = {entry.paper: entry for entry in world.ledger.entries()}
    assert entries[identity(5)].live == entries[identity(5)].dump
    assert entries[identity(7)].live != entries[identity(7)].dump


@pytest.mark.parametrize("value", ["never", 2**62, b"x"])
def test_a_moment_that_is_none_makes_the_catalog_a_damaged_one(world: World, value: object) -> None:
    world.alter(world.dump, "sealed_at = ? WHERE id = ?", value, identity(5))
    with pytest.raises((ValueError, TypeError, OverflowError)):
        world.take_in()
    assert [entry.dump for entry in world.ledger.entries()] == [None] * 10, "nothing of it is taken in then"


def test_a_damaged_page_makes_the_catalog_a_damaged_one(world: World) -> None:
    data = bytearray(world.dump.read_bytes())
    with closing(sqlite3.connect(world.dump)) as base:
        ((page,),) = base.execute("SELECT rootpage FROM sqlite_master WHERE name = 'papers'").fetchall()
    data[4096 * (page - 1) : 4096 * (page - 1) + 200] = b"\xff" * 200
    world.dump.write_bytes(data)
    with pytest.raises(ValueError, match="malformed"):
        world.take_in()
    assert len(list(world.ledger.entries())) == 10


def test_destroyed_clients_and_expired_papers_are_left_out_of_both(world: World) -> None:
    world.alter(world.live, "state = 'expired' WHERE id = ?", identity(2))
    world.alter(world.dump, "sha256 = 'rubbish' WHERE id = ?", identity(1))  # of the destroyed client: nobody's fault
    world.ledger.leave_out(["zeta"])
    assert world.take_in() == [identity(number) for number in (0, 4, 6, 8)]
    assert world.ledger.excused([identity(2), identity(3)]) == {identity(2)}
    assert not world.found


def test_a_full_disk_is_not_the_catalogs_fault(world: World) -> None:
    world.alter(world.live, "path = ?", "/inbox/" + "x" * 8000)
    world.ledger._base.execute("PRAGMA max_page_count = 1")  # no more than there are
    with pytest.raises(ScratchFailed):
        world.take_in()
