"""What a person or a client touched, and what happened around it. Pure: it reads records of the audit log, oldest first, and keeps bounded lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.audit.events import Event

MOST = 20_000  # of one list; what is beyond is counted
Record = Mapping[str, Any]
_TOUCHES = frozenset(
    {
        Event.PAPER_READ, Event.PAPER_DEPOSITED, Event.PAPER_BROKEN_OFF, Event.NAME_RENAMED, Event.NAME_REMOVED, Event.FILE_FETCHED, Event.FILE_PUT,
        Event.KEY_GRANTED, Event.FILES_EXPORTED, Event.QUARANTINE_RELEASED, Event.QUARANTINE_DELETED,
    }
)  # fmt: skip
_LOGINS = frozenset({Event.LOGIN_ACCEPTED, Event.LOGIN_FAILED, Event.SESSION_OPENED})


@dataclass(frozen=True)
class Subject:
    """Whom an incident is about: one of both. `people` are those who belong to a client."""

    person: str | None = None
    client: str | None = None
    people: frozenset[str] = frozenset()

    def is_about(self, record: Record) -> bool:
        """Whether a record is the subject's own: by or about the person; of the client, or by one of its people."""
        who = {record.get("person"), record.get("by")}
        if self.person is not None:
            return self.person in who
        return record.get("client") == self.client or bool(self.people & who)


@dataclass
class Findings:
    """`sessions` by id, `papers` by (client, path), `addresses` with first and last time; `others` are people who came from the same addresses."""

    events: int = 0
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    papers: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    addresses: dict[str, list[str]] = field(default_factory=dict)
    clients: dict[str, int] = field(default_factory=dict)
    others: dict[str, set[str]] = field(default_factory=dict)
    left_out: int = 0

    def take(self, record: Record) -> None:
        """One record of the subject's own."""
        self.events += 1
        time, event = str(record["time"]), record["event"]
        if (address := record.get("address")) and isinstance(address, str):
            self._keep(self.addresses, address, [time, time])[1] = time
        if event == Event.SESSION_OPENED and record.get("session"):
            told = {name: record.get(name) for name in ("person", "client", "address", "software")}
            self._keep(self.sessions, str(record["session"]), {"opened": time, "closed": None, **told})
        elif event == Event.SESSION_CLOSED and str(record.get("session")) in self.sessions:
            self.sessions[str(record["session"])]["closed"] = time
        if event in _TOUCHES:
            self._touched(record, time)

    def around(self, record: Record) -> None:
        """A record of somebody else: whether they came from the same address."""
        address = record.get("address")
        if record["event"] in _LOGINS and isinstance(address, str) and address in self.addresses and record.get("person"):
            seen = self.others.setdefault(str(record["person"]), set()) if len(self.others) < MOST else set()
            if len(seen) < 100:
                seen.add(address)

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "events": self.events,
            "sessions": [{"session": name, **told} for name, told in self.sessions.items()],
            "papers": [{"client": client, "path": path, **told} for (client, path), told in self.papers.items()],
            "addresses": [{"address": name, "first": first, "last": last} for name, (first, last) in self.addresses.items()],
            "clients": dict(sorted(self.clients.items())),
            "others_from_the_same_addresses": {name: sorted(seen) for name, seen in sorted(self.others.items())},
            "left_out": self.left_out,
        }

    def _touched(self, record: Record, time: str) -> None:
        client, path = str(record.get("client") or ""), str(record.get("path") or record.get("paper") or "")
        if client:
            self.clients[client] = self.clients.get(client, 0) + 1
        told = self._keep(self.papers, (client, path), {"paper": record.get("paper"), "first": time, "last": time, "how": []})
        told["last"] = time
        if record["event"] not in told["how"]:
            told["how"].append(record["event"])

    def _keep(self, kept: dict[Any, Any], name: Any, new: Any) -> Any:
        """What is kept under `name`, `new` when there is room; else something that nobody keeps."""
        if name in kept:
            return kept[name]
        if len(kept) >= MOST:
            self.left_out += 1
            return new
        kept[name] = new
        return new


def findings(records: Iterable[Record], subject: Subject) -> Findings:
    """What `records` tell of the subject, first; then who else came from its addresses needs a second look: `look_around`."""
    found = Findings()
    for record in records:
        if subject.is_about(record):
            found.take(record)
    return found


def look_around(records: Iterable[Record], subject: Subject, found: Findings) -> Iterable[Record]:
    """The records that belong into the bundle: the subject's own, those from its addresses, and those of its papers. Completes `found`."""
    papers = {told["paper"] for told in found.papers.values() if told["paper"]}
    for record in records:
        if subject.is_about(record):
            yield record
            continue
        found.around(record)
        if record.get("address") in found.addresses or (record.get("paper") and record.get("paper") in papers):
            yield record
