"""AES-GCM as SSH uses it (RFC 5647, aes*-gcm@openssh.com), with the cipher made once per key and buffers that the caller keeps.

A packet is: length (4 bytes, in clear, authenticated) | padding length, payload, padding (encrypted) | tag of 16 bytes. The nonce is 4 fixed
bytes and a counter of 8 that goes up by one with each packet.
"""

from __future__ import annotations

import os
import struct

from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import Encryption, GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TAG = 16
BLOCK = 16
HEAD = 4  # bytes of the length
LEAST_PADDING = 4

_COUNTER = struct.Struct(">Q")
_LENGTH = struct.Struct(">I")
_MASK = (1 << 64) - 1


class PacketCipher:
    """One direction under one key. Stands in for asyncssh's own GCMCipher, so that both ways of handling packets share one counter."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._aead = AESGCM(key)
        self._fixed = iv[:4]
        (self._counter,) = _COUNTER.unpack(iv[4:])

    def seal_into(self, packet: bytearray, size: int, out: memoryview) -> int:
        """Encrypt `packet[4:size]` with its length, which is `packet[:4]`, into `out`; the bytes written (size + 16)."""
        nonce = self._fixed + _COUNTER.pack(self._counter)
        out[:HEAD] = packet[:HEAD]
        self._aead.encrypt_into(nonce, memoryview(packet)[HEAD:size], bytes(packet[:HEAD]), out[HEAD : size + TAG])
        self._counter = (self._counter + 1) & _MASK
        return size + TAG

    def open_into(self, packet: memoryview, out: memoryview) -> bool:
        """Decrypt a whole packet (with length and tag) into `out`, which takes its length without both. The counter stays: see `step`.
        False for a forged one."""
        nonce = self._fixed + _COUNTER.pack(self._counter)
        try:
            self._aead.decrypt_into(nonce, packet[HEAD:], packet[:HEAD], out)
        except InvalidTag:
            return False
        return True

    def step(self) -> None:
        """The next packet comes."""
        self._counter = (self._counter + 1) & _MASK

    # asyncssh's own names

    def encrypt_and_sign(self, header: bytes, data: bytes) -> tuple[bytes, bytes]:
        """As asyncssh's."""
        sealed = self._aead.encrypt(self._fixed + _COUNTER.pack(self._counter), data, header)
        self.step()
        return header + sealed[:-TAG], sealed[-TAG:]

    def verify_and_decrypt(self, header: bytes, data: bytes, mac: bytes) -> bytes | None:
        """As asyncssh's."""
        try:
            return self._aead.decrypt(self._fixed + _COUNTER.pack(self._counter), data + mac, header)
        except InvalidTag:
            return None
        finally:
            self.step()


def adopt(encryption: Encryption | None) -> PacketCipher | None:
    """The cipher of a direction, put in the place of asyncssh's; None when it is not AES-GCM."""
    if not isinstance(encryption, GCMEncryption):
        return None
    cipher = encryption._cipher
    if isinstance(cipher, GCMCipher):
        encryption._cipher = PacketCipher(cipher._key, cipher._iv)  # type: ignore[assignment]
    found = encryption._cipher
    return found if isinstance(found, PacketCipher) else None


def frame(packet: bytearray, payload_size: int) -> int:
    """Complete a packet whose payload lies at `packet[5:]`: length, padding length, padding. Its size without the tag."""
    padding = -(payload_size + 1) % BLOCK
    if padding < LEAST_PADDING:
        padding += BLOCK
    end = HEAD + 1 + payload_size
    _LENGTH.pack_into(packet, 0, 1 + payload_size + padding)
    packet[HEAD] = padding
    packet[end : end + padding] = os.urandom(padding)
    return end + padding
