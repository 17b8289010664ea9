"""A paper that is nearly all gap is small in the spool and large in the vault: it must not push out catalog and audit log."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.ingest.room import room_guard
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
