"""The host key of another server in the place of ours: what is taken, what is refused, and that a kill half-way is mended by the same command."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.errors import UsageError
from config.folder import DataFolder
from gateway.age import Identity
from gateway.keys import hostkeys
from gateway.keys.hostkeys import NIST_HOST_KEY, host_keys, make_nist_host_key, take_over_host_key
from gateway.keys.keyring import HOST_KEY, Keyring

MASTER, RECOVERY = Identity.generate(), Identity.generate()


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.create(DataFolder(tmp_path / "data"), MASTER.recipient, RECOVERY.recipient)


def theirs(tmp_path: Path, *options: str) -> tuple[Path, str]:
    """A key as OpenSSH makes it, and the fingerprint that its clients know."""
    file = tmp_path / "ssh_host_key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "root@old", "-f", str(file), *options], check=True)
    shown = subprocess.run(["ssh-keygen", "-l", "-f", str(file)], check=True, capture_output=True, text=True)
    return file, shown.stdout.split()[1]


@pytest.mark.parametrize("options", [("-t", "ed25519"), ("-t", "ecdsa", "-b", "256"), ("-t", "ecdsa", "-b", "256", "-m", "PEM")])
def test_clients_see_the_key_that_they_know(keyring: Keyring, tmp_path: Path, options: tuple[str, ...]) -> None:
    file, known = theirs(tmp_path, *options)
    assert take_over_host_key(keyring, file).fingerprint == known
    assert known in {key.fingerprint for key in host_keys(keyring)}
    ed25519 = options[1] == "ed25519"
    path, name = (keyring.folder.host_key, HOST_KEY) if ed25519 else (keyring.folder.nist_host_key, NIST_HOST_KEY)
    assert keyring.open_secret(name, RECOVERY) == path.read_bytes(), "backups carry the sealed one"
    assert path.stat().st_mode & 0o077 == 0
    again = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], check=True, capture_output=True, text=True).stdout.split()[:2]
    assert again == Path(f"{file}.pub").read_text().split()[:2]


@pytest.mark.parametrize(
    ("options", "says"),
    [(("-t", "rsa", "-b", "3072"), "neither"), (("-t", "ecdsa", "-b", "384"), "neither"), (("-t", "ed25519", "-N", "secret"), "passphrase")],
)
def test_another_kind_is_refused_and_nothing_changes(keyring: Keyring, tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-f", str(file), *(() if "-N" in options else ("-N", "")), *options], check=True)
    before = host_keys(keyring)
    for path, why in ((file, says), (Path(f"{file}.pub"), "private key"), (tmp_path / "none", "cannot be read"), (tmp_path, "cannot be read")):
        with pytest.raises(UsageError, match=why):
            take_over_host_key(keyring, path)
    assert host_keys(keyring) == before


class Killed(BaseException):
    """Stands for a kill."""


def test_killed_anywhere_the_same_command_mends_it(keyring: Keyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, known = theirs(tmp_path, "-t", "ed25519")
    whole: Callable[..., Any] = hostkeys.write_whole
    for steps in (0, 1):
        left = [steps]

        def dying(path: Path, data: bytes, left: list[int] = left) -> None:
            if not left[0]:
                raise Killed
            left[0] -= 1
            whole(path, data)

        monkeypatch.setattr(hostkeys, "write_whole", dying)
        with pytest.raises(Killed):
            take_over_host_key(keyring, file)
    monkeypatch.undo()
    assert take_over_host_key(keyring, file).fingerprint == known
    assert keyring.open_secret(HOST_KEY, MASTER) == keyring.folder.host_key.read_bytes()


def test_a_key_whose_making_was_broken_off_gets_its_sealed_copy(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the key is in no backup, and after a disaster every client is warned."""

    def dying(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(Keyring, "seal_secret", dying)
    with pytest.raises(Killed):
        make_nist_host_key(keyring)
    monkeypatch.undo()
    known = make_nist_host_key(keyring)
    assert keyring.open_secret(NIST_HOST_KEY, MASTER) == keyring.folder.nist_host_key.read_bytes()
    assert known in host_keys(keyring)
    with pytest.raises(UsageError):
        make_nist_host_key(keyring)
