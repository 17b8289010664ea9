"""SSH signatures (OpenSSH's PROTOCOL.sshsig, version 1) with Ed25519: what `ssh-keygen -Y verify` checks, without starting it.

Receipts, evidence and checkpoints each have a key and a namespace of their own, so that a signature made for one is never taken for another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature

from gateway.audit.sshkeys import KeyFormatError, SigningKey, parse_public, public_line, unpack_public
from gateway.audit.sshwire import ED25519, Reader, WireError, pack

RECEIPT = "receipt@nightsafe"
EVIDENCE = "evidence@nightsafe"
CHECKPOINT = "checkpoint@nightsafe"
DESTRUCTION = "destruction@nightsafe"
AUDIT = "audit@nightsafe"

_MAGIC = b"SSHSIG"
_BEGIN = "-----BEGIN SSH SIGNATURE-----"
_END = "-----END SSH SIGNATURE-----"
_MAX_ARMOUR_CHARACTERS = 4096
_HASHES = {b"sha512": hashlib.sha512, b"sha256": hashlib.sha256}  # those that the protocol knows; ours are always sha512

__all__ = [
    "AUDIT", "CHECKPOINT", "DESTRUCTION", "EVIDENCE", "RECEIPT", "KeyFormatError", "SigningKey", "allowed_signers_line", "sign", "sign_digest",
    "verify",
]  # fmt: skip


def sign(key: SigningKey, namespace: str, message: bytes) -> str:
    """An armoured signature over `message`, with a newline at its end."""
    return sign_digest(key, namespace, hashlib.sha512(message).digest())


def sign_digest(key: SigningKey, namespace: str, sha512: bytes) -> str:
    """The same over a message that does not fit into memory, by its SHA-512."""
    signature = key.sign_raw(_signed_data(namespace.encode(), b"", b"sha512", sha512))
    return _armour(
        _MAGIC + (1).to_bytes(4, "big") + pack(pack(ED25519, key.public_bytes), namespace.encode(), b"", b"sha512", pack(ED25519, signature))
    )


def verify(public: str, namespace: str, message: bytes, signature: str) -> bool:
    """Whether `signature` was made by the key `public` (one line) for `namespace` over `message`. Damaged signatures are just not valid.

    Raises KeyFormatError when `public` itself is no Ed25519 key.
    """
    key = parse_public(public)
    try:
        signer, named, reserved, algorithm, raw = _unpack(_unarmour(signature))
        if public_line(signer) != " ".join(public.split()[:2]) or named != namespace.encode():
            return False
        key.verify(raw, _signed_data(named, reserved, algorithm, _HASHES[algorithm](message).digest()))
    except (InvalidSignature, ValueError, binascii.Error, KeyError):
        return False
    return True


def allowed_signers_line(principal: str, namespace: str, public: str) -> str:
    """A line of an `allowed_signers` file (ssh-keygen(1)), without newline: `principal` may sign in `namespace` with the key `public`."""
    parse_public(public)
    return f'{principal} namespaces="{namespace}" {public.strip()}'


def _signed_data(namespace: bytes, reserved: bytes, algorithm: bytes, digest: bytes) -> bytes:
    return _MAGIC + pack(namespace, reserved, algorithm, digest)


def _armour(blob: bytes) -> str:
    body = base64.b64encode(blob).decode("ascii")
    return "\n".join([_BEGIN, *(body[start : start + 70] for start in range(0, len(body), 70)), _END, ""])


def _unarmour(text: str) -> bytes:
    """There is one armour of a signature, as OpenSSH writes it too: a stray bit in it is not overlooked."""
    lines = text.split("\n")
    if len(text) > _MAX_ARMOUR_CHARACTERS or len(lines) < 3:
        raise WireError("not an armoured signature")
    blob = base64.b64decode("".join(lines[1:-2]), validate=True)
    if _armour(blob) != text:
        raise WireError("not an armoured signature")
    return blob


def _unpack(blob: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """(public key, namespace, reserved, hash algorithm, signature)."""
    reader = Reader(blob)
    reader.expect(_MAGIC + (1).to_bytes(4, "big"))
    signer = unpack_public(reader.string())
    namespace, reserved, algorithm = reader.string(), reader.string(), reader.string()
    signature = Reader(reader.string())
    reader.end()
    if signature.string() != ED25519:
        raise WireError("not an Ed25519 signature")
    raw = signature.string()
    signature.end()
    return signer, namespace, reserved, algorithm, raw
