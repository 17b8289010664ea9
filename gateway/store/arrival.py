"""Arrival: the facts of a paper's arrival, which travel sealed in the footer of its spool file. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Arrival:
    """As they stood when the last handle was closed. `path` may have been renamed since: the jail knows."""

    paper: str
    client: str
    person: str
    path: str
    received_at: datetime
    modified_at: datetime | None  # the client's
    session: str
    address: str
    software: str  # the version line of the client's program

    def to_json(self) -> dict[str, Any]:
        """JSON values; times in RFC 3339 with Z and microseconds."""
        return {
            "paper": self.paper,
            "client": self.client,
            "person": self.person,
            "path": self.path,
            "received_at": _time_text(self.received_at),
            "modified_at": None if self.modified_at is None else _time_text(self.modified_at),
            "session": self.session,
            "address": self.address,
            "software": self.software,
        }

    @classmethod
    def from_json(cls, values: Any) -> Arrival:
        """The inverse of `to_json`. Raises ValueError for anything else."""
        if not isinstance(values, dict) or set(values) != _FIELDS:
            raise ValueError("these are not the facts of an arrival")
        modified = values["modified_at"]
        texts = {name: _text(values[name]) for name in _FIELDS - {"received_at", "modified_at"}}
        return cls(**texts, received_at=_time(values["received_at"]), modified_at=None if modified is None else _time(modified))


_FIELDS = frozenset(Arrival.__dataclass_fields__)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a fact of an arrival is not a text")  # noqa: TRY004 - one error for every way to be malformed
    return value


def _time(value: Any) -> datetime:
    time = datetime.fromisoformat(_text(value))
    if time.tzinfo is None:
        raise ValueError("a time of an arrival has no zone")
    return time.astimezone(UTC)


def _time_text(time: datetime) -> str:
    here = time if time.tzinfo is UTC else time.astimezone(UTC)
    return here.isoformat(timespec="microseconds")[:-6] + "Z"
