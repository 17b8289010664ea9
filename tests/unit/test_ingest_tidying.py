"""What a killed life left half-written goes without another start."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.age import Identity
from gateway.ingest import role
from gateway.ingest.aside import QUIET_SECONDS, move_aside, sweep_aside
from gateway.store.vault import SWEEP_SECONDS, Vault

KILLED = """
import os, signal, sys
from pathlib import Path
from gateway.ingest.aside import move_aside
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
move_aside(Path(sys.argv[1]), Path(sys.argv[2]), "acme", "paper")
"""


def test_what_was_too_young_at_the_start_is_removed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault, stop, turns = Vault(tmp_path / "vault"), threading.Event(), 0
    left = vault.path("acme", "0" * 32).parent / ".tmp-left"
    copied = tmp_path / "quarantine" / "acme" / ".tmp-left"
    copied.parent.mkdir(parents=True)
    with vault.writer("acme", "0" * 32, Identity.generate().recipient) as writer:
        writer.write(b"something")
        left.write_bytes(b"half a paper")
        copied.write_bytes(b"half a copy")

    def retire(*_: object) -> tuple[int, int]:
        nonlocal turns
        turns += 1
        if turns == 1:
            assert left.exists() and copied.exists()
            for path, seconds in ((left, SWEEP_SECONDS), (copied, QUIET_SECONDS)):
                os.utime(path, (time.time() - 2 * seconds,) * 2)  # the time passes
        else:
            stop.set()
        return 0, 0

    monkeypatch.setattr(role, "TIDY_SECONDS", 0.0)
    monkeypatch.setattr(role, "retire_ingest_keys", retire)
    parts = SimpleNamespace(vault=vault, quarantine=tmp_path / "quarantine", keyring=None, identities=None, spool=None, audit=None)
    role._tidy(cast(Any, parts), stop)
    assert not left.exists() and not copied.exists()


def test_a_file_that_cannot_be_removed_ends_no_tidying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, turns = threading.Event(), 0

    def sweep() -> int:
        raise PermissionError("not ours")

    def retire(*_: object) -> tuple[int, int]:
        nonlocal turns
        turns += 1
        if turns == 3:
            stop.set()
        raise OSError("nor is this")

    monkeypatch.setattr(role, "TIDY_SECONDS", 0.0)
    monkeypatch.setattr(role, "retire_ingest_keys", retire)
    parts = SimpleNamespace(vault=SimpleNamespace(sweep=sweep), quarantine=tmp_path, keyring=None, identities=None, spool=None, audit=None)
    role._tidy(cast(Any, parts), stop)
    assert turns == 3


def test_what_a_killed_copy_left_on_the_disk_of_the_quarantine_is_removed_once_nobody_can_write_it(tmp_path: Path) -> None:
    landed = tmp_path / "landed"
    landed.mkdir()
    (landed / "paper").write_bytes(bytes(3 * 1024 * 1024))
    with tempfile.TemporaryDirectory(prefix="quarantine-", dir="/dev/shm") as other_disk:
        quarantine = Path(other_disk)
        (quarantine / "acme" / "ab").mkdir(parents=True)
        killed = subprocess.run([sys.executable, "-c", KILLED, str(landed), other_disk], cwd=Path(__file__).parents[2], check=False)
        assert killed.returncode < 0
        (left,) = (quarantine / "acme").glob(".tmp-*")
        of_a_sealed_one = left.with_name("ab") / ".tmp-left"
        of_a_sealed_one.write_bytes(b"half a paper")
        kept = [left.with_name("old.damaged"), left.with_name("ab") / "old.age", left.with_name("ab") / ".tmp-now"]
        for path in kept:
            path.write_bytes(b"kept")
        (quarantine / "acme" / ".tmp-folder").mkdir()
        assert sweep_aside(quarantine) == 0, "somebody may write them"
        old = time.time() - 2 * QUIET_SECONDS
        for path in (left, of_a_sealed_one, *kept[:2], quarantine / "acme" / ".tmp-folder"):
            os.utime(path, (old, old))
        assert sweep_aside(quarantine) == 2
        assert all(path.exists() for path in kept) and not left.exists() and not of_a_sealed_one.exists()
        move_aside(landed, quarantine, "acme", "paper")
        assert (quarantine / "acme" / "paper.damaged").stat().st_size == 3 * 1024 * 1024 and not (landed / "paper").exists()
    assert sweep_aside(quarantine) == 0, "there is none"
