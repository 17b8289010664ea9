"""What the audit log knows of logins: who gave them, since when, and when they were last used. Pure; reads the log through once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.audit.events import Event


@dataclass(frozen=True)
class Grant:
    """When somebody came to see a client, and by whom; as in the log."""

    since: str
    by: str


@dataclass
class Traces:
    """Times are RFC 3339, as in the log. `grants` and `used` go by (person, client), `keys` by (person, fingerprint)."""

    added: dict[str, Grant] = field(default_factory=dict)
    grants: dict[tuple[str, str], Grant] = field(default_factory=dict)
    logins: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    used: dict[tuple[str, str], str] = field(default_factory=dict)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)


def traces(records: Iterable[Mapping[str, Any]]) -> Traces:
    """Everything of `records`, oldest first."""
    found = Traces()
    for record in records:
        person = record.get("person")
        if not isinstance(person, str):
            continue
        match record.get("event"):
            case Event.PERSON_ADDED:
                _added(found, person, record)
            case Event.PERSON_EDITED:
                _edited(found, person, record)
            case Event.PERSON_OFF_BOARDED:
                for pair in [pair for pair in found.grants if pair[0] == person]:
                    del found.grants[pair]
            case Event.LOGIN_ACCEPTED:
                found.logins[person] = record["time"]
                found.addresses[person] = str(record.get("address", ""))
                if record.get("fingerprint"):
                    found.keys[person, str(record["fingerprint"])] = record["time"]
        client = record.get("client")
        if record.get("role") == "gateway" and client and isinstance(client, str):
            found.used[person, client] = record["time"]
    return found


def _added(found: Traces, person: str, record: Mapping[str, Any]) -> None:
    grant = Grant(record["time"], str(record.get("by", "")))
    found.added[person] = grant
    clients = record.get("clients")
    for client in [record.get("client"), *(clients if isinstance(clients, list) else [])]:
        if isinstance(client, str) and client:
            found.grants[person, client] = grant


def _edited(found: Traces, person: str, record: Mapping[str, Any]) -> None:
    changed = record.get("changed")
    match changed.get("clients") if isinstance(changed, Mapping) else None:
        case [list(before), list(after)]:
            for client in after:
                if client not in before:
                    found.grants[person, str(client)] = Grant(record["time"], str(record.get("by", "")))
            for client in before:
                if client not in after:
                    found.grants.pop((person, str(client)), None)
