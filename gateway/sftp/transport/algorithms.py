"""The three algorithm policies, chosen by `gateway.algorithms`. None has SHA-1, CBC, or a MAC shorter than 128 bits.

| policy | what `ssh-audit` says | for |
| --- | --- | --- |
| `modern` | no failure; warnings only about what a client of docs/reference/algorithms.md needs | everybody |
| `strict` | no failure, no warning | clients of today alone |
| `nist` | NIST curves and AES, nothing else | houses that are bound to them |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs

from config.settings import AlgorithmPolicy

_HYBRID = (
    "sntrup761x25519-sha512",
    "sntrup761x25519-sha512@openssh.com",
    "mlkem768x25519-sha256",
)
_CURVE25519 = ("curve25519-sha256", "curve25519-sha256@libssh.org")  # OpenSSH before 9.0, paramiko, libssh2, lftp's ssh, WinSCP before 6.2
_NIST_CURVES = ("mlkem768nistp256-sha256", "mlkem1024nistp384-sha384", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521")
_AES = (
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",  # libssh2 1.10 (curl on Debian 12) knows no GCM
    "aes192-ctr",
    "aes128-ctr",
)
_CHACHA = "chacha20-poly1305@openssh.com"
_ENCRYPT_THEN_MAC = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
_ENCRYPT_AND_MAC = ("hmac-sha2-256", "hmac-sha2-512")  # libssh2 1.10 knows no encrypt-then-MAC
_ECDSA = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "sk-ecdsa-sha2-nistp256@openssh.com")
_RSA = ("rsa-sha2-512", "rsa-sha2-256")
COMPRESSION = ("none",)


@dataclass(frozen=True)
class Algorithms:
    """What is offered, best first; `signatures` are those of clients' keys."""

    key_exchange: tuple[str, ...]
    encryption: tuple[str, ...]
    mac: tuple[str, ...]
    signatures: tuple[str, ...]


_ALL_SIGNATURES = ("ssh-ed25519", "sk-ssh-ed25519@openssh.com", *_ECDSA, *_RSA)
_POLICIES = {
    "modern": Algorithms((*_HYBRID, *_CURVE25519), (*_AES[:2], _CHACHA, *_AES[2:]), (*_ENCRYPT_THEN_MAC, *_ENCRYPT_AND_MAC), _ALL_SIGNATURES),
    "strict": Algorithms(_HYBRID, (*_AES[:2], *_AES[2:]), _ENCRYPT_THEN_MAC, _ALL_SIGNATURES),
    "nist": Algorithms(_NIST_CURVES, _AES, (*_ENCRYPT_THEN_MAC, *_ENCRYPT_AND_MAC), (*_ECDSA, *_RSA)),
}


def algorithms(policy: AlgorithmPolicy) -> Algorithms:
    """What the policy offers of what this asyncssh can do."""
    wanted = _POLICIES[policy]
    return Algorithms(
        _available(wanted.key_exchange, get_kex_algs()),
        _available(wanted.encryption, get_encryption_algs()),
        _available(wanted.mac, get_mac_algs()),
        wanted.signatures,
    )


def _available(wanted: Iterable[str], known: Iterable[bytes]) -> tuple[str, ...]:
    names = {name.decode("ascii") for name in known}
    return tuple(name for name in wanted if name in names)
