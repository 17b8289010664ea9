"""When the event loop syncs by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.sftp.papers import sync_cost
from gateway.sftp.papers.sync_cost import DISTRUST_SECONDS, STALL_SECONDS, SyncCost


def test_it_is_high_until_it_is_measured(tmp_path: Path) -> None:
    assert not SyncCost().is_low
    cost = SyncCost()
    cost.measure(tmp_path / "missing")
    assert not cost.is_low


def test_memory_is_low_and_leaves_nothing_behind() -> None:
    memory = Path("/dev/shm")
    cost = SyncCost()
    cost.measure(memory)
    assert cost.is_low
    assert not (memory / ".sync-cost").exists()


def test_a_disk_is_high(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_cost, "_sync_once", lambda *_: 0.0003)
    cost = SyncCost()
    cost.measure(tmp_path)
    assert not cost.is_low


def test_folders_on_two_disks_are_high(tmp_path: Path) -> None:
    cost = SyncCost()
    cost.measure(Path("/dev/shm"), Path("/proc"))
    assert not cost.is_low


def test_after_a_stall_threads_are_asked_for_a_while() -> None:
    now = [0.0]
    cost = SyncCost(lambda: now[0])
    cost.measure(Path("/dev/shm"))
    cost.took(STALL_SECONDS / 2)
    assert cost.is_low
    cost.took(STALL_SECONDS)
    assert not cost.is_low
    now[0] = DISTRUST_SECONDS
    assert cost.is_low
