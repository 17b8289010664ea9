"""The payload's chunks: key, nonces and arithmetic of c2sp.org/age ("Payload"). No files here; see writing, reading and sequential.

A payload is a 16-byte nonce and then chunks of 64 KiB plaintext, each followed by a 16-byte tag. The chunk's nonce is its number and a flag
for the last one, so chunks can neither be moved nor dropped. Only an empty payload has an empty last chunk.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.age.errors import PayloadError

CHUNK = 64 * 1024
TAG = 16
SEALED_CHUNK = CHUNK + TAG
NONCE_SIZE = 16

_COUNTER_SIZE = 11


def new_nonce() -> bytes:
    """A fresh payload nonce."""
    return secrets.token_bytes(NONCE_SIZE)


class ChunkCipher:
    """Seals and opens the chunks of one payload, in place of the caller's buffers."""

    __slots__ = ("_cipher",)

    def __init__(self, file_key: bytes, nonce: bytes) -> None:
        """`file_key`: 16 bytes; `nonce`: the payload's 16 bytes."""
        self._cipher = ChaCha20Poly1305(HKDF(algorithm=SHA256(), length=32, salt=nonce, info=b"payload").derive(file_key))

    def seal_into(self, number: int, last: bool, plain: memoryview, sealed: memoryview) -> None:
        """Seal chunk `number`; `sealed` is TAG bytes longer than `plain`."""
        self._cipher.encrypt_into(_chunk_nonce(number, last), plain, None, sealed)

    def open_into(self, number: int, last: bool, sealed: memoryview, plain: memoryview) -> bool:
        """Open chunk `number` into `plain` (TAG bytes shorter). False, and `plain` is zeroed, when it is not that chunk."""
        try:
            self._cipher.decrypt_into(_chunk_nonce(number, last), sealed, None, plain)
        except InvalidTag:
            plain[:] = bytes(len(plain))  # what was not authenticated is not left with the caller
            return False
        return True


@dataclass(frozen=True)
class Layout:
    """Where the chunks of a payload lie."""

    chunks: int
    size: int  # plaintext bytes

    @property
    def last(self) -> int:
        """The number of the last chunk."""
        return self.chunks - 1

    def plain_length(self, number: int) -> int:
        """Plaintext bytes of chunk `number`."""
        return self.size - number * CHUNK if number == self.last else CHUNK


def layout(sealed: int) -> Layout:
    """The layout of `sealed` bytes of chunks (without the payload nonce). Raises PayloadError when no payload has that length."""
    chunks = max(1, -(-sealed // SEALED_CHUNK))
    in_last = sealed - (chunks - 1) * SEALED_CHUNK - TAG
    if in_last < 0 or (in_last == 0 and chunks > 1):
        raise PayloadError("the age file is cut off, or something was added to it")
    return Layout(chunks, (chunks - 1) * CHUNK + in_last)


def sealed_length(size: int) -> int:
    """Bytes of the chunks of `size` plaintext bytes (without header and payload nonce)."""
    return size + max(1, -(-size // CHUNK)) * TAG


def _chunk_nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(_COUNTER_SIZE, "big") + (b"\x01" if last else b"\x00")
