"""The catalog on a full disk: whatever SQLite calls it, it is told as what it is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.catalog import Catalog
from gateway.catalog.errors import CatalogError
from tests.e2e.disks import tmpfs


def test_no_room_for_the_memory_that_processes_share(tmp_path: Path) -> None:
    """SQLite makes the file -shm at the first look, and calls it an I/O error when it cannot."""
    with tmpfs(tmp_path / "disk", "2m") as disk:
        Catalog.create(disk / "catalog.sqlite3").close()
        with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4096))
        assert not os.path.exists(disk / "catalog.sqlite3-shm")
        with pytest.raises(CatalogError, match="disk is full") as caught:
            Catalog.open(disk / "catalog.sqlite3")
        assert "free some space" in caught.value.hint
        (disk / "filler").unlink()
        with Catalog.open(disk / "catalog.sqlite3") as catalog:
            assert catalog.clients() == []
