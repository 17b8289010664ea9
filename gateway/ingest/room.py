"""Room for what is to be sealed. A spool file may seem far larger than it is, because gaps take no room there: sealed, they do.

Without this a few small requests could have ingest fill the disk, and catalog and audit log could write no more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from config.console import human_bytes
from gateway.store.errors import SPACE_HINT, VaultFull, VaultTooNarrow

SHARE = 4  # uploads stop at the reserve; sealing, which gives the spool's room back afterwards, may take three quarters of it


def room_guard(folder: Path, reserve_bytes: int) -> Callable[[int], None]:
    """A function that raises VaultFull when a paper of so many bytes would leave less than a quarter of the reserve on the disk of `folder`;
    VaultTooNarrow while others still find room."""
    floor = reserve_bytes // SHARE

    def check(size: int) -> None:
        state = os.statvfs(folder)
        left = state.f_bavail * state.f_frsize - floor
        if size > left >= floor:
            raise VaultTooNarrow(f"no room to seal a paper of {human_bytes(size)}; it waits in the spool", SPACE_HINT)
        if size > left:
            raise VaultFull("no room to seal a paper; it waits in the spool", SPACE_HINT)

    return check
