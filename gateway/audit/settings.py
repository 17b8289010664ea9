"""Changes of the settings in the audit log: what a role starts with, or reads again, against what it recorded last.

What was recorded last lies in `audit/settings-ROLE.json`, one file for each role, because each may run as a user of its own. Without that file
the defaults are what was before: losing it repeats an event, and hides none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import structlog

from config.effective import Value, changes, flat
from config.files import write_whole
from config.settings import Settings
from gateway.audit.events import Event
from gateway.audit.log import AuditLog

MOST_TOLD = 100  # names in one event; what is beyond is counted


def record_settings(folder: Path, settings: Settings, audit: AuditLog, role: str) -> dict[str, list[Any]]:
    """Record what differs from the last settings that `role` recorded, [old, new] by name; nothing when all is as it was. `folder` is that of the
    audit log. Raises AuditUnavailable."""
    path = folder / f"settings-{role}.json"
    now = flat(settings)
    changed = changes(_recorded(path), now)
    if changed:
        told = dict(list(changed.items())[:MOST_TOLD])
        more = {"more": len(changed) - MOST_TOLD} if len(changed) > MOST_TOLD else {}
        audit.append(Event.SETTINGS_CHANGED, durable=True, changed=told, **more)
        _keep(path, now)
    return changed


def _recorded(path: Path) -> dict[str, Value]:
    try:
        kept = json.loads(path.read_bytes())
        return {str(name): Value(shown, str(mark)) for name, (shown, mark) in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return flat(Settings())


def _keep(path: Path, values: dict[str, Value]) -> None:
    data = json.dumps({name: [value.shown, value.mark] for name, value in values.items()}, sort_keys=True).encode()
    try:
        write_whole(path, data)
    except OSError as error:
        structlog.get_logger().warning("audit.settings_not_kept", error=error.strerror)  # the next start tells the same again
