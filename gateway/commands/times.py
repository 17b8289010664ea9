"""How moments look in the output of commands."""

from __future__ import annotations

from datetime import datetime


def moment(value: datetime | None) -> str | None:
    """RFC 3339 with seconds, in UTC."""
    return None if value is None else value.isoformat(timespec="seconds").replace("+00:00", "Z")
