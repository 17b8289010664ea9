"""How runs and times look in the output of commands."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gateway.catalog import Run


def moment(value: datetime | None) -> str | None:
    """RFC 3339 with seconds, in UTC."""
    return None if value is None else value.isoformat(timespec="seconds").replace("+00:00", "Z")


def run_facts(run: Run) -> dict[str, Any]:
    """A run as JSON values."""
    return {
        "run": run.id,
        "kind": run.kind,
        "state": run.state,
        "started_at": moment(run.started_at),
        "ended_at": moment(run.ended_at),
        "snapshot": run.snapshot,
        "keys_snapshot": run.keys_snapshot,
        "detail": dict(run.detail),
    }
