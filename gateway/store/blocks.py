"""PaperCipher: seals and opens the blocks, the header and the footer of one spool file.

One key a paper, drawn from the age file key by HKDF-SHA256 (salt: the paper id, info: `nightsafe spool v1`): AES-256-GCM with a fresh random
nonce for each write of a block. At 2^24 blocks of at most 1 TiB a paper the chance that two nonces meet stays below 2^-48.
"""

from __future__ import annotations

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.store.format import (
    BLOCK_DATA,
    FOOTER_MAX,
    HEAD,
    HEADER_SIZE,
    MAC,
    NONCE,
    SHARED,
    SHARED_SIZE,
    TAG,
    Footer,
    FormatError,
    SlotHead,
    SpoolHeader,
    Trailer,
    block_data,
    decode_footer,
    encode_head,
    encode_header,
    slot_size,
)

_INFO = b"nightsafe spool v1"
_FOOTER = b"footer\0\1"
_SHARED = b"shared\0\1"


class PaperCipher:
    """Everything that needs the key of one paper. Thread-safe: it keeps no state but the key. The repr shows none of it."""

    __slots__ = ("_aead", "_mac_key", "_paper")

    def __init__(self, paper: str, file_key: bytes) -> None:
        """`file_key`: the 16 bytes that the age header wraps."""
        self._paper = bytes.fromhex(paper)
        keys = HKDF(SHA256(), 64, self._paper, _INFO).derive(file_key)
        self._aead = AESGCM(keys[:32])
        self._mac_key = keys[32:]

    def header_page(self, header: SpoolHeader) -> bytes:
        """The whole header page with its MAC."""
        body = encode_header(header)
        return body + hmac.digest(self._mac_key, body, "sha256")

    def header_is_ours(self, page: bytes) -> bool:
        """Whether the page is whole and was made with this key, and nothing else was written into it."""
        if len(page) != HEADER_SIZE:
            return False
        return hmac.compare_digest(hmac.digest(self._mac_key, page[:-MAC], "sha256"), page[-MAC:])

    def partial_header_is_ours(self, page: bytes) -> bool:
        """The same of a partial, whatever those who have it open left each other."""
        return self.header_is_ours(page[:SHARED] + bytes(SHARED_SIZE) + page[SHARED + SHARED_SIZE :])

    def shared_mac(self, record: bytes) -> bytes:
        """The MAC of what those who have this partial open leave each other."""
        return hmac.digest(self._mac_key, _SHARED + record, "sha256")

    def seal(self, block: int, plain: memoryview, prefix: int, tail: int, out: memoryview) -> memoryview:
        """Seal a block into `out`; the part of `out` that is the slot."""
        nonce = os.urandom(NONCE)
        length = len(plain)
        head = SlotHead(nonce, length, prefix, tail)
        size = slot_size(length)
        encode_head(out, head)
        self._aead.encrypt_into(nonce, plain, block_data(self._paper, block, head), out[HEAD : size - NONCE])
        out[size - NONCE : size] = nonce
        return out[:size]

    def open(self, block: int, head: SlotHead, sealed: memoryview, into: memoryview) -> bool:
        """Open `sealed` (ciphertext and tag) into the first `head.length` bytes of `into`; False when it is not what was sealed."""
        try:
            self._aead.decrypt_into(head.nonce, sealed, block_data(self._paper, block, head), into[: head.length])
        except InvalidTag:
            into[: head.length] = bytes(head.length)  # what is there now is unproven
            return False
        return True

    def open_slot(self, block: int, slot: memoryview, into: memoryview) -> bool:
        """As `open`, for a whole slot whose head was found to be of a block as long as `into`: the quick way of sequential reading."""
        data = b"".join((BLOCK_DATA, self._paper, block.to_bytes(8, "big"), slot[NONCE:HEAD]))
        try:
            self._aead.decrypt_into(slot[:NONCE], slot[HEAD:-NONCE], data, into)
        except InvalidTag:
            into[:] = bytes(len(into))
            return False
        return True

    def seal_footer(self, footer: Footer) -> bytes:
        """The whole footer, trailer included. Raises FormatError when it is too large."""
        body = footer.encode()
        trailer = Trailer(footer.size, NONCE + len(body) + TAG)
        if trailer.sealed > FOOTER_MAX:
            raise FormatError("the facts of this arrival do not fit into a footer")
        nonce = os.urandom(NONCE)
        end = trailer.encode()
        return nonce + self._aead.encrypt(nonce, body, _FOOTER + self._paper + end) + end

    def open_footer(self, sealed: bytes, trailer: Trailer) -> Footer:
        """The footer. Raises FormatError when it is forged, or another paper's."""
        try:
            body = self._aead.decrypt(sealed[:NONCE], sealed[NONCE:], _FOOTER + self._paper + trailer.encode())
        except InvalidTag:
            raise FormatError("the footer is damaged or forged") from None
        footer = decode_footer(body)
        if footer.size != trailer.size or footer.arrival.paper != self._paper.hex():
            raise FormatError("the footer is another paper's")
        return footer
