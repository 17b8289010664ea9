"""Making keys once, reading them back, and noticing what was altered."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import gateway.keys.generations as generations_module
import gateway.keys.keyring as keyring_module
from config.errors import SettingsError, UsageError
from config.folder import DataFolder
from gateway.age import Identity, seal_bytes
from gateway.audit.signatures import EVIDENCE, RECEIPT, SigningKey, sign
from gateway.keys.errors import KeyDamaged
from gateway.keys.generations import Generation, open_generation
from gateway.keys.keyring import DESTRUCTION_SIGNING, EVIDENCE_SIGNING, RECEIPT_SIGNING, S3_READER, SIGNERS, Keyring

MASTER, RECOVERY = Identity.generate(), Identity.generate()


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data")


@pytest.fixture
def keyring(folder: DataFolder) -> Keyring:
    return Keyring.create(folder, MASTER.recipient, RECOVERY.recipient)


def content(folder: DataFolder) -> dict[str, bytes]:
    return {str(path.relative_to(folder.root)): path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}


def test_created_once_and_kept(folder: DataFolder, keyring: Keyring) -> None:
    before = content(folder)
    Keyring.create(folder, MASTER.recipient, RECOVERY.recipient)
    assert content(folder) == before
    assert keyring.master_recipient == MASTER.recipient
    assert keyring.recovery_recipients == [RECOVERY.recipient]
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.root.rglob("*"))


def test_another_master_or_recovery_is_refused(folder: DataFolder, keyring: Keyring) -> None:
    before = content(folder)
    with pytest.raises(SettingsError, match="another master key"):
        Keyring.create(folder, Identity.generate().recipient, RECOVERY.recipient)
    with pytest.raises(SettingsError, match="another recovery key"):
        Keyring.create(folder, MASTER.recipient, Identity.generate().recipient)
    assert content(folder) == before


class Killed(BaseException):
    """Stands for a kill: nothing catches it, and nothing cleans up after it."""


def test_an_interruption_anywhere_is_mended_by_running_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop before each step that changes the disk, then run to the end: all is there, and no secret half was replaced."""
    names = ("write_whole", "write_new")
    modules = (keyring_module, generations_module)
    real: dict[str, Callable[..., None]] = {name: getattr(keyring_module, name) for name in names}
    steps = 0
    for stop in range(1000):
        folder = DataFolder(tmp_path / str(stop))
        done = 0

        def counted(name: str, path: Path, data: bytes, stop: int = stop) -> None:
            nonlocal done
            if done == stop:
                (path.parent / ".tmp-half").write_bytes(data[: len(data) // 2]) if path.parent.exists() else None
                raise Killed
            done += 1
            real[name](path, data)

        for name in names:
            for module in modules:
                monkeypatch.setattr(module, name, lambda path, data, name=name: counted(name, path, data))
        try:
            Keyring.create(folder, MASTER.recipient, RECOVERY.recipient).add_client("acme")
        except Killed:
            pass
        else:
            break
        finally:
            for name in names:
                for module in modules:
                    monkeypatch.setattr(module, name, real[name])
        steps += 1
        secrets = {name: data for name, data in content(folder).items() if name.endswith((".age", "_key"))}
        keyring = Keyring.create(folder, MASTER.recipient, RECOVERY.recipient)
        keyring.add_client("acme")
        after = content(folder)
        assert {name: after[name] for name in secrets} == secrets
        assert keyring.client_identities("acme", MASTER)[0].recipient == keyring.client_recipient("acme").recipient
        assert keyring.ingest_identities(MASTER)[0].recipient == keyring.ingest_recipient
        for name, _, _ in SIGNERS:
            assert SigningKey.parse(keyring.open_secret(name, RECOVERY)).public in keyring.allowed_signers.read_text()
        assert keyring.open_secret("host-key", MASTER) == folder.host_key.read_bytes()
        public = folder.host_key.with_name(folder.host_key.name + ".pub").read_text().strip()
        assert SigningKey.parse(folder.host_key.read_bytes()).public == public
    assert steps > 20


def test_clients_have_generations(keyring: Keyring) -> None:
    first = keyring.add_client("acme")
    assert first == keyring.add_client("acme") == keyring.client_recipient("acme")
    second = keyring.rotate_client("acme")
    assert (first.generation, second.generation) == (1, 2)
    for opener in (MASTER, RECOVERY):
        assert [one.recipient for one in keyring.client_identities("acme", opener)] == [second.recipient, first.recipient]
    with pytest.raises(KeyDamaged, match="does not open"):
        keyring.client_identities("acme", Identity.generate())


def test_unknown_and_impossible_clients(keyring: Keyring) -> None:
    assert keyring.client_identities("nobody", MASTER) == []
    with pytest.raises(UsageError, match="no key for the client"):
        keyring.client_recipient("nobody")
    with pytest.raises(UsageError):
        keyring.rotate_client("nobody")
    for name in ("../host", "a/b", "", ".", "A", "x" * 33):
        with pytest.raises(UsageError):
            keyring.add_client(name)
        with pytest.raises(UsageError):
            keyring.client_identities(name, MASTER)


def test_the_tenth_generation_is_newer_than_the_ninth(keyring: Keyring) -> None:
    keyring.add_client("acme")
    generations = [keyring.rotate_client("acme").generation for _ in range(10)]
    assert generations == list(range(2, 12))


def test_ingest_is_for_the_master_alone(keyring: Keyring) -> None:
    assert [one.recipient for one in keyring.ingest_identities(MASTER)] == [keyring.ingest_recipient]
    with pytest.raises(KeyDamaged):
        keyring.ingest_identities(RECOVERY)


def test_secrets_are_kept_once(keyring: Keyring, folder: DataFolder) -> None:
    keyring.seal_secret("extra", b"\x00value")
    with pytest.raises(UsageError, match="already"):
        keyring.seal_secret("extra", b"other")
    assert keyring.open_secret("extra", MASTER) == keyring.open_secret("extra", RECOVERY) == b"\x00value"
    assert keyring.has_secret("extra")
    assert not keyring.has_secret("none")
    with pytest.raises(SettingsError, match="no secret 'none'"):
        keyring.open_secret("none", MASTER)
    for name in ("../x", "a/b", "", "A", ".x"):
        with pytest.raises(UsageError):
            keyring.seal_secret(name, b"")
    assert not [name for name in content(folder) if ".tmp-" in name]


def test_any_flipped_byte_of_a_key_is_noticed(keyring: Keyring, folder: DataFolder) -> None:
    keyring.add_client("acme")
    for path in (folder.client_keys("acme") / "1.age", folder.client_keys("acme") / "1.recipient", folder.keys / "secrets" / f"{S3_READER}.age"):
        good = path.read_bytes()
        for place in range(0, len(good), 3):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            with pytest.raises((KeyDamaged, SettingsError)):
                if path.name.startswith("1."):
                    keyring.client_identities("acme", MASTER)
                else:
                    keyring.open_secret(S3_READER, MASTER)
        path.write_bytes(good)
    assert keyring.client_identities("acme", MASTER)


def test_a_key_put_in_place_of_another_is_noticed(keyring: Keyring, folder: DataFolder) -> None:
    """Whoever can write here knows the recipients, and so can seal an identity of their own."""
    keyring.add_client("acme")
    stranger = Identity.generate()
    (folder.client_keys("acme") / "1.age").write_bytes(seal_bytes(stranger.encode().encode(), [MASTER.recipient]))
    with pytest.raises(KeyDamaged, match="do not belong together"):
        keyring.client_identities("acme", MASTER)


def test_links_and_long_files_are_not_followed(keyring: Keyring, folder: DataFolder, tmp_path: Path) -> None:
    path = folder.keys / "secrets" / f"{S3_READER}.age"
    moved = path.rename(tmp_path / "moved")
    path.symlink_to(moved)
    with pytest.raises(KeyDamaged):
        keyring.open_secret(S3_READER, MASTER)
    path.unlink()
    with path.open("wb") as file:
        os.truncate(file.fileno(), 1 << 30)
    with pytest.raises(KeyDamaged, match="longer than"):
        keyring.open_secret(S3_READER, MASTER)


def test_the_host_key_is_never_made_anew_when_its_copy_is_there(keyring: Keyring, folder: DataFolder) -> None:
    folder.host_key.unlink()
    with pytest.raises(SettingsError, match="put it back"):
        Keyring.create(folder, MASTER.recipient, RECOVERY.recipient)
    assert not folder.host_key.exists()


def test_ssh_keygen_agrees(keyring: Keyring, tmp_path: Path) -> None:
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(b"a receipt")

    def verify(principal: str, namespace: str) -> int:
        command = ["ssh-keygen", "-Y", "verify", "-f", str(keyring.allowed_signers), "-I", principal, "-n", namespace, "-s", str(signature)]
        return subprocess.run(command, stdin=message.open("rb"), capture_output=True).returncode

    signature.write_text(sign(SigningKey.parse(keyring.open_secret(RECEIPT_SIGNING, MASTER)), RECEIPT, b"a receipt"))
    assert verify("receipts", RECEIPT) == 0
    assert verify("evidence", EVIDENCE) != 0
    signature.write_text(sign(SigningKey.parse(keyring.open_secret(EVIDENCE_SIGNING, MASTER)), RECEIPT, b"a receipt"))
    assert verify("receipts", RECEIPT) != 0


def test_the_age_tool_opens_what_is_sealed_here(keyring: Keyring, folder: DataFolder, tmp_path: Path) -> None:
    keyring.add_client("acme")
    (tmp_path / "recovery").write_text(RECOVERY.encode() + "\n")
    command = ["age", "-d", "-i", str(tmp_path / "recovery"), str(folder.client_keys("acme") / "1.age")]
    shown = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert keyring.client_identities("acme", MASTER)[0].encode() in shown.splitlines()


def test_repr_tells_no_secret(keyring: Keyring) -> None:
    key = keyring.add_client("acme")
    assert "SECRET" not in repr(key) + repr(keyring) + repr(keyring.client_identities("acme", MASTER))


def test_deposits_are_sealed_to_what_the_master_does_not_open(keyring: Keyring) -> None:
    deposit, outbox = keyring.add_deposit_client("closed", None)
    assert (deposit.kind, outbox.kind) == ("recovery", "managed")
    assert keyring.client_recipient("closed") == deposit and keyring.client_recipient("closed", outbox=True) == outbox
    assert [one.recipient for one in keyring.client_identities("closed", MASTER)] == [outbox.recipient]
    both = {one.recipient for one in keyring.client_identities("closed", RECOVERY, recovery=True)}
    assert both == {deposit.recipient, outbox.recipient}
    with pytest.raises(KeyDamaged, match="does not open"):
        open_generation(keyring.folder.client_keys("closed"), Generation(1, "recovery"), MASTER)
    newer = keyring.rotate_client("closed")
    assert (newer.generation, newer.kind) == (3, "recovery")
    assert keyring.rotate_client("closed", outbox=True).kind == "managed"
    assert keyring.client_recipient("closed") == newer, "an outbox key, though newer, is never one for deposits"
    theirs = Identity.generate().recipient
    assert keyring.rotate_client("closed", recipient=theirs).recipient == theirs == keyring.client_recipient("closed").recipient
    with pytest.raises(UsageError, match="holds its key alone"):
        keyring.rotate_client("closed")


def test_an_external_recipient_is_kept_once_and_is_nobody_elses(keyring: Keyring) -> None:
    theirs = Identity.generate().recipient
    keys = keyring.add_deposit_client("closed", theirs)
    assert [key.kind for key in keys] == ["external", "managed"] and keys == keyring.add_deposit_client("closed", theirs)
    assert not list(keyring.folder.client_keys("closed").glob("1*.age"))
    for ours in (MASTER.recipient, RECOVERY.recipient, theirs, keys[1].recipient):
        with pytest.raises(UsageError, match="already"):
            keyring.rotate_client("closed", recipient=ours)
    keyring.add_client("acme")
    with pytest.raises(UsageError, match="managed"):
        keyring.rotate_client("acme", recipient=Identity.generate().recipient)
    with pytest.raises(UsageError, match="another custody"):
        keyring.add_client("closed")


def test_a_signing_key_that_a_newer_program_needs_is_made_and_a_lost_one_is_not(folder: DataFolder, keyring: Keyring) -> None:
    secrets = folder.keys / "secrets"
    lines = keyring.allowed_signers.read_text().splitlines()
    older = [line for line in lines if not line.startswith("destruction ")]
    for end in ("age", "pub"):
        (secrets / f"{DESTRUCTION_SIGNING}.{end}").unlink()
    assert keyring.make_new_signers() == [], "it is known, so it was lost"
    assert not keyring.has_secret(DESTRUCTION_SIGNING)
    keyring.allowed_signers.write_text("\n".join(older) + "\n")
    assert keyring.make_new_signers() == [DESTRUCTION_SIGNING]
    now = keyring.allowed_signers.read_text()
    assert SigningKey.parse(keyring.open_secret(DESTRUCTION_SIGNING, MASTER)).public in now and set(older) < set(now.splitlines())
    assert keyring.make_new_signers() == []
