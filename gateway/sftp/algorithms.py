"""The algorithm policy: nothing with SHA-1, CBC, or a MAC shorter than 128 bits. What each of the weaker ones is needed for stands beside it."""

from __future__ import annotations

from collections.abc import Iterable

from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs

_KEY_EXCHANGE = (
    "sntrup761x25519-sha512",
    "sntrup761x25519-sha512@openssh.com",
    "mlkem768x25519-sha256",
    "curve25519-sha256",  # OpenSSH before 9.0, paramiko, libssh2, WinSCP before 6.2
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",  # installations bound to NIST curves
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
)
_ENCRYPTION = (
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",  # libssh2 1.10 (curl on Debian 12) knows no GCM
    "aes192-ctr",
    "aes128-ctr",
)
_MAC = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",  # libssh2 1.10 knows no encrypt-then-MAC
    "hmac-sha2-512",
)
SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
COMPRESSION = ("none",)


def key_exchange() -> list[str]:
    """Key exchanges offered, best first."""
    return _available(_KEY_EXCHANGE, get_kex_algs())


def encryption() -> list[str]:
    """Ciphers offered."""
    return _available(_ENCRYPTION, get_encryption_algs())


def mac() -> list[str]:
    """MACs offered, for the ciphers that need one."""
    return _available(_MAC, get_mac_algs())


def _available(wanted: Iterable[str], known: Iterable[bytes]) -> list[str]:
    names = {name.decode("ascii") for name in known}
    return [name for name in wanted if name in names]
