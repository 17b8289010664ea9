"""A paper that is nearly all gap is small in the spool and large in the vault: it must not push out catalog and audit log."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.settings import IngestSettings
from gateway.audit.log import AuditLog
from gateway.ingest.checking import Changes
from gateway.ingest.crew import Crew
from gateway.ingest.lanes import LARGE_BYTES
from gateway.ingest.pipeline import Pipeline
from gateway.ingest.room import room_guard
from gateway.ingest.worker import Sources, Worker, is_shortage
from gateway.store import Arrival, new_paper_id
from gateway.store.errors import VaultFull
from tests.integration.ingest_world import World


def test_a_paper_that_does_not_fit_waits_and_the_others_go_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    large = world.land("large", bytes(3_000_000))
    small = world.land("small", b"small")

    def check(size: int) -> None:
        if size > 1_000_000:
            raise VaultFull("no room")

    world.ingest(check_room=check)
    assert world.catalog.paper(small) is not None and world.catalog.paper(large) is None
    assert world.spool.landed_papers() == [large]
    assert not list(tmp_path.glob("**/vault/**/.tmp-*"))
    world.ingest()
    assert world.catalog.paper(large) is not None and world.spool.landed_papers() == []


def test_the_guard_keeps_a_part_of_the_reserve(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    room_guard(tmp_path, 0)(1)
    room_guard(tmp_path, free)(free // 2)
    with pytest.raises(VaultFull):
        room_guard(tmp_path, 0)(2 * free)
    with pytest.raises(VaultFull):
        room_guard(tmp_path, 8 * free)(1)


def test_the_role_uses_the_guard(tmp_path: Path) -> None:
    from config.roles import running_role
    from gateway.ingest.role import opened_parts
    from tests.integration.conftest import make_installation

    installation = make_installation(tmp_path, f"[gateway]\nreserve_bytes = {2**60}\n")
    with running_role(installation.folder, "ingest") as role, opened_parts(installation, role) as (parts, _), pytest.raises(VaultFull):
        parts.check_room(1)


def land_a_gap(world: World, name: str, size: int) -> str:
    """An upload that is nothing but a size: a few kilobytes in the spool."""
    paper = new_paper_id()
    file = world.spool.create(paper, "acme")
    file.truncate(size)
    file.finish(Arrival(paper, "acme", "acme", f"/inbox/{name}", datetime.now(UTC), None, "session-1", "192.0.2.7", "SSH-2.0-test"))
    world.spool.land(paper)
    file.close()
    return paper


def test_papers_that_do_not_fit_hold_up_nobody(tmp_path: Path) -> None:
    world = World(tmp_path)
    gaps = [land_a_gap(world, f"gap-{number}", 2**40) for number in range(40)]
    honest = world.land("honest.pdf", b"honest")
    with AuditLog(world.folder.audit, "ingest") as audit, Pipeline(world.parts(audit, check_room=room_guard(tmp_path, 0))) as pipeline:
        worker = Worker(pipeline, Sources(world.spool.landed_papers), batch=4, sweep_seconds=3600.0)
        worker.work()
    assert world.catalog.paper(honest) is not None
    assert world.spool.landed_papers() == gaps
    world.catalog.close()


def test_a_disk_that_is_full_for_everybody_makes_all_wait(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(VaultFull) as narrow:
        room_guard(tmp_path, 0)(2 * free)
    with pytest.raises(VaultFull) as full:
        room_guard(tmp_path, 8 * free)(1)
    assert (is_shortage(narrow.value), is_shortage(full.value)) == (False, True)


def test_a_gap_that_is_small_in_the_spool_is_no_small_paper(tmp_path: Path) -> None:
    world = World(tmp_path)
    gap = land_a_gap(world, "gap", LARGE_BYTES + 1)
    honest = world.land("honest.pdf", b"honest")
    with AuditLog(world.folder.audit, "ingest") as audit, ExitStack() as stack:
        crew = Crew(stack, world.parts(audit), Changes(), IngestSettings())
        small, _, *slow = crew.workers
        small.work()
        assert world.catalog.paper(honest) is not None and world.catalog.paper(gap) is None
        slow[0].work()
    assert world.catalog.paper(gap) is not None and world.spool.landed_papers() == []
    world.catalog.close()
