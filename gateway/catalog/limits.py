"""What one client may have and do, beside the settings that hold for all: quotas, the profile, speeds, sessions, handles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

Profile = Literal["drop", "exchange", "read-only"]
PROFILES: tuple[Profile, ...] = get_args(Profile)


@dataclass(frozen=True)
class Limits:
    """One client's. None: no limit of its own. `bytes` and `names` are what the client sees; `stored_bytes` counts older versions, the spool and the
    quarantine, too; speeds are bytes a second; `sessions` and `handles` are at once."""

    bytes: int | None = None
    names: int | None = None
    stored_bytes: int | None = None
    profile: Profile = "exchange"
    upload: int | None = None
    download: int | None = None
    sessions: int | None = None
    handles: int | None = None

    @property
    def is_quota(self) -> bool:
        """Whether anything has to be counted."""
        return self.bytes is not None or self.names is not None or self.stored_bytes is not None


COLUMNS = {
    "bytes": "quota_bytes",
    "names": "quota_names",
    "stored_bytes": "quota_stored_bytes",
    "profile": "profile",
    "upload": "upload_bytes_per_second",
    "download": "download_bytes_per_second",
    "sessions": "max_sessions",
    "handles": "max_handles",
}


def limits_of(row: Any) -> Limits:
    """The limits in a row of clients."""
    return Limits(**{field: getattr(row, column) for field, column in COLUMNS.items()})
