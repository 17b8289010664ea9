"""Ed25519 keys in OpenSSH's own files: `openssh-key-v1` (PROTOCOL.key) without a passphrase, and the one-line public form.

A file of this kind lies on the disk only inside an age seal; `ssh-keygen` reads what this module writes, and the other way round.
"""

from __future__ import annotations

import base64
import binascii
import secrets

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from config.errors import NightsafeError
from gateway.audit.sshwire import ED25519, Reader, WireError, pack

_BEGIN = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
_END = b"-----END OPENSSH PRIVATE KEY-----\n"
_MAGIC = b"openssh-key-v1\0"
_MAX_FILE_BYTES = 16 * 1024


class KeyFormatError(NightsafeError):
    """The bytes are no Ed25519 key of OpenSSH, or one with a passphrase."""


class SigningKey:
    """A private key for signatures; neither repr nor an error shows it."""

    def __init__(self, private: Ed25519PrivateKey, comment: str) -> None:
        if any(character in comment for character in "\r\n\0"):
            raise KeyFormatError("a key's comment is one line")
        self._private = private
        self.comment = comment

    @classmethod
    def generate(cls, comment: str) -> SigningKey:
        """A new key; `comment` stands at the end of its public line."""
        return cls(Ed25519PrivateKey.generate(), comment)

    @classmethod
    def parse(cls, data: bytes) -> SigningKey:
        """The key in an OpenSSH private key file. Raises KeyFormatError."""
        try:
            private, comment = _unpack_private(_unarmour(data))
            return cls(Ed25519PrivateKey.from_private_bytes(private), comment)
        except (ValueError, UnsupportedAlgorithm):
            raise KeyFormatError("this is no Ed25519 private key of OpenSSH without a passphrase") from None

    def encode(self) -> bytes:
        """An OpenSSH private key file; secret."""
        body = base64.b64encode(self._packed())
        lines = [body[start : start + 70] + b"\n" for start in range(0, len(body), 70)]
        return _BEGIN + b"".join(lines) + _END

    @property
    def public(self) -> str:
        """`ssh-ed25519 AAAA… comment`."""
        return public_line(self.public_bytes, self.comment)

    @property
    def public_bytes(self) -> bytes:
        """The 32 bytes of the public key."""
        return self._private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    def sign_raw(self, data: bytes) -> bytes:
        """The 64 bytes of an Ed25519 signature over `data` itself."""
        return self._private.sign(data)

    def __repr__(self) -> str:
        return f"SigningKey({self.public!r})"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not copied")

    def _packed(self) -> bytes:
        seed = self._private.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
        public = self.public_bytes
        check = secrets.token_bytes(4)
        inner = check + check + pack(ED25519, public, seed + public, self.comment.encode())
        inner += bytes(range(1, (-len(inner)) % 8 + 1))
        return _MAGIC + pack(b"none", b"none", b"") + (1).to_bytes(4, "big") + pack(pack(ED25519, public), inner)


def public_line(public: bytes, comment: str = "") -> str:
    """The one-line form of a public key of 32 bytes."""
    line = f"ssh-ed25519 {base64.b64encode(pack(ED25519, public)).decode('ascii')}"
    return f"{line} {comment}" if comment else line


def parse_public(line: str) -> Ed25519PublicKey:
    """The key in `ssh-ed25519 AAAA… [comment]`. Raises KeyFormatError."""
    words = line.strip().split(maxsplit=2)
    try:
        if len(words) < 2 or words[0] != "ssh-ed25519":
            raise WireError("not an Ed25519 key")
        return Ed25519PublicKey.from_public_bytes(unpack_public(base64.b64decode(words[1], validate=True)))
    except (ValueError, binascii.Error) as error:
        raise KeyFormatError("this is no Ed25519 public key of OpenSSH", "it begins with: ssh-ed25519 AAAA") from error


def unpack_public(blob: bytes) -> bytes:
    """The 32 bytes in a public key blob. Raises WireError."""
    reader = Reader(blob)
    if reader.string() != ED25519:
        raise WireError("not an Ed25519 key")
    public = reader.string()
    reader.end()
    if len(public) != 32:
        raise WireError("not 32 bytes")
    return public


def _unarmour(data: bytes) -> bytes:
    text = data.replace(b"\r\n", b"\n").strip() + b"\n"
    if len(text) > _MAX_FILE_BYTES or not text.startswith(_BEGIN) or not text.endswith(_END):
        raise WireError("not a private key file")
    return base64.b64decode(text[len(_BEGIN) : -len(_END)].replace(b"\n", b""), validate=True)


def _unpack_private(data: bytes) -> tuple[bytes, str]:
    """(seed of 32 bytes, comment)."""
    reader = Reader(data)
    reader.expect(_MAGIC)
    if reader.string() != b"none" or reader.string() != b"none" or reader.string() != b"" or reader.number() != 1:
        raise WireError("with a passphrase, or several keys")
    public = unpack_public(reader.string())
    inner = Reader(reader.string())
    reader.end()
    if inner.take(4) != inner.take(4) or inner.string() != ED25519 or inner.string() != public:
        raise WireError("the halves do not fit")
    private = inner.string()
    comment = inner.string().decode("utf-8")
    padding = inner.rest()
    if len(private) != 64 or private[32:] != public or padding != bytes(range(1, len(padding) + 1)):
        raise WireError("the halves do not fit")
    return private[:32], comment
