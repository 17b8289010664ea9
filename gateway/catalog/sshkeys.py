"""SSH public keys of people: reading one line of OpenSSH's format, and the fingerprint that `ssh-keygen -l` shows (RFC 4253, section 6.6)."""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from config.errors import UsageError
from gateway.catalog.rows import PublicKey

SMALLEST_RSA = 3072
LONGEST = 20_000  # characters; an RSA key of 16,384 bits needs 2,800


def parse_public_key(text: str, name: str) -> PublicKey:
    """The key in `TYPE BASE64 [COMMENT]`; `name` stands in messages. Raises UsageError; a private key is refused by its name."""
    text = text[:LONGEST].strip()
    if "PRIVATE KEY" in text:
        raise UsageError(f"{name} is a private key", f"never hand it out; name the public half, probably {name}.pub")
    fields = text.split(None, 2)
    line = " ".join(fields[:2])
    try:
        loaded = load_ssh_public_key(line.encode())
        shown = fingerprint(line)
    except (ValueError, IndexError, UnsupportedAlgorithm, binascii.Error) as error:
        raise UsageError(f"{name} does not hold an SSH public key", "make a key pair with: ssh-keygen -t ed25519") from error
    if isinstance(loaded, RSAPublicKey) and loaded.key_size < SMALLEST_RSA:
        raise UsageError(f"{name} is an RSA key of {loaded.key_size} bits; at least {SMALLEST_RSA} are needed", "better: ssh-keygen -t ed25519")
    return PublicKey(line, shown, fields[2].splitlines()[0] if len(fields) > 2 else "")


def fingerprint(line: str) -> str:
    """`SHA256:…` of a public key line. Raises ValueError when it is none."""
    blob = base64.b64decode(line.split()[1], validate=True)
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
