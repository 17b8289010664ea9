"""A data folder out of a recovery kit: what is done when a machine is lost, and what the clean-room drill rehearses.

    restic restores papers and keys → the keys are sealed to a new master → the dump becomes the catalog → the folders that no backup carries

Nothing of the old machine is needed, and nothing but ciphertext, names and keys is written.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from backup.drill.lineage import is_of_its_run
from backup.kit.kit import WholeKit
from backup.plan import found_dump
from backup.restic import Limits, Restic, Snapshot
from backup.restic.runner import Runner
from config.console import Progress
from config.errors import CheckFailed, OutOfReach, UsageError
from config.files import fsync_folder, make_folder
from config.folder import DataFolder
from config.loading import Installation, check_version, load_settings
from config.words import counted
from gateway.age import Identity, Recipient
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.keys.keyring import Keyring
from gateway.keys.master import master_source
from gateway.keys.resealing import put_back_host_keys, replace_lost_master

UNFINISHED = ".unfinished"  # at the end of the name of a folder that is not whole yet
FROM_KEYS = ("clients", "master.recipient", "recovery.recipients")  # what the repository of the keys has of `keys/`


@dataclass(frozen=True)
class Revived:
    """What came back: the newest snapshot of the papers, and what its catalog knows."""

    folder: DataFolder
    snapshot: Snapshot
    clients: int
    papers: int


def revive(kit: WholeKit, target: Path, program: str, person: str, progress: Progress, at: datetime | None = None) -> Revived:
    """Make the data folder `target`, which must not exist yet, as it was in the newest snapshot (or the newest at or before `at`), with a new
    master where its settings say. `program` is restic.

    What an interrupted one restored is taken up again. Raises UsageError (target, wrong kit), CheckFailed (the backup is bad, or the newest older
    than what the kit knows of), OutOfReach.
    """
    if os.path.lexists(target) and not _is_empty(target):
        raise UsageError(f"{target} is not empty", "name a folder that does not exist yet; nothing was touched")
    kit.probe()
    half = target.with_name(target.name + UNFINISHED)
    with _disk(half):
        make_folder(half)
        with _scratch(half) as scratch:
            runner = Runner(program, scratch, Limits(7 * 24 * 3600.0, 900.0))
            papers, keys = kit.open("papers", runner, scratch / "cache"), kit.open("keys", runner, scratch / "cache")
            progress.update(0, 1, "looking for the snapshots")
            snapshot, keys_snapshot = _newest(papers, at), _newest(keys, None)
            if at is None:
                _check_age(snapshot, kit.newest)
            progress.update(0, 1, "restoring the sealed keys")
            _fetch(keys, keys_snapshot, scratch / "restored")
            progress.update(0, 1, "restoring the sealed papers")
            _fetch(papers, snapshot, half)
            progress.update(0, 1, "sealing the keys to a new master")
            folder = DataFolder(half)
            take_keys(folder, scratch / "restored" / "keys")
        check_version(folder)
        # where the master is, is told relative to the folder under its own name: it lies beside it
        master = master_source(Installation(DataFolder(target), load_settings(folder.settings))).make()
        put_together(folder, kit.identity, master.recipient)
        put_back_host_keys(Keyring(folder), kit.identity)
        try:
            _check_lineage(snapshot, folder)
        except CheckFailed:
            shutil.rmtree(half)  # what is restored next, of another snapshot, must not be mixed with it
            raise
        with AuditLog(folder.audit, "ops") as log:
            log.append(Event.INSTALLATION_RESTORED, durable=True, person=person, snapshot=snapshot.id, taken_at=snapshot.time.isoformat())
        os.rename(half, target)
        fsync_folder(target.parent)
    with Catalog.open(DataFolder(target).catalog) as catalog:
        return Revived(DataFolder(target), snapshot, len(catalog.clients()), catalog.count_papers(state="accepted")[0])


def take_keys(folder: DataFolder, restored: Path) -> None:
    """Lay the keys out of their own repository (`restored` is its folder `keys`) into a data folder. Raises CheckFailed when they are not there."""
    make_folder(folder.keys)
    for name in FROM_KEYS:
        source, target = restored / name, folder.keys / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        elif source.is_file() and not source.is_symlink():
            shutil.copy2(source, target)
        elif name != "clients":
            raise CheckFailed(f"the backup of the keys has no {name}", "take an older snapshot, or another place of the backups")


def put_together(folder: DataFolder, recovery: Identity, master: Recipient) -> None:
    """Make a working data folder of a restored tree whose keys are in their place already: keys sealed to `master`, catalog, empty folders. The
    host keys stay sealed.

    Raises SettingsError when `recovery` is none of its recovery identities, KeyDamaged, CheckFailed.
    """
    for made in (folder.spool_partial, folder.spool_landed, folder.quarantine, folder.vault, folder.jails, folder.audit, folder.evidence):
        make_folder(made)
    for made in (folder.dump, folder.run, folder.cache):
        make_folder(made)
    os.chmod(folder.root, 0o700)
    replace_lost_master(Keyring(folder), recovery, master)
    dump = found_dump(folder.dump)
    if dump is None:
        raise CheckFailed("the catalog did not come back from the backup", "take an older snapshot: --at TIME")
    shutil.copyfile(dump, folder.catalog)
    os.chmod(folder.catalog, 0o600)
    Catalog.adopt(folder.catalog).close()


def _newest(source: Restic, at: datetime | None) -> Snapshot:
    there = [one for one in source.snapshots() if at is None or one.was_there(at)]
    if not there:
        raise UsageError("there is no snapshot" + (" of that time or before" if at else ""), "take a later time, or another place of the backups")
    return there[-1]


def _check_age(snapshot: Snapshot, known: datetime | None) -> None:
    if known is not None and snapshot.time < known:
        raise CheckFailed(
            f"the newest snapshot is of {snapshot.time:%Y-%m-%d %H:%M} UTC, but when part B was printed there was one of {known:%Y-%m-%d %H:%M} UTC",
            f"newer ones are gone; try another place of the backups, or take it: --at {snapshot.time + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}",
        )


def _check_lineage(snapshot: Snapshot, folder: DataFolder) -> None:
    with Catalog.open(folder.catalog) as catalog:
        if not is_of_its_run(snapshot, catalog):
            raise CheckFailed(
                f"snapshot {snapshot.short} of {snapshot.time:%Y-%m-%d %H:%M} UTC is not what it says: its catalog is that of another backup",
                "somebody passed an old one off as new; take the newest before it: --at TIME",
            )


def _fetch(source: Restic, snapshot: Snapshot, target: Path) -> None:
    faults = source.restore(snapshot.id, target).faults
    if faults:
        raise CheckFailed(
            f"{counted(len(faults), 'thing')} did not come back from snapshot {snapshot.short}, such as {faults[0].item}: {faults[0].message[:200]}",
            "take an older snapshot (--at TIME), another place of the backups, or the kit's script, which brings what there is",
        )


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


@contextmanager
def _scratch(half: Path) -> Iterator[Path]:
    """A folder for keys, cache and temporary files, beside what is made."""
    scratch = half.with_name(half.name + "-scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    make_folder(scratch)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutOfReach(f"{folder} cannot be written: {error.strerror or error}", "is the disk full? make space, and run it again") from error
