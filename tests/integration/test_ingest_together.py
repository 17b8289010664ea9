"""Several ingest processes on one data folder, storms of papers that no event told of, and papers that do not fit into memory."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit.events import Event
from tests.integration.ingest_processes import Lives, serving, wait_for
from tests.integration.ingest_world import World

CLIENTS = ("acme", "brown", "clark")
MIB = 1 << 20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.catalog.close()


@pytest.fixture
def memory_world() -> Iterator[World]:
    """On the memory disk: a storm is about papers, not about how fast a disk syncs."""
    with tempfile.TemporaryDirectory(prefix="nightsafe-storm-", dir="/dev/shm") as folder:
        made = World(Path(folder))
        yield made
        made.catalog.close()


def is_done(world: World) -> bool:
    return not world.spool.landed_papers() and not world.catalog.unreceipted()


def is_empty(folder: Path) -> bool:
    """Asked again and again, of a folder with a hundred thousand names: listing it would take a processor from what is tested."""
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def test_two_processes_share_the_papers_and_one_may_die_at_any_moment(world: World) -> None:
    world.folder.settings.write_text("[ingest]\nsweep_seconds = 0.5\nbatch = 8\n")
    for client in CLIENTS[1:]:
        world.add_client(client)
    dice = random.Random(2)

    def land(count: int) -> None:
        for number in range(count):
            world.land(f"{number % 20}.pdf", os.urandom(dice.randrange(0, 60_000)), dice.choice(CLIENTS))

    with serving(world):
        with serving(world, instance=2):
            land(120)
            wait_for(lambda: is_done(world))
        sealed = world.events(Event.PAPER_SEALED)
        assert max(Counter(line["paper"] for line in sealed).values()) == 1, "a paper was handled twice"
        with Lives(world, instance=2) as second:
            for _ in range(6):
                land(20)
                second.live_for(dice.uniform(0.0, 0.1))
        wait_for(lambda: is_done(world))
    assert len(world.contents) == 240
    world.check_all_safe()
    for client in CLIENTS:
        for number in range(20):
            papers = [row.id for row in world.catalog.versions(client, f"/inbox/{number}.pdf")]
            assert papers == sorted(papers), "versions overtook each other"


def storm(world: World, count: int) -> None:
    """A third lands before ingest is there, the rest while it works; no event tells of any. All end accepted, with one receipt."""
    world.folder.settings.write_text("[ingest]\nsweep_seconds = 0.5\n")
    for number in range(count // 3):
        world.land(f"{number}.pdf", number.to_bytes(4, "big"))
    with serving(world, "deaf"):
        for number in range(count // 3, count):
            world.land(f"{number}.pdf", number.to_bytes(4, "big"))
        wait_for(lambda: is_empty(world.folder.spool_landed), 600)
        wait_for(lambda: not world.catalog.unreceipted())
    rows = list(world.catalog.papers())
    assert len(rows) == count
    assert {row.id: row.sha256 for row in rows} == {paper: hashlib.sha256(content).hexdigest() for paper, content in world.contents.items()}
    assert {(row.state, row.version, row.receipted) for row in rows} == {("accepted", 1, True)}
    assert sorted(paper for _, paper, _ in world.vault.papers()) == [row.id for row in rows]
    receipts = [entry for day in (world.folder.jail("acme") / "receipts").iterdir() for entry in os.listdir(day)]
    assert len(receipts) == 2 * count


def test_a_storm_of_papers_that_no_event_told_of(memory_world: World) -> None:
    storm(memory_world, 2000)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_storm_of_a_hundred_thousand(memory_world: World) -> None:
    storm(memory_world, 100_000)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_paper_larger_than_what_ingest_may_use_of_memory(world: World) -> None:
    """4 GiB; `scripts/bench ingest --large` shows 20."""
    size, piece = 4096, random.Random(4).randbytes(MIB)
    paper = world.land("large.bin", (piece for _ in range(size)))
    digest = hashlib.sha256()
    for _ in range(size):
        digest.update(piece)
    with serving(world) as process:
        wait_for(lambda: is_done(world), 400)
        status = Path(f"/proc/{process.pid}/status").read_text()
    most = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert most < 200 * 1024, f"{most} KiB at the most"
    row = world.catalog.paper(paper)
    assert row is not None and (row.state, row.size, row.sha256) == ("accepted", size * MIB, digest.hexdigest())
