"""The age v1 file format (age-encryption.org/v1) on the primitives of `cryptography`: sealing, and reading at any offset.

Every failure is an `AgeError`: HeaderError (ArmorError among them), HmacError, NoMatchError, PayloadError, KeyTextError. A sealed file must
never be changed in place: a chunk's nonce is its number.
"""

from __future__ import annotations

from gateway.age.errors import AgeError, ArmorError, HeaderError, HmacError, KeyTextError, NoMatchError, PayloadError
from gateway.age.header import header_mac, read_header
from gateway.age.identity import Identity, Recipient, parse_identities
from gateway.age.reading import SealedReader
from gateway.age.scrypt import ScryptIdentity, ScryptRecipient
from gateway.age.sealing import SealedKey, new_header, open_bytes, open_payload, open_sealed, open_stream, seal, seal_bytes, unwrap
from gateway.age.writing import SealWriter

__all__ = [
    "AgeError",
    "ArmorError",
    "HeaderError",
    "HmacError",
    "Identity",
    "KeyTextError",
    "NoMatchError",
    "PayloadError",
    "Recipient",
    "ScryptIdentity",
    "ScryptRecipient",
    "SealWriter",
    "SealedKey",
    "SealedReader",
    "header_mac",
    "new_header",
    "open_bytes",
    "open_payload",
    "open_sealed",
    "open_stream",
    "parse_identities",
    "read_header",
    "seal",
    "seal_bytes",
    "unwrap",
]
