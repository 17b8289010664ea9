"""A small paper written in one go: header page, its one block, footer. The bytes are those that a SpoolFile would have written, one by one.

Pure but for randomness; `Spool.deposit` puts them on the disk.
"""

from __future__ import annotations

from gateway.store.arrival import Arrival
from gateway.store.blocks import PaperCipher
from gateway.store.format import BLOCK, HEAD, HEADER_SIZE, NONCE, TAG, Footer
from gateway.store.seals import group_digest, root_of, seal_of

MOST = BLOCK  # bytes of plaintext


def seal_whole(cipher: PaperCipher, page: bytes, content: bytes, arrival: Arrival, out: memoryview) -> tuple[list[memoryview | bytes], int]:
    """(the parts of the file in their order, where its slots end); `out` has room for a slot. Raises FormatError when the facts of the arrival
    do not fit."""
    size = len(content)
    parts: list[memoryview | bytes] = [page]
    seals, end = [], HEADER_SIZE
    if size:
        slot = cipher.seal(0, memoryview(content), size, size, out)
        parts.append(slot)
        tag = HEAD + size
        seals.append(group_digest(seal_of(bytes(slot[:NONCE]), bytes(slot[tag : tag + TAG]), size)))
        end += len(slot)
    parts.append(cipher.seal_footer(Footer(size, end, root_of(seals), arrival)))
    return parts, end
