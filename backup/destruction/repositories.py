"""One client's keys out of one key repository: snapshots, packs, and the bucket's old versions.

1. a fresh snapshot of the keys, without the client's, when the newest still has them: the others' keys must not depend on what goes;
2. forget every snapshot that holds a key of the client;
3. prune to the last blob (by default restic leaves an unreferenced key inside a pack that is still used);
4. remove what the bucket keeps of deleted and overwritten objects;
5. look: no snapshot names the client, the index knows none of its key files, the bucket has no old versions of packs.

A key can only be in a pack. What an object lock keeps of the rest (restic's lock files, lists, indexes) holds none and hinders nothing: every try
makes new ones, and under a bucket's default retention they would never come to an end.

Each step may be done twice. While it lasts no backup, no drill and no check of that place runs: one could carry the keys in again, or have them in
its scratch folder.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC

from backup import plan
from backup.bucket import Locked
from backup.repositories.locks import still_place
from backup.repositories.places import Place, place, split_name
from backup.repositories.repository import Writer, full_snapshot_id, prepared
from backup.restic import Restic
from backup.restic.arguments import Repository
from backup.restic.runner import Secrets
from config.errors import CheckFailed, NightsafeError
from config.loading import Installation
from config.words import counted
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Destruction
from gateway.keys.secrets import RoleSecrets


def key_repositories(catalog: Catalog) -> list[str]:
    """Every repository that ever held keys, those of copies included, by the name that the catalog knows: `keys`, `keys@NAME`."""
    return [one.name for one in catalog.repositories() if split_name(one.name)[0] == "keys"]


PACKS = "data/"  # names of objects that hold content; see restic's design document


class UnderLock(CheckFailed):
    """The bucket's object lock keeps packs in which keys may be."""


class StillThere(CheckFailed):
    """Something of the client's keys is in the repository after all."""


@dataclass(frozen=True)
class Shredded:
    """What was done: snapshots forgotten, old versions removed."""

    forgotten: int
    versions: int


@dataclass(frozen=True)
class Means:
    """What a destruction works with."""

    installation: Installation
    catalog: Catalog
    audit: AuditLog
    secrets: RoleSecrets = field(repr=False)
    cancel: threading.Event | None = None


@dataclass(frozen=True)
class Opened:
    """A key repository, with a hand that writes and one that deletes."""

    name: str
    writer: Writer
    saving: Restic
    pruning: Restic
    place: Place = field(repr=False)


def secret_hashes(destruction: Destruction) -> set[str]:
    """The SHA-256 of the client's key files that hold a secret: what must be nowhere."""
    return {str(key["sha256"]) for key in destruction.keys if key["secret"]}


def shred(means: Means, name: str, client: str, hashes: Collection[str]) -> Shredded:
    """Clean repository `name` of the client. `hashes` are the SHA-256 of its key files.

    Raises what stands in the way: Busy, OutOfReach, SettingsError, ResticError, UnderLock, StillThere. Then the repository is pending.
    """
    with still_place(means.installation.folder, split_name(name)[1], "wait for it to end, then destroy again"):
        opened = _open(means, name)
        gone = _forget(means, opened, client)
        opened.pruning.prune_all()
        versions = opened.place.old_versions("keys")
        locked = opened.place.remove_versions(versions)
        _check_unlocked([one for one in locked if f"/{PACKS}" in one.name])
        check_clean(opened.pruning, opened.place, client, hashes)
        return Shredded(gone, len(versions) - len(locked))


def check_clean(restic: Restic, where: Place, client: str, hashes: Collection[str]) -> None:
    """Raises StillThere unless nothing of the client's keys is in the repository, whatever still refers to it."""
    for snapshot in restic.snapshots():
        if any(_owner(path) == client for path in restic.paths(snapshot.id)):
            raise StillThere(f"the snapshot {snapshot.short} of the keys still holds keys of '{client}'", "destroy again")
    if left := restic.holds_blobs(hashes):
        raise StillThere(f"the repository of the keys still holds {counted(len(left), 'key file')} of '{client}' in its packs", "destroy again")
    if versions := where.old_versions("keys", PACKS, limit=1):
        raise StillThere(f"the bucket keeps old versions, such as {versions[0].name}", "remove them, with a credential that may")


def _check_unlocked(packs: Sequence[Locked]) -> None:
    """Raises UnderLock when there are any."""
    if not packs:
        return
    held = [one for one in packs if one.until is None]
    until = max((one.until for one in packs if one.until is not None), default=None)
    ends = "a legal hold of the bucket" if held or until is None else f"an object lock until {until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    raise UnderLock(
        f"deleted packs of keys are under {ends}: {len(packs)}, such as {packs[0].name}",
        "it is tried again by itself; nothing can delete them before, and the key repositories should have no object lock",
    )


def _open(means: Means, name: str) -> Opened:
    repository, copy = split_name(name)
    writer = Writer.create(means.installation, means.secrets, means.cancel, copy)
    writer.place.check()
    saving = prepared(writer, repository, means.catalog, means.audit)
    pruner = place(means.installation, "pruner", means.secrets, copy)
    pruning = Restic(writer.runner, Repository(pruner.url(repository)), Secrets(saving.secrets.password, pruner.environment(repository)))
    return Opened(name, writer, saving, pruning, pruner)


def _forget(means: Means, opened: Opened, client: str) -> int:
    """Steps 1 and 2; how many snapshots went."""
    held = {snapshot.id: opened.pruning.paths(snapshot.id) for snapshot in opened.pruning.snapshots()}
    holders = [snapshot for snapshot, paths in held.items() if any(_owner(path) == client for path in paths)]
    if not holders:
        return 0
    newest = list(held)[-1]
    if newest in holders:
        newest = _save(means.installation, opened)
        held[newest] = opened.pruning.paths(newest)
    _check_nothing_else_is_lost(held, holders, newest, {one.client for one in means.catalog.destructions()})
    means.catalog.replace_keys_snapshots(holders, newest)  # first: killed in between, a drill must not look for what is gone
    opened.pruning.forget_snapshots(holders)
    return len(holders)


def _save(installation: Installation, opened: Opened) -> str:
    root = installation.folder.root.resolve()
    done = opened.saving.backup(
        plan.sources(plan.KEYS, root),
        cwd=root,
        host=installation.settings.backup.host,
        tags=["nightsafe", "destruction"],
        excludes=plan.excludes(root),
    )
    if done.partial:
        raise NightsafeError("the keys of the others could not all be saved, so no older snapshot was forgotten", "look at the folder keys")
    return full_snapshot_id(opened.writer.place, "keys", done.summary.snapshot)


def _check_nothing_else_is_lost(held: dict[str, list[str]], holders: list[str], newest: str, destroyed: Collection[str]) -> None:
    """Raises CheckFailed when a snapshot that is to go has a key that the newest one lacks: it may be the last copy."""
    kept = {path for snapshot, paths in held.items() if snapshot not in holders for path in paths} | set(held[newest])
    lost = sorted({path for snapshot in holders for path in held[snapshot] if _owner(path) and _owner(path) not in destroyed} - kept)
    if lost:
        raise CheckFailed(
            f"older snapshots of the keys hold the last copy of {lost[0].lstrip('/')}" + (f" and {len(lost) - 1} more" if len(lost) > 1 else ""),
            "restore it from the key repository first; nothing was forgotten",
        )


def _owner(path: str) -> str:
    """The client that a file of the key repository belongs to; empty when it is nobody's."""
    parts = path.strip("/").split("/")
    return parts[2] if len(parts) > 3 and parts[:2] == ["keys", "clients"] else ""
