"""Compares the keys that came back from the key repository with the live keyring: without them nothing else can be opened."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backup.drill.judge import Cause, Finding
from gateway.catalog.rows import Client, Run
from gateway.keys.generations import SUFFIXES

MAX_KEY_BYTES = 64 * 1024
RECIPIENTS = ("master.recipient", "recovery.recipients")


@dataclass(frozen=True)
class KeyFile:
    """A file of the keyring, by its path below `keys/`."""

    name: str
    client: str
    data: bytes


def read_keys(keys: Path) -> dict[str, KeyFile]:
    """Every file of `keys`/clients, and the recipients that all of them are sealed to; links are not followed, what is too large is cut."""
    found = {}
    for name in (*RECIPIENTS, *_client_files(keys / "clients")):
        data = _read(keys / name)
        if data is not None:
            found[name] = KeyFile(name, name.split("/")[1] if "/" in name else "", data)
    return found


def compare_keys(
    live: dict[str, KeyFile], restored: dict[str, KeyFile], listed: Iterable[Client], known: Iterable[Client], *, resealed: bool = False
) -> list[Finding]:
    """What is wrong with the restored keys. Pure. `listed` are the clients of the snapshot's dump, `known` those of the live catalog.

    A key that neither the snapshot nor its dump has is newer than they are. `resealed`: since the snapshot, everything was sealed anew, so that
    sealed files and the recipients they are sealed to differ; public halves do not.
    """
    findings = []
    for name, file in sorted(restored.items()):
        if name not in live:
            findings.append(_finding(file.client, name, Cause.NOT_IN_LIVE, "the live keyring has lost it"))
        elif live[name].data != file.data and not (resealed and (name.endswith(".age") or name in RECIPIENTS)):
            findings.append(_finding(file.client, name, Cause.KEY_DIFFERS, ""))
    for client in sorted(listed, key=lambda one: one.name):
        for key in client.keys:
            names = [f"clients/{client.name}/{key.generation}{suffix}" for suffix in SUFFIXES.values()]
            if not any(name in restored for name in names):
                findings.append(_finding(client.name, next((name for name in names if name in live), names[0]), Cause.KEY_MISSING, ""))
    findings += [_finding("", name, Cause.KEY_MISSING, "") for name in RECIPIENTS if name not in restored]
    return findings + _recipients_that_differ(listed, known)


def _recipients_that_differ(listed: Iterable[Client], known: Iterable[Client]) -> list[Finding]:
    now = {(client.name, key.generation): key.recipient for client in known for key in client.keys}
    findings = []
    for client in listed:
        for key in client.keys:
            there = now.get((client.name, key.generation))
            if there != key.recipient:
                why = "the dump and the live catalog name different recipients" if there else "the live catalog does not know this generation"
                findings.append(_finding(client.name, f"clients/{client.name}/{key.generation}.age", Cause.KEY_DIFFERS, why))
    return findings


def was_resealed(live: dict[str, KeyFile], change: Run | None, snapshot_at: datetime) -> bool:
    """Whether `change`, the newest that was made to the master or the recovery keys, is younger than the snapshot and names the live ones."""
    if change is None or change.started_at <= snapshot_at:
        return False
    named = {"master.recipient": change.detail.get("master"), "recovery.recipients": change.detail.get("recovery")}
    return all(name in live and live[name].data.decode("ascii", errors="replace").split() == recipients for name, recipients in named.items())


def count_keys(files: Sequence[str] | dict[str, KeyFile]) -> int:
    """How many of them are identities."""
    return sum(name.endswith(".age") for name in files)


def _finding(client: str, name: str, cause: Cause, detail: str) -> Finding:
    return Finding("", client, f"keys/{name}", 0, cause, detail)


def _client_files(clients: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(clients):
        folders.sort()
        for name in sorted(names):
            relative = (Path(folder) / name).relative_to(clients.parent).as_posix()
            yield os.fsencode(relative).decode(errors="backslashreplace")


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(MAX_KEY_BYTES)
    except OSError:
        return None
