"""Who can reach what, and what changed since it was looked at last. Pure.

A review is a list of entries, one for each person and client, as JSON values; what is compared between two reviews are the fields COMPARED.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from config.words import counted
from gateway.catalog import Client, Person
from gateway.catalog.factors import FACTORS, combinations
from gateway.jail.paths import TOP_FOLDERS
from gateway.jail.permissions import Action, Rights, rights_of
from gateway.review.traces import Traces

COMPARED = ("role", "state", "rights", "factors", "required", "keys", "from", "expires_at")
Entry = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """What the catalog and the settings say. `added` is when a key came, by (person, fingerprint); `required` are the factors that each role has
    to show."""

    people: Sequence[Person]
    clients: Sequence[Client]
    added: Mapping[tuple[str, str], datetime]
    required: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Differences:
    """Between two reviews: entries that came and went, and [old, new] by field of those that changed."""

    came: Sequence[Entry]
    went: Sequence[Entry]
    changed: Sequence[tuple[Entry, Mapping[str, Any]]]

    def __len__(self) -> int:
        return len(self.came) + len(self.went) + len(self.changed)


def entries(known: Known, traces: Traces, now: datetime) -> list[Entry]:
    """All entries by client and person; of people who were off-boarded there are none."""
    found = [entry for person in known.people if person.off_boarded_at is None for entry in _of(person, known, traces, now)]
    return sorted(found, key=lambda entry: (entry["client"], entry["person"]))


def differences(before: Iterable[Entry], after: Iterable[Entry]) -> Differences:
    """What changed from one review to the next."""
    old, new = ({(entry["person"], entry["client"]): entry for entry in side} for side in (before, after))
    changed = [
        (entry, {name: [old[pair].get(name), entry.get(name)] for name in COMPARED if _plain(old[pair], name) != _plain(entry, name)})
        for pair, entry in new.items()
        if pair in old
    ]
    return Differences(
        [entry for pair, entry in new.items() if pair not in old],
        [entry for pair, entry in old.items() if pair not in new],
        [(entry, fields) for entry, fields in changed if fields],
    )


def words(rights: Rights) -> dict[str, str]:
    """What may be done in each top folder, in a word."""
    return {folder: word for folder in TOP_FOLDERS if (word := _word(rights.folders.get(folder, frozenset())))}


def remarks(entry: Entry, now: datetime, unused_days: int = 90, old_days: int = 730) -> list[str]:
    """What a reviewer should look at twice."""
    found = []
    if entry["state"] == "active":
        if entry["expires_at"] is None and entry["role"] != "client":
            found.append("no end")
        if not entry["second_factor"] and entry["role"] != "client":
            found.append("one factor")
        if _age(entry["last_login"] or entry["since"], now) > unused_days:
            found.append(f"unused for {counted(unused_days, 'day')}")
    found += [f"key of {counted(key['age_days'], 'day')}" for key in entry["keys"] if key["age_days"] > old_days]
    return found


def _of(person: Person, known: Known, traces: Traces, now: datetime) -> Iterator[Entry]:
    seen = [client for client in known.clients if person.role == "auditor" or person.sees(client.name)]
    wanted = combinations(person.require, tuple(known.required.get(person.role, ())), totp=person.totp)
    keys = [
        {
            "fingerprint": key.fingerprint,
            "age_days": (now - known.added.get((person.name, key.fingerprint), person.created_at)).days,
            "last_used": traces.keys.get((person.name, key.fingerprint)),
            "expires_at": _text(key.expires_at),
            "from": list(key.allow_from),
        }
        for key in person.keys
    ]
    has = {"publickey": bool(person.keys), "password": person.password_hash is not None, "totp": person.totp}
    added = traces.added.get(person.name)
    for client in seen:
        grant = traces.grants.get((person.name, client.name)) or added
        yield {
            "person": person.name,
            "role": person.role,
            "client": client.name,
            "state": _state(person, client, now),
            "rights": words(rights_of(person.role, client.limits.profile)),
            "since": grant.since if grant else _text(person.created_at),
            "granted_by": grant.by if grant else "",
            "last_used": traces.used.get((person.name, client.name)),
            "last_login": traces.logins.get(person.name),
            "last_address": traces.addresses.get(person.name, ""),
            "factors": [name for name in FACTORS if has.get(name)],
            "required": sorted("+".join(factor for factor in FACTORS if factor in one) for one in wanted),
            "second_factor": all(len(one) > 1 for one in wanted),
            "keys": keys,
            "from": list(person.allow_from),
            "expires_at": _text(person.expires_at),
        }


def _word(actions: frozenset[Action]) -> str:
    if Action.OVERWRITE in actions and Action.READ in actions:
        return "read, write"
    if Action.WRITE in actions:
        return "deposit"
    return "read" if Action.READ in actions else ""


def _state(person: Person, client: Client, now: datetime) -> str:
    if not person.active or not client.active:
        return "suspended"
    return "expired" if person.expires_at is not None and person.expires_at <= now else "active"


def _plain(entry: Entry, name: str) -> Any:
    """A field without what changes by itself: the ages and uses of keys."""
    value = entry.get(name)
    return sorted((key["fingerprint"], str(key.get("expires_at")), str(key.get("from"))) for key in value) if name == "keys" and value else value


def _age(moment: str, now: datetime) -> int:
    return (now - datetime.fromisoformat(moment)).days


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
