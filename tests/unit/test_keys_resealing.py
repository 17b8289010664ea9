"""Renewing keys: stopped before any step that changes the disk, the master in its place opens everything, and running again ends it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gateway.keys.master as master_module
import gateway.keys.resealing as resealing
from config.errors import Busy, SettingsError, UsageError
from config.folder import DataFolder
from gateway.age import AgeError, Identity, NoMatchError, open_bytes
from gateway.keys.archive_password import archive_password, set_archive_password
from gateway.keys.errors import KeyMismatch
from gateway.keys.hostkeys import make_nist_host_key
from gateway.keys.keyring import Keyring
from gateway.keys.master import KeptInFile
from gateway.keys.resealing import MasterChange, add_recovery, reseal_archive_passwords, retire_ingest_keys, rotate_master
from gateway.store import Spool, new_paper_id

RECOVERY = Identity.generate()


class Killed(BaseException):
    """Stands for a kill: nothing catches it, and nothing cleans up after it."""


def opened(root: Path) -> tuple[Keyring, KeptInFile]:
    folder = DataFolder(root / "data")
    return Keyring(folder), KeptInFile(root / "master.key", folder)


def build(root: Path) -> tuple[Keyring, KeptInFile]:
    keyring, source = opened(root)
    Keyring.create(keyring.folder, source.make().recipient, RECOVERY.recipient)
    keyring.add_client("acme")
    keyring.add_deposit_client("closed", None)
    keyring.seal_totp("ann", b"seed")
    return keyring, source


def opened_by(keyring: Keyring, identity: Identity) -> set[str]:
    """What it opens, by name."""
    found = set()
    for root in (keyring.folder.keys, keyring.folder.ingest_keys):
        for path in root.rglob("*.age"):
            try:
                open_bytes(path.read_bytes(), [identity])
            except NoMatchError:
                continue
            found.add(str(path.relative_to(keyring.folder.root)))
    return found


def everything(keyring: Keyring) -> set[str]:
    """What a master has to open."""
    files = {path for root in (keyring.folder.keys, keyring.folder.ingest_keys) for path in root.rglob("*.age")}
    return {str(path.relative_to(keyring.folder.root)) for path in files if ".recovery." not in path.name}


def rotate(keyring: Keyring, source: KeptInFile, place: KeptInFile | None = None) -> tuple[MasterChange, list[MasterChange]]:
    told: list[MasterChange] = []
    return rotate_master(keyring, source, place, told.append), told


def test_the_master_is_changed(tmp_path: Path) -> None:
    keyring, source = build(tmp_path)
    old, before = source.load(), {path: path.stat().st_mtime_ns for path in keyring.folder.keys.rglob("*.age")}
    change, told = rotate(keyring, source)
    new = source.load()
    assert change.done and told == [change] and (change.old, change.new) == (old.recipient, new.recipient)
    assert opened_by(keyring, new) == everything(keyring) and len(everything(keyring)) > 10
    assert opened_by(keyring, old) == set()
    assert everything(keyring) - opened_by(keyring, RECOVERY) == {"ingest-keys/1.age"}
    assert keyring.master_recipients == [new.recipient]
    assert {path: path.stat().st_mtime_ns for path in keyring.folder.keys.rglob("*.age")} == before, "ages are told by these"
    assert sorted(os.listdir(tmp_path)) == ["data", "master.key"]
    assert keyring.open_totp("ann", new) == b"seed"


def steps_killed(monkeypatch: pytest.MonkeyPatch, stop: int, work: Callable[[], Any]) -> bool:
    """Run `work`, killed before its step number `stop`; False when it came to its end first."""
    done = 0

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: Any) -> None:
            nonlocal done
            if done == stop:
                raise Killed
            done += 1
            real(*arguments)

        return step

    with monkeypatch.context() as patch:
        for module, name in ((resealing, "replace_piece"), (resealing, "write_whole"), (master_module, "_write"), (KeptInFile, "switch")):
            patch.setattr(module, name, counted(getattr(module, name)))
        try:
            work()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_change_of_the_master_that_is_killed_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool) -> None:
    made, _ = build(tmp_path / "made")
    for path in sorted((made.folder.keys / "secrets").glob("*.age"))[2:]:
        path.unlink()  # two stand for all
    stop = 0
    while True:
        root = tmp_path / str(stop)
        shutil.copytree(tmp_path / "made", root)
        keyring, source = opened(root)
        old = source.load()
        place = KeptInFile(root / "new.key", keyring.folder) if elsewhere else None

        def work(keyring: Keyring = keyring, source: KeptInFile = source, place: KeptInFile | None = place, root: Path = root) -> None:
            if not rotate(keyring, source, place)[0].done:
                os.rename(root / "new.key", root / "master.key")  # what the message asks of a person
                rotate(keyring, source)

        if not steps_killed(monkeypatch, stop, work):
            break
        present = source.load()
        assert opened_by(keyring, present) == everything(keyring), f"killed before step {stop}"
        keyring.add_client("late")
        keyring.rotate_client("acme")
        assert [one.recipient for one in keyring.client_identities("late", present)] == [keyring.client_recipient("late").recipient]
        if elsewhere and present != old:
            assert rotate(keyring, source)[0].done
        else:
            work()
        assert opened_by(keyring, source.load()) == everything(keyring)
        assert opened_by(keyring, old) == set() and keyring.master_recipients == [source.load().recipient]
        assert old != source.load()
        stop += 1
    assert stop > 12


def test_a_wrong_master_and_a_wrong_place_are_refused(tmp_path: Path) -> None:
    keyring, source = build(tmp_path)
    strange = KeptInFile(tmp_path / "strange.key", keyring.folder)
    strange.make()
    with pytest.raises(SettingsError, match="not the one of this installation"):
        rotate(keyring, strange)
    with pytest.raises(UsageError, match="present master"):
        rotate(keyring, source, source)
    with pytest.raises(SettingsError, match="inside the data folder"):
        rotate(keyring, source, KeptInFile(keyring.folder.root / "new.key", keyring.folder))
    assert opened_by(keyring, source.load()) == everything(keyring) and keyring.master_recipients == [source.load().recipient]


def test_one_more_recovery_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring, source = build(tmp_path)
    second = Identity.generate()
    stop = 0
    while steps_killed(monkeypatch, stop, lambda: add_recovery(keyring, second.recipient, source.load(), RECOVERY)):
        assert opened_by(keyring, source.load()) == everything(keyring)
        assert keyring.client_identities("closed", RECOVERY, recovery=True)
        stop += 1
    assert stop > 10
    assert opened_by(keyring, second) == opened_by(keyring, RECOVERY)
    assert "keys/clients/closed/1.recovery.age" in opened_by(keyring, second)
    assert "keys/clients/closed/1.recovery.age" not in opened_by(keyring, source.load())
    assert keyring.recovery_recipients == [RECOVERY.recipient, second.recipient]


def test_what_only_recovery_opens_is_left_and_counted(tmp_path: Path) -> None:
    keyring, source = build(tmp_path)
    second = Identity.generate()
    assert add_recovery(keyring, second.recipient, source.load(), None) == 1
    assert opened_by(keyring, RECOVERY) - opened_by(keyring, second) == {"keys/clients/closed/1.recovery.age"}
    with pytest.raises(SettingsError, match="no recovery identity of this installation"):
        add_recovery(keyring, second.recipient, source.load(), Identity.generate())
    with pytest.raises(UsageError, match="master"):
        add_recovery(keyring, source.load().recipient, source.load(), None)
    with pytest.raises(KeyMismatch):
        add_recovery(keyring, second.recipient, Identity.generate(), None)


def test_an_older_key_of_ingest_goes_when_the_spool_needs_it_no_more(tmp_path: Path) -> None:
    keyring, source = build(tmp_path)
    folder = keyring.folder
    for path in (folder.spool_partial, folder.spool_landed):
        path.mkdir(parents=True)

    def arrive() -> str:
        paper = new_paper_id()
        with Spool(folder.spool_partial, folder.spool_landed, keyring.ingest_recipient) as spool:
            file = spool.create(paper, "acme")
            file.write(0, b"x" * 70000)
            file.close()
        return paper

    def retire(identities: list[Identity] | None = None) -> tuple[list[int], list[int], list[int]]:
        told: list[int] = []
        with Spool(folder.spool_partial, folder.spool_landed, keyring.ingest_recipient) as spool:
            held = keyring.ingest_identities(source.load()) if identities is None else identities
            return (*retire_ingest_keys(keyring, held, spool, told.append), told)

    first = arrive()
    assert retire() == ([], [], [])
    assert keyring.make_ingest_key()[0] == 2
    arrive()
    keyring.make_ingest_key()
    assert retire([]) == ([], [1, 2], []), "a key that is not at hand is kept"
    assert retire() == ([], [1, 2], [])
    (folder.spool_partial / first).unlink()
    assert retire() == ([1], [2], [1])
    assert sorted(os.listdir(folder.ingest_keys)) == ["2.age", "2.recipient", "3.age", "3.recipient"]
    (folder.spool_partial / new_paper_id()).write_bytes(b"rubbish of which nobody can tell what it needs")
    assert retire() == ([], [2], [])


def test_an_older_key_of_ingest_stays_while_an_archive_password_is_left_to_it(tmp_path: Path) -> None:
    """`keys rotate-ingest` was killed after it made the new key; ingest, which retires older ones, starts before it is run again."""
    keyring, source = build(tmp_path)
    set_archive_password(keyring, "acme", "agreed")
    keyring.make_ingest_key()
    for path in (keyring.folder.spool_partial, keyring.folder.spool_landed):
        path.mkdir(parents=True)

    def retire() -> tuple[list[int], list[int]]:
        with Spool(keyring.folder.spool_partial, keyring.folder.spool_landed, keyring.ingest_recipient) as spool:
            return retire_ingest_keys(keyring, keyring.ingest_identities(source.load()), spool, lambda _: None)

    assert retire() == ([], [1])
    assert archive_password(keyring, "acme", keyring.ingest_identities(source.load())) == "agreed"
    assert reseal_archive_passwords(keyring, source.load()) == 1
    assert retire() == ([1], [])
    assert archive_password(keyring, "acme", keyring.ingest_identities(source.load())) == "agreed"


def test_nothing_is_sealed_while_keys_are_changed(tmp_path: Path) -> None:
    """Else it could be sealed to the master that is about to go, and nothing would open it afterwards."""
    keyring, _ = build(tmp_path)
    for write in (
        lambda: keyring.seal_totp("bob", b"seed"),
        lambda: set_archive_password(keyring, "acme", "agreed"),
        lambda: make_nist_host_key(keyring),
    ):
        with keyring.changing(), pytest.raises(Busy):
            write()


def test_a_restored_folder_gets_a_key_of_ingest(tmp_path: Path) -> None:
    keyring, source = build(tmp_path)
    for path in keyring.folder.ingest_keys.iterdir():
        path.unlink()
    with pytest.raises(SettingsError, match="keys rotate-ingest"):
        _ = keyring.ingest_recipient
    generation, recipient = keyring.make_ingest_key()
    assert generation == 1 and [one.recipient for one in keyring.ingest_identities(source.load())] == [recipient]
    with pytest.raises(AgeError):
        open_bytes((keyring.folder.ingest_keys / "1.age").read_bytes(), [RECOVERY])
