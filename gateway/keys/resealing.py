"""Sealing the keyring anew: to another master, to one more recovery key, to a master in the place of one that was lost. And what follows from a
new key of ingest.

Each change is a road of steps of which every one may be the last: killed anywhere, the master that is in its place opens everything, and the
same command, run again, goes on. While the master changes, `master.recipient` names both, the new one first:

    1. the new master is kept beside the old one; both are named               everything opens with the old one
    2. every file is sealed to both                                            … with the old one
    3. the new master takes the old one's place, by one rename                 … with the new one, and with the old one
    4. every file is sealed to the new one alone; then it alone is named       … with the new one

Opening a file to seal it anew keeps its time: the report tells ages by it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from config.errors import SettingsError, UsageError
from config.files import TEMPORARY_PREFIX, fsync_folder, make_folder, write_whole
from config.folder import DataFolder
from gateway.age import AgeError, Identity, Recipient, read_header, seal_bytes, unwrap
from gateway.keys.archive_password import FILE as ARCHIVE_PASSWORD
from gateway.keys.errors import KeyDamaged
from gateway.keys.generations import SUFFIXES, Generation, generations, make_generation, recipient_of, unsealed
from gateway.keys.hostkeys import NIST_HOST_KEY
from gateway.keys.keyring import HOST_KEY, Keyring
from gateway.keys.master import MasterSource
from gateway.keys.pieces import read_piece, replace_piece, write_new
from gateway.store import Spool, SpoolDamaged, SpoolGone


@dataclass(frozen=True)
class MasterChange:
    """How far the change of the master has come: `done`, or the new one is still to be put in the place of the old one by hand."""

    old: Recipient | None
    new: Recipient
    done: bool
    files: int


def rotate_master(keyring: Keyring, source: MasterSource, place: MasterSource | None, tell: Callable[[MasterChange], None]) -> MasterChange:
    """Begin, or go on with, the change of the master. The new one is made at `place`, or beside the present one when the source can do that.

    `tell` is called before the last word is written, so that a change that is done is one that was recorded. Nothing that holds the old master
    in memory may run. Raises SettingsError, KeyDamaged, Busy.
    """
    with keyring.changing():
        present = source.load()
        listed = keyring.master_recipients
        if present.recipient not in listed:
            raise SettingsError("the master at hand is not the one of this installation", "look at the section keys of the settings")
        if present.recipient == listed[-1]:
            coming = (place or source).make() if place else source.prepare()
            if coming.recipient == present.recipient:
                raise UsageError("that file holds the present master", "name a file that does not exist yet: the new master is made in it")
            _name(keyring, [coming.recipient, present.recipient])
            count = _reseal_all(keyring, present, keyring.master_recipients)
            if place:
                return MasterChange(present.recipient, coming.recipient, False, count)
            source.switch()
            present, listed = coming, keyring.master_recipients
        count = _reseal_all(keyring, present, [present.recipient])
        done = MasterChange(listed[-1] if len(listed) > 1 else None, present.recipient, True, count)
        tell(done)
        _name(keyring, [present.recipient])
        return done


def add_recovery(keyring: Keyring, recipient: Recipient, master: Identity, recovery: Identity | None) -> int:
    """Seal everything to one more recovery key; doing it twice does no harm. How many keys are left that only a `recovery` identity could have
    sealed anew. Raises UsageError when `recipient` is not fit, SettingsError when `recovery` is none of this installation."""
    with keyring.changing():
        listed = keyring.recovery_recipients
        if recipient in keyring.master_recipients:
            raise UsageError("that is the master's public key", "make a recovery key of its own, on another machine: age-keygen")
        if recovery is not None:
            check_recovery(keyring, recovery)
        if recipient not in listed:
            write_whole(keyring.recovery_file, "".join(f"{one}\n" for one in (*listed, recipient)).encode())
        _reseal_all(keyring, master, keyring.master_recipients)
        closed = list(_files(keyring.folder.keys, SUFFIXES["recovery"]))
        for path in closed:
            if recovery is not None:
                _reseal(path, recovery, keyring.recovery_recipients)
    return 0 if recovery is not None else len(closed)


def check_recovery(keyring: Keyring, identity: Identity) -> None:
    """Raises SettingsError when `identity` is no recovery identity of this installation."""
    if identity.recipient not in keyring.recovery_recipients:
        raise SettingsError("that identity is no recovery identity of this installation", "take the line AGE-SECRET-KEY-1… of part A of the kit")


def replace_lost_master(keyring: Keyring, recovery: Identity, master: Recipient) -> int:
    """Seal everything to a new `master`, opened by a `recovery` identity: the old master is gone. How many files.

    What the old one alone opened goes: keys of ingest, so papers that were not sealed yet are lost; the keyring gets a new one. Killed anywhere,
    run it again: the recovery identity opens what was sealed anew, too. Raises what `check_recovery` raises.
    """
    with keyring.changing():
        check_recovery(keyring, recovery)
        if master in keyring.recovery_recipients:
            raise UsageError("that is a recovery key", "let a new master be made")
        folder = keyring.folder.ingest_keys
        found = generations(folder)
        if not found or keyring.master_recipients != [master]:
            make_generation(folder, Generation(found[0].number + 1 if found else 1, "managed"), [master])
            for generation in found:
                generation.file(folder).unlink(missing_ok=True)
                (folder / f"{generation.number}.recipient").unlink(missing_ok=True)
        everybody = [master, *keyring.recovery_recipients]
        paths = [path for path in _files(keyring.folder.keys, ".age") if not path.name.endswith(SUFFIXES["recovery"])]
        for path in paths:
            _reseal(path, recovery, [*([keyring.ingest_recipient] if path.name == ARCHIVE_PASSWORD else []), *everybody])
        _name(keyring, [master])
    return len(paths)


def set_spool_aside(folder: DataFolder) -> Path | None:
    """Take what no key opens any more out of the way of new uploads; where it is, or None when there is nothing."""
    spool = folder.spool_landed.parent
    closed = None
    if any(path.is_dir() and any(path.iterdir()) for path in (folder.spool_partial, folder.spool_landed)):
        closed = spool.with_name(f"{spool.name}.closed-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        os.rename(spool, closed)
    for path in (folder.spool_partial, folder.spool_landed):
        make_folder(path)
    return closed


def put_back_host_keys(keyring: Keyring, opener: Identity) -> None:
    """Lay the host keys, which backups carry sealed alone, in clear where the gateway reads them; those that are there stay."""
    for name, path in ((HOST_KEY, keyring.folder.host_key), (NIST_HOST_KEY, keyring.folder.nist_host_key)):
        if keyring.has_secret(name) and not path.exists():
            write_new(path, keyring.open_secret(name, opener))


def retire_ingest_keys(keyring: Keyring, identities: Sequence[Identity], spool: Spool, tell: Callable[[int], None]) -> tuple[list[int], list[int]]:
    """Destroy every key of ingest but the newest that nothing needs any more: no paper in the spool, no archive password that a killed renewal
    left to it. Generations that were destroyed, and that are still needed. One that is not among `identities` is kept. `tell` is called before
    each is destroyed."""
    folder = keyring.folder.ingest_keys
    if len(generations(folder)) < 2:
        return [], []
    with keyring.changing():
        held = {identity.recipient: identity for identity in identities}
        newest, *olds = generations(folder)
        older = {generation: held.get(recipient_of(folder, generation)) for generation in olds}
        needed = _needed(older, spool) | _needed_for_passwords(older, held.get(recipient_of(folder, newest)), keyring)
        for generation in older:
            if generation not in needed:
                tell(generation.number)
                generation.file(folder).unlink(missing_ok=True)
                (folder / f"{generation.number}.recipient").unlink(missing_ok=True)
                fsync_folder(folder)
    return sorted(one.number for one in older if one not in needed), sorted(one.number for one in needed)


def _needed(identities: dict[Generation, Identity | None], spool: Spool) -> set[Generation]:
    """Which of them open something in the spool; all, where that cannot be told."""
    needed = {generation for generation, identity in identities.items() if identity is None}
    for paper in spool.papers():
        try:
            _, header = spool.header(paper)
        except SpoolGone:
            continue  # sealed or expired meanwhile
        except SpoolDamaged:
            return set(identities)
        needed |= {generation for generation, identity in identities.items() if identity and _opens(header, identity)}
    return needed


def _needed_for_passwords(identities: dict[Generation, Identity | None], newest: Identity | None, keyring: Keyring) -> set[Generation]:
    """Which of them open a client's archive password that the newest does not."""
    needed: set[Generation] = set()
    for path in _files(keyring.folder.keys, ARCHIVE_PASSWORD):
        try:
            header = read_header(io.BytesIO(read_piece(path)))
        except (OSError, AgeError):
            continue  # gone meanwhile, or damaged: no key opens it
        if newest is None or not _opens(header, newest):
            needed |= {generation for generation, identity in identities.items() if identity and _opens(header, identity)}
    return needed


