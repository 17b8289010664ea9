"""What a person left in the audit log: for whoever has to know what somebody touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from config.folder import DataFolder
from gateway.audit.events import Event
from gateway.audit.read import Record, read
from gateway.catalog import Person

MOST = 100_000  # lines of one list


@dataclass
class Traces:
    """Counts and names, oldest first. Times are as in the audit log."""

    sessions: int = 0
    first: str | None = None
    last: str | None = None
    addresses: list[str] = field(default_factory=list)
    put: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "sessions": self.sessions,
            "first_session": self.first,
            "last_session": self.last,
            "addresses": self.addresses,
            "papers_put": self.put,
            "papers_read": self.read,
            "names_changed": self.changed,
        }


_LISTS = {
    Event.PAPER_DEPOSITED: "put",
    Event.PAPER_BROKEN_OFF: "put",
    Event.PAPER_READ: "read",
    Event.NAME_RENAMED: "changed",
    Event.NAME_REMOVED: "changed",
    Event.FOLDER_MADE: "changed",
    Event.FOLDER_REMOVED: "changed",
}


def traces_of(folder: DataFolder, person: Person) -> Traces:
    """What the audit log knows of `person`. Reads the whole log once."""
    found = Traces()
    for entry in read(folder.audit, person=person.name):
        if entry.get("role") != "gateway":
            continue
        if entry["event"] == Event.SESSION_OPENED:
            found.sessions += 1
            found.first = found.first or entry["time"]
            found.last = entry["time"]
            address = str(entry.get("address", ""))
            if address not in found.addresses:
                found.addresses.append(address)
        elif entry["event"] in _LISTS:
            lines: list[str] = getattr(found, _LISTS[Event(entry["event"])])
            if len(lines) < MOST:
                lines.append(_line(entry))
    return found


def _line(entry: Record) -> str:
    target = f" to {entry['target']}" if "target" in entry else ""
    return f"{entry['time']} {entry['event']} {entry.get('client', '')}:{entry.get('path', '')}{target}"
