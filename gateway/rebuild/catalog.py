"""Writing a catalog anew, beside the place of the old one, and putting it there whole."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from config.console import Progress
from config.errors import Busy, NightsafeError, UsageError
from config.files import fsync_folder
from config.folder import DataFolder
from config.roles import SCHEDULERS, instance_names, role_state, scheduler_name
from gateway.audit.events import Event
from gateway.catalog import Catalog, Client, ClientKey
from gateway.catalog.access import RevocationKind
from gateway.catalog.rows import Hold
from gateway.jail.refused import Refused
from gateway.jail.tree import Tree
from gateway.keys.keyring import RECEIPT_SIGNING, Keyring
from gateway.rebuild.judge import Evidence, judge
from gateway.rebuild.sources import SealedFile, Told, receipts_of, sealed_files, told_by
from gateway.store import Vault

ROLES = ("gateway", "keyd", "scheduler", *map(scheduler_name, SCHEDULERS))  # and every process of ingest
ENDS = ("", "-wal", "-shm")
NEVER = (
    "people's SSH keys, passwords, second factors and staff assignments: add the people again",
    "quotas and limits of clients: set them again",
    "backup, drill and restore runs, and which repositories are ours: the next backup takes them over",
    "records of destroyed clients: their certificates are in the evidence",
    "which certificates for logins were issued; those that were revoked stay so",
    "what manifests wait for: their receipts stay as they are, until a client sends one again",
    "what people decided about papers that are held still: decide again",
)


@dataclass
class Rebuilt:
    """Counts of what came back, and sentences on what did not. `old` is where the catalog that was there lies now."""

    clients: int = 0
    papers: int = 0
    holds: int = 0
    old: Path | None = None
    lost: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    people: list[str] = field(default_factory=list)


def running_roles(folder: DataFolder) -> list[str]:
    """The roles that hold the catalog open at this moment."""
    return [role for role in (*ROLES, *instance_names(folder, "ingest")) if role_state(folder, role) is not None]


def rebuild(folder: DataFolder, progress: Progress, *, over: bool) -> Rebuilt:
    """Make the catalog anew. Raises Busy while a role runs, UsageError when there is a catalog and not `over`; then nothing was changed."""
    if running := running_roles(folder):
        raise Busy(f"these roles run: {', '.join(running)}", "stop them first: 'nightsafe up', or systemctl stop nightsafe.target")
    if folder.catalog.exists() and not over:
        raise UsageError(f"there is a catalog: {folder.catalog}", "with --over it is set aside, and a new one made")
    result = Rebuilt()
    with _beside(folder.catalog) as made:
        _fill(folder, made, result, progress)
        result.old = _set_aside(folder.catalog)
        made.dump(folder.catalog)
    return result


def _fill(folder: DataFolder, catalog: Catalog, result: Rebuilt, progress: Progress) -> None:
    told = told_by(folder.audit)
    result.people = [name if active else f"{name} (suspended)" for name, active in sorted(told.people.items())]
    for kind, value in sorted(told.revoked):
        catalog.revoke_certificate(cast(RevocationKind, kind), value)
    keyring = Keyring(folder)
    vault, quarantine = (_by_client(Vault(root), result) for root in (folder.vault, folder.quarantine))
    names = sorted({*told.clients, *vault, *(path.name for path in folder.jails.glob("*") if path.is_dir())})
    for done, name in enumerate(names, 1):
        client = _client(name, keyring, told)
        if client is None:
            result.lost.append(f"the client {name}: it has no key here any more, so nothing of it can be sealed or opened; its papers are left out")
            continue
        catalog.put_back_client(client)
        result.clients += 1
        found = judge(_evidence(folder, name, keyring, told, vault[name], quarantine[name], result))
        catalog.put_back_papers(found.papers)
        result.papers += len(found.papers)
        result.lost += [f"{name}: {line}" for line in found.lost]
        result.unexplained += [f"{name}: {line}" for line in found.unexplained]
        progress.update(done, len(names), name)
    holds = [hold for hold in _holds(told) if catalog.client(hold.client) is not None]
    catalog.put_back_holds(holds)
    result.holds = len(holds)


def _evidence(
    folder: DataFolder,
    client: str,
    keyring: Keyring,
    told: Told,
    vault: dict[str, SealedFile],
    quarantine: dict[str, SealedFile],
    result: Rebuilt,
) -> Evidence:
    receipts = {}
    for path, facts in receipts_of(folder.jail(client), keyring.public_half(RECEIPT_SIGNING)):
        if facts is None or facts.get("client") != client or not isinstance(facts.get("paper"), str):
            result.unexplained.append(f"{client}: {path.relative_to(folder.jails)} is no receipt that we have signed for this client")
        else:
            receipts[facts["paper"]] = facts
    newest = keyring.client_recipient(client).generation
    return Evidence(client, receipts, vault, quarantine, told.sealed[client], told.expired, _times(folder, client), newest)


def _times(folder: DataFolder, client: str) -> dict[str, float]:
    """The times that the client gave its papers, as far as names are left."""
    try:
        with Tree(folder.jail(client)) as tree:
            return {pointer.paper: mtime for _, pointer, mtime in tree.pointers()}
    except Refused:
        return {}


def _client(name: str, keyring: Keyring, told: Told) -> Client | None:
    try:
        keys = keyring.client_keys(name)
    except NightsafeError:
        return None
    known = told.clients.get(name, {})
    if not keys:
        return None
    deposits = known.get("custody") == "deposit-only" or any(keyring.client_kind(name, key.generation) != "managed" for key in keys)
    at = datetime.fromisoformat(known["created_at"]) if "created_at" in known else datetime.now(UTC)
    made = tuple(ClientKey(key.generation, str(key.recipient), at) for key in sorted(keys, key=lambda key: key.generation))
    return Client(name, "deposit-only" if deposits else "managed", None, bool(known.get("active", True)), at, made)


def _holds(told: Told) -> Iterator[Hold]:
    for number, lines in sorted(told.holds.items()):
        order, release = lines.get(Event.HOLD_SET), lines.get(Event.HOLD_RELEASED)
        if order is None:
            continue
        released = (datetime.fromisoformat(release["time"]), release.get("by"), release.get("reason")) if release else (None, None, None)
        known = (order.get("path"), order.get("paper"), str(order.get("reason")), str(order.get("by")), datetime.fromisoformat(order["time"]))
        yield Hold(number, str(order.get("client")), *known, *released)


def _by_client(vault: Vault, result: Rebuilt) -> dict[str, dict[str, SealedFile]]:
    found: dict[str, dict[str, SealedFile]] = defaultdict(dict)
    for file in sealed_files(vault):
        if isinstance(file, SealedFile):
            found[file.client][file.paper] = file
        else:
            result.unexplained.append(f"{file}: no age file")
    return found


@contextmanager
def _beside(path: Path) -> Iterator[Catalog]:
    """A new catalog under a temporary name, which goes afterwards."""
    beside = path.with_name(path.name + ".rebuilt")
    try:
        _unlink(beside)
        with Catalog.create(beside) as made:
            yield made
    finally:
        _unlink(beside)


def _unlink(path: Path) -> None:
    for end in ENDS:
        path.with_name(path.name + end).unlink(missing_ok=True)


def _set_aside(path: Path) -> Path | None:
    """Give the catalog that is there another name; the write-ahead log with it."""
    if not path.exists():
        for end in ENDS[1:]:
            path.with_name(path.name + end).unlink(missing_ok=True)  # of a catalog that was deleted by hand
        return None
    old = path.with_name(f"{path.name}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    for end in reversed(ENDS):
        there = path.with_name(path.name + end)
        if there.exists():
            there.rename(old.with_name(old.name + end))
    fsync_folder(path.parent)
    return old
