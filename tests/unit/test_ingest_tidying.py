"""What a killed life left half-written goes without another start."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.age import Identity
from gateway.ingest import role
from gateway.store.vault import SWEEP_SECONDS, Vault


def test_what_was_too_young_at_the_start_is_removed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault, stop, turns = Vault(tmp_path), threading.Event(), 0
    left = vault.path("acme", "0" * 32).parent / ".tmp-left"
    with vault.writer("acme", "0" * 32, Identity.generate().recipient) as writer:
        writer.write(b"something")
        left.write_bytes(b"half a paper")

    def retire(*_: object) -> tuple[int, int]:
        nonlocal turns
        turns += 1
        if turns == 1:
            assert left.exists()
            old = time.time() - 2 * SWEEP_SECONDS
            os.utime(left, (old, old))  # the time passes
        else:
            stop.set()
        return 0, 0

    monkeypatch.setattr(role, "TIDY_SECONDS", 0.0)
    monkeypatch.setattr(role, "retire_ingest_keys", retire)
    role._tidy(cast(Any, SimpleNamespace(vault=vault, keyring=None, identities=None, spool=None, audit=None)), stop)
    assert not left.exists()


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
    parts = SimpleNamespace(vault=SimpleNamespace(sweep=sweep), keyring=None, identities=None, spool=None, audit=None)
    role._tidy(cast(Any, parts), stop)
    assert turns == 3
