"""The SSH host keys: what they are, and the one for the algorithm policy `nist`, which is made when it is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from config.errors import SettingsError, UsageError
from config.files import write_whole
from gateway.catalog.sshkeys import fingerprint
from gateway.keys.keyring import Keyring
from gateway.keys.pieces import read_piece, write_new

NIST_HOST_KEY = "host-key-nist"


@dataclass(frozen=True)
class HostKey:
    """The public half of a host key: `kind` as SSH names it, `fingerprint` as `SHA256:…`."""

    kind: str
    fingerprint: str
    line: str


def host_keys(keyring: Keyring) -> list[HostKey]:
    """The host keys that there are. Raises SettingsError."""
    folder = keyring.folder
    return [_public(path) for path in (folder.host_key, folder.nist_host_key) if path == folder.host_key or path.exists()]


def make_nist_host_key(keyring: Keyring) -> HostKey:
    """Make the host key on the curve P-256, with a sealed copy as of the other one. Raises UsageError when there is one, Busy."""
    path = keyring.folder.nist_host_key
    with keyring.changing():
        if path.exists():
            raise UsageError("there is a host key on a NIST curve already", "see it with: nightsafe host-key")
        if keyring.has_secret(NIST_HOST_KEY):
            raise SettingsError(f"the host key {path} is missing, its sealed copy is there", "restore keys/host from a backup of the keys")
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
        write_whole(_public_path(path), public + b" nightsafe host key\n")
        write_new(path, private)
        keyring.seal_secret(NIST_HOST_KEY, private)
    return _public(path)


def _public_path(path: Path) -> Path:
    return path.with_name(path.name + ".pub")


def _public(path: Path) -> HostKey:
    try:
        line = read_piece(_public_path(path)).decode("ascii").strip()
        return HostKey(line.split()[0], fingerprint(line), line)
    except (OSError, ValueError, IndexError) as error:
        raise SettingsError(f"the public half of the host key {path.name} cannot be read", "restore keys/host from a backup of the keys") from error
