"""What receipts, sealed files and the audit log tell of papers and clients."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.age import AgeError, header_mac
from gateway.audit.events import Event
from gateway.audit.read import read
from gateway.audit.signatures import RECEIPT, verify
from gateway.store import Vault

MOST_BYTES = 64 * 1024  # of a receipt, and of its signature
PIECE_BYTES = 1024 * 1024
SIGNATURE_SUFFIX = ".sig"
BESIDE = frozenset({"summaries", "access"})  # folders beside the receipts: what they say is said elsewhere


@dataclass(frozen=True)
class SealedFile:
    """An age file in the vault or the quarantine."""

    client: str
    paper: str
    size: int
    sha256: str
    header_mac: str


@dataclass
class Told:
    """What the audit log tells. `sealed` has every line of a client's paper, oldest first."""

    clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    sealed: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    expired: dict[str, dict[str, Any]] = field(default_factory=dict)
    holds: dict[int, dict[str, Any]] = field(default_factory=dict)
    people: dict[str, bool] = field(default_factory=dict)  # whether somebody may log in, without those who were off-boarded
    revoked: set[tuple[str, str]] = field(default_factory=set)  # kind and value


def told_by(audit: Path) -> Told:
    """Read the whole log. Whether it is genuine is for `nightsafe audit verify` to say."""
    told = Told()
    for line in read(audit):
        event, client, paper = line.get("event"), line.get("client"), line.get("paper")
        if event == Event.CLIENT_ADDED and isinstance(client, str):
            told.clients[client] = {"custody": line.get("custody"), "created_at": line["time"], "active": True}
        elif event in (Event.CLIENT_SUSPENDED, Event.CLIENT_RESUMED) and client in told.clients:
            told.clients[client]["active"] = event == Event.CLIENT_RESUMED
        elif isinstance(client, str) and str(event).startswith("client.destr") and client in told.clients:
            told.clients[client] |= {"active": False, "destroyed": True}
        elif event == Event.PAPER_SEALED and isinstance(paper, str) and isinstance(client, str):
            told.sealed[client][paper].append(line)
        elif event == Event.PAPER_EXPIRED and isinstance(paper, str):
            told.expired[paper] = line
        elif event == Event.PERSON_ADDED and isinstance(line.get("person"), str):
            told.people[line["person"]] = True
        elif event in (Event.PERSON_SUSPENDED, Event.PERSON_RESUMED) and line.get("person") in told.people:
            told.people[line["person"]] = event == Event.PERSON_RESUMED
        elif event == Event.PERSON_OFF_BOARDED:
            told.people.pop(str(line.get("person")), None)
        elif event == Event.CERTIFICATE_REVOKED and isinstance(line.get("kind"), str) and isinstance(line.get("value"), str):
            told.revoked.add((line["kind"], line["value"]))
        elif event in (Event.HOLD_SET, Event.HOLD_RELEASED) and isinstance(line.get("hold"), int):
            told.holds.setdefault(line["hold"], {})[str(event)] = line
    return told


def receipts_of(jail: Path, public: str) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """(path, facts) of every receipt in a client's jail; None for one that is damaged, or that we have not signed."""
    for folder, folders, names in os.walk(jail / "receipts"):
        folders[:] = sorted(set(folders) - BESIDE)
        for name in sorted(names):
            if name.endswith(".json"):
                path = Path(folder, name)
                yield path, _facts(path, public)


def sealed_files(vault: Vault) -> Iterator[SealedFile | Path]:
    """Every file of a vault, hashed; the path of one that is no age file."""
    for client, paper, path in vault.papers():
        try:
            mac = header_mac(vault.header(client, paper)).hex()
        except AgeError:
            yield path
            continue
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
        yield SealedFile(client, paper, size, digest.hexdigest(), mac)


def _facts(path: Path, public: str) -> dict[str, Any] | None:
    try:
        body, signature = (_read(one) for one in (path, path.with_name(path.name + SIGNATURE_SUFFIX)))
        facts = json.loads(body)
        known = isinstance(facts, dict) and verify(public, RECEIPT, body, signature.decode("ascii"))
    except (OSError, ValueError, RecursionError):
        return None
    return facts if known else None


def _read(path: Path) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return file.read(MOST_BYTES)
