"""The SSH host keys: what they are, the one for the algorithm policy `nist`, which is made when it is wanted, and taking over another server's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.errors import SettingsError, UsageError
from config.files import write_whole
from gateway.catalog.sshkeys import fingerprint
from gateway.keys.keyring import HOST_KEY, Keyring
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
    """Make the host key on the curve P-256, with a sealed copy as of the other one; broken off, the same command goes on. Raises UsageError when
    there is one, Busy."""
    path = keyring.folder.nist_host_key
    with keyring.changing():
        if path.exists() and not keyring.has_secret(NIST_HOST_KEY):
            keyring.seal_secret(NIST_HOST_KEY, read_piece(path))
            return _public(path)
        if path.exists():
            raise UsageError("there is a host key on a NIST curve already", "see it with: nightsafe host-key")
        if keyring.has_secret(NIST_HOST_KEY):
            raise SettingsError(f"the host key {path} is missing, its sealed copy is there", "restore keys/host from a backup of the keys")
        private, public = _encoded(ec.generate_private_key(ec.SECP256R1()))
        write_whole(_public_path(path), public)
        write_new(path, private)
        keyring.seal_secret(NIST_HOST_KEY, private)
    return _public(path)


def take_over_host_key(keyring: Keyring, file: Path) -> HostKey:
    """Put the private key in `file`, which another server has shown to its clients until now, in the place of ours: Ed25519, or ECDSA on P-256,
    which is the one for the policy `nist`. The gateway takes it when it reads its settings again. Raises UsageError for a file that holds no
    such key, or one with a passphrase; Busy."""
    key = _read(file)
    name, path = (HOST_KEY, keyring.folder.host_key) if isinstance(key, Ed25519PrivateKey) else (NIST_HOST_KEY, keyring.folder.nist_host_key)
    private, public = _encoded(key)
    with keyring.changing():
        # The sealed copy first: were it the last, a backup could carry the old one for ever. Broken off anywhere, the same command mends it.
        keyring.replace_secret(name, private)
        write_whole(_public_path(path), public)
        write_whole(path, private)
    return _public(path)


def _read(file: Path) -> Ed25519PrivateKey | ec.EllipticCurvePrivateKey:
    try:
        data = read_piece(file)
    except OSError as error:
        raise UsageError(f"the host key {file} cannot be read: {error.strerror}", "name a file as /etc/ssh/ssh_host_ed25519_key is") from error
    load = serialization.load_ssh_private_key if b"BEGIN OPENSSH" in data else serialization.load_pem_private_key
    try:
        key = load(data, password=None)
    except TypeError as error:
        raise UsageError(f"{file} has a passphrase", f"take it off in a copy first: ssh-keygen -p -N '' -f {file}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{file} does not hold a private key", "name a file as /etc/ssh/ssh_host_ed25519_key is, without .pub") from error
    if isinstance(key, Ed25519PrivateKey) or (isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)):
        return key
    raise UsageError(f"{file} is neither an Ed25519 key nor one of ECDSA on P-256", "other kinds are not shown here; name ssh_host_ed25519_key")


def _encoded(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    """The private key file, and the line of the public half."""
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    return private, public + b" nightsafe host key\n"


def _public_path(path: Path) -> Path:
    return path.with_name(path.name + ".pub")


def _public(path: Path) -> HostKey:
    try:
        line = read_piece(_public_path(path)).decode("ascii").strip()
        return HostKey(line.split()[0], fingerprint(line), line)
    except (OSError, ValueError, IndexError) as error:
        raise SettingsError(f"the public half of the host key {path.name} cannot be read", "restore keys/host from a backup of the keys") from error
