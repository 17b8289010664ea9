"""What can be said of clamd's temporary folder, from where we are."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.ingest.checks.clamd import is_elsewhere
from gateway.ingest.checks.clamd_config import config_faults

DISK = "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
MEMORY = DISK + "26 25 0:30 / /papers rw - tmpfs tmpfs rw\n"


def test_a_folder_on_a_disk_is_a_fault_and_one_in_memory_is_none(tmp_path: Path) -> None:
    settings = tmp_path / "clamd.conf"
    settings.write_text("TemporaryDirectory /papers\n")
    assert config_faults(settings, 1000, MEMORY) == ([], [])
    [fault], notes = config_faults(settings, 1000, DISK)
    assert "on ext4" in fault and notes == []


@pytest.mark.parametrize("mounts", [DISK, MEMORY])
def test_of_a_clamd_elsewhere_our_own_mounts_tell_nothing(tmp_path: Path, mounts: str) -> None:
    settings = tmp_path / "clamd.conf"
    settings.write_text("TemporaryDirectory /papers\nMaxFileSize 10K\n")
    [fault], [note] = config_faults(settings, 100_000, mounts, elsewhere=True)
    assert "MaxFileSize" in fault and "look there" in note
    assert "look there" in config_faults(None, 1000, elsewhere=True)[1][0]
    assert "scan.clamd_config" in config_faults(None, 1000)[1][0]


@pytest.mark.parametrize(
    ("address", "elsewhere"),
    [("clamd:3310", True), ("192.0.2.7:3310", True), ("127.0.0.1:3310", False), ("[::1]:3310", False), ("/run/clamav/clamd.ctl", False)],
)
def test_which_addresses_are_elsewhere(address: str, elsewhere: bool) -> None:
    assert is_elsewhere(address) is elsewhere


@pytest.mark.parametrize(("folder", "told"), [("/tmp/prüf akte", r"/tmp/pr\303\274f\040akte"), ("/tmp/prüf akte", r"/tmp/prüf\040akte")])
def test_a_disk_is_known_by_whatever_name(tmp_path: Path, folder: str, told: str) -> None:
    settings = tmp_path / "clamd.conf"
    settings.write_text(f"TemporaryDirectory {folder}\n")
    mounts = f"25 1 0:30 / /tmp rw - tmpfs tmpfs rw\n26 25 8:2 / {told} rw - ext4 /dev/sdb1 rw\n"
    [fault], _ = config_faults(settings, 1000, mounts)
    assert "on ext4" in fault
