"""Disks that are synced together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.disks import Disks


def test_a_folder_that_is_not_there_costs_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(FileNotFoundError):
            Disks((tmp_path, tmp_path / "missing"))
    assert len(os.listdir("/proc/self/fd")) == before
