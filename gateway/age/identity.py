"""X25519 recipients and identities: keys as text, and how they wrap a file key."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.age import bech32, encoding
from gateway.age.errors import HeaderError, KeyTextError
from gateway.age.header import FILE_KEY_SIZE, Stanza

KIND = "X25519"
KEY_SIZE = 32
WRAPPED_SIZE = FILE_KEY_SIZE + 16

_RECIPIENT_PREFIX = "age"
_IDENTITY_PREFIX = "AGE-SECRET-KEY-"
_INFO = b"age-encryption.org/v1/X25519"
_NONCE = bytes(12)  # each wrap key is used once


class Recipient:
    """A public key that files are sealed to. `str()` gives `age1…`. Compared by value."""

    __slots__ = ("_public",)

    def __init__(self, public: bytes) -> None:
        """`public`: the 32 bytes of a Curve25519 point. Raises KeyTextError for a point of low order, to which nothing can be sealed."""
        if len(public) != KEY_SIZE or _shared(X25519PrivateKey.generate(), public) is None:
            raise KeyTextError("this recipient is not a usable key")
        self._public = public

    @classmethod
    def parse(cls, text: str) -> Recipient:
        """A recipient from `age1…`. Raises KeyTextError."""
        prefix, public = bech32.decode(text)
        if prefix == _IDENTITY_PREFIX:
            raise KeyTextError("this is an identity (a secret key) where a recipient is wanted", "give its public key, which begins with age1")
        if prefix != _RECIPIENT_PREFIX or len(public) != KEY_SIZE:
            raise KeyTextError("this is not an age recipient of the X25519 kind", "it begins with age1 and has 62 characters")
        return cls(public)

    def __str__(self) -> str:
        return bech32.encode(_RECIPIENT_PREFIX, self._public)

    def __repr__(self) -> str:
        return f"Recipient({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipient) and self._public == other._public

    def __hash__(self) -> int:
        return hash(self._public)

    def wrap(self, file_key: bytes) -> Stanza:
        """The stanza that gives `file_key` to the holder of the identity."""
        ephemeral = X25519PrivateKey.generate()
        share = ephemeral.public_key().public_bytes_raw()
        shared = _shared(ephemeral, self._public)
        if shared is None:
            raise KeyTextError("this recipient is not a usable key")
        body = ChaCha20Poly1305(_wrap_key(shared, share, self._public)).encrypt(_NONCE, file_key, None)
        return Stanza(KIND, (encoding.encode(share),), body)


class Identity:
    """A secret key that opens what was sealed to its recipient. Neither `str()` nor `repr()` tells it; `encode()` does. Compared by value."""

    __slots__ = ("_private", "recipient")

    def __init__(self, secret: bytes) -> None:
        """`secret`: 32 bytes."""
        if len(secret) != KEY_SIZE:
            raise KeyTextError("this identity is not a usable key")
        self._private = X25519PrivateKey.from_private_bytes(secret)
        self.recipient = Recipient(self._private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Identity:
        """A new identity."""
        return cls(secrets.token_bytes(KEY_SIZE))

    @classmethod
    def parse(cls, text: str) -> Identity:
        """An identity from `AGE-SECRET-KEY-1…`. Raises KeyTextError, which never holds the text."""
        prefix, secret = bech32.decode(text)
        if prefix == "AGE-SECRET-KEY-PQ-":
            raise KeyTextError("this is a post-quantum identity, which is not supported here")
        if prefix != _IDENTITY_PREFIX or len(secret) != KEY_SIZE:
            raise KeyTextError("this is not an age identity", "it begins with AGE-SECRET-KEY-1 and has 74 characters")
        return cls(secret)

    def encode(self) -> str:
        """`AGE-SECRET-KEY-1…`: the secret itself."""
        return bech32.encode(_IDENTITY_PREFIX.lower(), self._private.private_bytes_raw()).upper()

    def __repr__(self) -> str:
        return f"Identity(recipient={str(self.recipient)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.recipient == other.recipient

    def __hash__(self) -> int:
        return hash(("identity", self.recipient))

    def unwrap(self, stanza: Stanza) -> bytes | None:
        """The file key, or None when the stanza is for somebody else. Raises HeaderError for a malformed X25519 stanza."""
        if stanza.kind != KIND:
            return None
        share = check_stanza(stanza)
        shared = _shared(self._private, share)
        if shared is None:
            raise HeaderError("damaged age header: a recipient's share is a point of low order")
        try:
            return ChaCha20Poly1305(_wrap_key(shared, share, self.recipient._public)).decrypt(_NONCE, stanza.body, None)
        except InvalidTag:
            return None


def parse_identities(text: str) -> list[Identity]:
    """The identities of an identity file: one a line, empty lines and lines that begin with # between them. Raises KeyTextError."""
    lines = [line.strip() for line in text.splitlines()]
    identities = []
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        try:
            identities.append(Identity.parse(line))
        except KeyTextError as error:
            raise KeyTextError(f"line {number} of the identity file: {error.message}", error.hint) from None
    if not identities:
        raise KeyTextError("the identity file holds no identity", "an identity is a line that begins with AGE-SECRET-KEY-1")
    return identities


def check_stanza(stanza: Stanza) -> bytes:
    """The ephemeral share of a well-formed X25519 stanza. Raises HeaderError."""
    if len(stanza.arguments) != 1:
        raise HeaderError("damaged age header: an X25519 recipient has one argument")
    share = encoding.decode(stanza.arguments[0])
    if len(share) != KEY_SIZE:
        raise HeaderError("damaged age header: the share of an X25519 recipient has 32 bytes")
    if len(stanza.body) != WRAPPED_SIZE:  # before any decryption: a body of another size would make a partitioning oracle
        raise HeaderError("damaged age header: the body of an X25519 recipient has 32 bytes")
    return share


def _shared(private: X25519PrivateKey, public: bytes) -> bytes | None:
    """The shared secret, or None when it is all zero."""
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return None


def _wrap_key(shared: bytes, share: bytes, public: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=share + public, info=_INFO).derive(shared)
