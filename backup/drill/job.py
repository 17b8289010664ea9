"""What one drill has from its beginning, and what its rehearsal works with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from backup.drill.fetch import RestoreSource
from backup.drill.history import Drilled
from backup.drill.verify import HeaderKeys
from backup.kit.kit import WholeKit
from config.console import Progress
from config.loading import Installation
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.keys.secrets import RoleSecrets

Kind = Literal["full", "sample", "clean-room", "escrow"]


@dataclass(frozen=True, kw_only=True)
class Drill:
    """One drill that has its lock and its run. `copy` is the place that is drilled, empty for the first."""

    installation: Installation
    kind: Kind
    run: int
    seed: str
    wanted: int
    started_at: datetime
    live: Catalog
    progress: Progress
    cancel: threading.Event | None = None
    copy: str = ""


@dataclass(frozen=True, kw_only=True)
class Job(Drill):
    """A drill with all that it may use."""

    audit: AuditLog
    secrets: RoleSecrets = field(repr=False)
    kit: WholeKit | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Setting(Drill):
    """A drill as its rehearsal sees it: repositories and keys, no secrets. `drilled` is what earlier drills verified."""

    agent: HeaderKeys
    papers: RestoreSource
    keys: RestoreSource
    probe: Callable[[], None]  # asks the bucket, in seconds: OutOfReach when it does not answer, BucketMissing when it is gone
    scratch: Path
    drilled: Drilled