def reseal_archive_passwords(keyring: Keyring, master: Identity) -> int:
    """Seal the passwords of clients' archives to the newest key of ingest, after there is a new one. How many. Raises KeyDamaged."""
    with keyring.changing():
        found = list(_files(keyring.folder.keys, ARCHIVE_PASSWORD))
        for path in found:
            _reseal(path, master, [keyring.ingest_recipient, *keyring.sealed_to])
    return len(found)


def _opens(header: bytes, identity: Identity) -> bool:
    try:
        unwrap(header, [identity])
    except AgeError:
        return False
    return True


def _name(keyring: Keyring, recipients: Sequence[Recipient]) -> None:
    write_whole(keyring.master_file, "".join(f"{recipient}\n" for recipient in recipients).encode())


def _reseal_all(keyring: Keyring, opener: Identity, masters: Sequence[Recipient]) -> int:
    """Everything that a master opens: keys and secrets to `masters` and recovery, ingest's to `masters` alone. How many files.

    What killed runs left half-written goes: it is sealed to those of before, and whoever writes here holds the keyring.
    """
    count = 0
    for left in (path for root in (keyring.folder.keys, keyring.folder.ingest_keys) for path in root.rglob(f"{TEMPORARY_PREFIX}*")):
        left.unlink(missing_ok=True)
    everybody = [*masters, *keyring.recovery_recipients]
    for root, recipients in ((keyring.folder.keys, everybody), (keyring.folder.ingest_keys, list(masters))):
        for path in _files(root, ".age"):
            if not path.name.endswith(SUFFIXES["recovery"]):
                also = [keyring.ingest_recipient] if path.name == ARCHIVE_PASSWORD and generations(keyring.folder.ingest_keys) else []
                _reseal(path, opener, [*also, *recipients])
                count += 1
    return count


def _files(root: Path, suffix: str) -> Iterator[Path]:
    yield from (path for path in sorted(root.rglob(f"*{suffix}")) if not path.name.startswith(TEMPORARY_PREFIX) and path.is_file())


def _reseal(path: Path, opener: Identity, recipients: Sequence[Recipient]) -> None:
    try:
        data = read_piece(path)
    except OSError as error:
        raise KeyDamaged(f"the key {path} cannot be read: {error.strerror}", "restore it from a backup, then run the command again") from error
    replace_piece(path, seal_bytes(unsealed(data, opener, path), recipients))
