"""Stores that fail: a full disk, a locked catalog, a catalog that will not take one paper. Nothing is lost, and it goes on when they are back."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from config.checks import ChecksSettings, Rule
from gateway.audit.log import AuditLog
from gateway.catalog.errors import CatalogError
from gateway.catalog.rows import NewPaper, Paper
from gateway.ingest.checks.services import Checks
from gateway.ingest.pipeline import Pipeline
from gateway.ingest.quarantine import Quarantine
from gateway.ingest.worker import Sources, Worker
from tests.integration.ingest_world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.catalog.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[World]:
    """A world on a file system of 8 MiB."""
    folder = tmp_path / "data"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    try:
        made = World(tmp_path)
        yield made
        made.catalog.close()
        made.spool.close()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def working(world: World, **changes: object) -> Iterator[Callable[[float], None]]:
    """A function that lets a worker do what it wants for so many seconds of its clock."""
    clock = Clock()
    with AuditLog(world.folder.audit, "ingest") as audit, Pipeline(world.parts(audit, **changes)) as pipeline:
        sources = Sources(world.spool.landed_papers, lambda: [paper.id for paper in world.catalog.unreceipted()])
        worker = Worker(pipeline, sources, batch=16, sweep_seconds=20.0, clock=clock)

        def run(seconds: float) -> None:
            end = clock.now + seconds
            while clock.now < end:
                clock.now = min(end, clock.now + max(0.01, worker.work()))

        yield run


@pytest.mark.parametrize("free", [0, 40, 100, 200, 400, 550])
def test_a_full_disk_loses_nothing(small_disk: World, free: int) -> None:
    """`free` KiB are left, so that each case stops at another step."""
    world = small_disk
    for number in range(20):
        world.land(f"{number}.pdf", os.urandom(30_000))
    filler = world.folder.root / "filler"
    with working(world) as run:
        with filler.open("wb") as file:
            room = os.statvfs(world.folder.root)
            os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize - free * 1024))
        run(60)
        assert world.spool.landed_papers() != [], "the disk was not full enough to mean anything"
        filler.unlink()
        run(120)
    world.check_all_safe()


def test_a_catalog_that_another_process_holds_is_waited_for(world: World) -> None:
    world.land("a.pdf", b"a")
    with closing(sqlite3.connect(world.folder.catalog, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(1.0, lambda: other.execute("ROLLBACK"))
        release.start()
        world.ingest()
        release.join()
    world.check_all_safe()


class Stubborn:
    """The real catalog, but that `record` fails: for everything a few times, or for one paper always."""

    def __init__(self, world: World, times: int = 0, never: str = "") -> None:
        self._catalog = world.catalog
        self._times = times
        self.never = never

    def record(self, arrivals: Sequence[NewPaper]) -> list[Paper]:
        self._times -= 1
        if self._times >= 0 or any(new.id == self.never for new in arrivals):
            raise CatalogError("the catalog cannot be used: database is locked")
        return self._catalog.record(arrivals)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)


def test_papers_are_sealed_again_after_the_catalog_failed(world: World) -> None:
    for number in range(10):
        world.land(f"{number}.pdf", os.urandom(1000))
    with working(world, catalog=Stubborn(world, times=3)) as run:
        run(60)
    world.check_all_safe()


def test_a_paper_that_the_catalog_never_takes_holds_up_nobody(world: World) -> None:
    papers = [world.land(f"{number}.pdf", os.urandom(1000)) for number in range(40)]
    catalog = Stubborn(world, never=papers[7])
    with working(world, catalog=catalog) as run:
        run(19)
        assert world.spool.landed_papers() == [papers[7]]
        catalog.never = ""
        run(40)
    world.check_all_safe()


def test_a_spool_file_that_cannot_be_read_holds_up_nobody(world: World) -> None:
    link, pipe = planted = ["0" * 32, "1" * 32]
    (world.folder.spool_landed / link).symlink_to(world.folder.spool_landed / link)  # as hard to open as a bad sector
    os.mkfifo(world.folder.spool_landed / pipe)
    good = [world.land(f"{number}.pdf", b"good") for number in range(3)]
    with AuditLog(world.folder.audit, "ingest") as audit, Pipeline(world.parts(audit)) as pipeline:
        outcome = pipeline.handle([*planted, *good])
    assert sorted(outcome.done) == sorted(good) and sorted(outcome.failed) == planted


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[World]:
    """A world whose quarantine lies on a disk of its own."""
    folder = tmp_path / "data" / "quarantine"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    try:
        made = World(tmp_path)
        yield made
        made.catalog.close()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_quarantine_on_a_disk_of_its_own(apart: World) -> None:
    refused = apart.land("large.bin", os.urandom(300_000))
    damaged = apart.land("damaged.pdf", b"x")
    os.truncate(apart.folder.spool_landed / damaged, 5000)
    checks = Checks(settings=ChecksSettings(rules=(Rule(largest_bytes=1000, breach="refuse"),)))
    apart.ingest(checks=checks)
    assert apart.spool.landed_papers() == []
    assert {row.state for row in apart.catalog.papers()} == {"refused"}
    assert (apart.folder.quarantine / "acme" / f"{damaged}.damaged").stat().st_size == 5000
    with AuditLog(apart.folder.audit, "ops") as audit:
        Quarantine(apart.folder, apart.catalog, audit).release(refused, person="ops:root", reason="it is harmless")
    with apart.vault.open("acme", refused, identities=apart.keyring.client_identities("acme", apart.master)) as sealed:
        assert sealed.read() == apart.contents[refused]
    left = [path for root in (apart.folder.vault, apart.folder.quarantine, apart.folder.spool_landed) for path in root.rglob("*") if path.is_file()]
    assert sorted(path.name for path in left) == sorted([f"{refused}.age", f"{damaged}.damaged"])
