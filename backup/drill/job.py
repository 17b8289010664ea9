"""What one drill has from its beginning: its lock, its run, its tools."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime

from backup.drill.rehearsal import Kind
from backup.kit import WholeKit
from config.console import Progress
from config.loading import Installation
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.keys.secrets import RoleSecrets


@dataclass(frozen=True)
class Job:
    """One drill that has its lock, its run and its tools."""

    installation: Installation
    kind: Kind
    run: int
    seed: str
    wanted: int
    started_at: datetime
    live: Catalog
    audit: AuditLog
    secrets: RoleSecrets
    progress: Progress
    cancel: threading.Event | None
    copy: str = ""
    kit: WholeKit | None = field(default=None, repr=False)
