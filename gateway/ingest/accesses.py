"""Who touched a client's papers in a month, as the client is told: /receipts/access/YYYY-MM.json. Pure; what is told comes from the audit log.

The client's own people stand apart from everybody else: staff, operators, drills and restores. Addresses are told of the client's own people
alone. `keys` counts what keyd opened, by name: keyd writes a log of its own, so that a gateway which kept a download quiet would show there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from config.printable import json_line
from gateway.audit.events import Event
from gateway.ingest.receipts import FOLDER

VERSION = 1  # of the list's form, in "nightsafe_access"
MOST_LISTED = 10_000  # of the client's own, and as many of the others'; all are counted

# event → what it is called for the client
OPENED = {Event.PAPER_READ: "read", Event.FILE_FETCHED: "fetched", Event.FILES_EXPORTED: "exported", Event.RESTORE_FINISHED: "restored"}
TOUCHED = {
    Event.NAME_RENAMED: "renamed",
    Event.NAME_REMOVED: "name removed",
    Event.PAPER_DEPOSITED: "put in",
    Event.FILE_PUT: "put in",
    Event.FILES_SEARCHED: "names looked at",
    Event.QUARANTINE_RELEASED: "released from quarantine",
    Event.QUARANTINE_DELETED: "deleted from quarantine",
    Event.HELD_DECIDED: "decided about",
    Event.PAPER_EXPIRED: "expired",
}
WATCHED = frozenset({*OPENED, *TOUCHED, Event.KEY_GRANTED})
EVERYBODY = "*"  # as the restore of all clients is recorded; no client's name
TOLD_TO_ALL = frozenset({Event.FILES_SEARCHED, Event.RESTORE_FINISHED})  # what can be done to all clients at once
_TOLD = ("path", "target", "paper", "papers", "found", "reason", "decision", "state", "all_clients")
_TOLD_OF_ALL = ("time", "event", "role", "person", "state")  # numbers and names would tell of the other clients
DRILL = "ops:drill"


@dataclass
class Accesses:
    """What is known of one client. `own` and `others` are lists of entries; `drills` counts the papers that each drill opened."""

    own: list[dict[str, Any]] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)
    own_total: int = 0
    others_total: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    drills: dict[str, list[Any]] = field(default_factory=dict)  # reason → [first time, papers]

    def take(self, record: Mapping[str, Any]) -> None:
        """One record of this client, in the order of time."""
        event, who = record["event"], str(record.get("person") or record["role"])
        if event == Event.KEY_GRANTED:
            self.keys[who] += 1
            if who == DRILL:
                told = self.drills.setdefault(str(record.get("reason")), [record["time"], 0])
                told[1] += 1
            return
        is_own = record.get("person_role") == "client"
        if is_own and event == Event.PAPER_READ:
            self.own_total += 1
            if len(self.own) < MOST_LISTED:
                self.own.append(_entry(record, who, "read") | {"address": record.get("address")})
        elif not is_own:
            self.others_total += 1
            if len(self.others) < MOST_LISTED:
                role = {"role": str(record["person_role"])} if record.get("person_role") else {}
                self.others.append(_entry(record, who, {**OPENED, **TOUCHED}[Event(event)]) | role)


def concerns(record: Mapping[str, Any]) -> str | None:
    """The client that is to be told of a record; EVERYBODY when all are, None when nobody is."""
    if record.get("event") not in WATCHED:
        return None
    client = record.get("client")
    if isinstance(client, str) and client:
        return client
    return EVERYBODY if record["event"] in TOLD_TO_ALL else None


def list_path(month: date) -> str:
    """The virtual path of a month's list; `month` is any day in it."""
    return f"/{FOLDER}/access/{month:%Y-%m}.json"


def list_body(client: str, through: date, complete: bool, found: Accesses, audit_head: str) -> bytes:
    """The list up to the end of the day `through` (UTC): JSON in UTF-8, keys sorted."""
    facts = {
        "nightsafe_access": VERSION,
        "client": client,
        "month": f"{through:%Y-%m}",
        "through": through.isoformat(),
        "complete": complete,
        "others": found.others,
        "others_total": found.others_total,
        "own_downloads": found.own,
        "own_downloads_total": found.own_total,
        "drills": [{"drill": reason, "time": time, "papers_opened": papers} for reason, (time, papers) in sorted(found.drills.items())],
        "keys": dict(sorted(found.keys.items())),
        "audit_head": audit_head,
    }
    return (json_line(facts, indent=1, sort_keys=True) + "\n").encode()


def collect(records: Iterable[Mapping[str, Any]], clients: Iterable[str]) -> dict[str, Accesses]:
    """The accesses of each of `clients`."""
    found = {client: Accesses() for client in clients}
    for record in records:
        client = concerns(record)
        if client == EVERYBODY:
            told = {name: value for name, value in record.items() if name in _TOLD_OF_ALL} | {"all_clients": True}
            for one in found.values():
                one.take(told)
        elif client in found:
            found[client].take(record)
    return found


def _entry(record: Mapping[str, Any], who: str, what: str) -> dict[str, Any]:
    told = {name: record[name] for name in _TOLD if record.get(name) not in (None, "")}
    if isinstance(record.get("paths"), list):
        told["paths"] = record["paths"]
    return {"time": record["time"], "who": who, "what": what, **told}
