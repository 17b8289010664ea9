"""SlotStore: one spool file on the disk as a row of slots. It knows where the slots end, and nothing of what is in memory.

Not thread-safe: its SpoolFile holds a lock. OSError does not leave it.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from gateway.store.arrival import Arrival
from gateway.store.blocks import PaperCipher
from gateway.store.buffers import Buffers
from gateway.store.errors import SpoolDamaged, spool_failure
from gateway.store.format import (
    HEAD,
    HEADER_SIZE,
    NONCE,
    STRIDE,
    TAG,
    Footer,
    FormatError,
    SlotHead,
    block_count,
    decode_head,
    slot_offset,
    slot_size,
)
from gateway.store.scan import read_group
from gateway.store.seals import SealTree, seal_of


class Sealable(NamedTuple):
    """A block that is to be written: `plain` is its whole plaintext, `prefix` and `tail` as `format` has them."""

    block: int
    plain: memoryview
    prefix: int
    tail: int


class SlotStore:
    """`end` is where the slots end. While the paper is unfinished every slot holds a whole block; only a footer has a short one before it."""

    def __init__(self, descriptor: int, cipher: PaperCipher, buffers: Buffers, *, new_page: bytes | None = None, end: int = HEADER_SIZE) -> None:
        """`new_page`: the header page of a new file, which is written together with the first thing that is."""
        self.end = end
        self._descriptor = descriptor
        self._cipher = cipher
        self._buffers = buffers
        self._page = new_page
        self._seals = SealTree(self._read_group, 0 if new_page else block_count_on_disk(end))

    def put(self, item: Sealable) -> None:
        """Seal a block and write its slot. On an error what was in the file before still is."""
        out = self._buffers.take()
        try:
            slot = self._seal(item, out)
            self._write(slot_offset(item.block), [slot])
            self._seals.set(item.block, _seal_in(item, slot))
            self.end = max(self.end, slot_offset(item.block) + len(slot))
        finally:
            self._buffers.give(out)

    def get(self, block: int, into: memoryview) -> SlotHead | None:
        """Open a block into `into`; None for a hole. Raises SpoolDamaged."""
        start = slot_offset(block)
        if start >= self.end:
            return None
        sealed = self._buffers.take()
        try:
            return self._open(block, sealed[: self._read(start, sealed[: min(len(sealed), self.end - start)])], into)
        except FormatError as error:
            raise SpoolDamaged(f"a paper in the spool is damaged: {error}") from error
        finally:
            self._buffers.give(sealed)

    def cut(self, blocks: int) -> None:
        """Only the slots of the first `blocks` blocks stay."""
        self._seals.cut(blocks)
        if self.end > slot_offset(blocks):
            self.end = slot_offset(blocks)
            self.drop_footer()

    def drop_footer(self) -> None:
        """Nothing lies behind the slots any more."""
        try:
            os.ftruncate(self._descriptor, self.end if self._page is None else 0)
        except OSError as error:
            raise spool_failure(error, "cutting a paper") from error

    def look_again(self, end: int) -> None:
        """Another process changed the file, whose slots end at `end` now."""
        self.end = max(HEADER_SIZE, end)
        self._seals = SealTree(self._read_group, block_count_on_disk(self.end))

    def write_header(self) -> None:
        """Have the header page in the file."""
        if self._page is not None:
            self._write(0, [])

    def finish(self, arrival: Arrival, size: int, last: Sealable | None) -> None:
        """Write the footer of a paper of `size` bytes, together with its last block when that has not been written. On an error the file is
        an unfinished one, as before."""
        out = self._buffers.take()
        try:
            parts: list[memoryview | bytes] = []
            place = end = self.end
            if last is not None:
                parts.append(self._seal(last, out))
                self._seals.set_last(last.block, _seal_in(last, out))
                place = slot_offset(last.block)
                end = place + len(parts[0])
            parts.append(self._footer(arrival, size, end))
            self._write(place, parts)
            if place + sum(map(len, parts)) < self.end:
                os.ftruncate(self._descriptor, place + sum(map(len, parts)))
            self.end = end
        except OSError as error:
            raise spool_failure(error, "finishing a paper") from error
        except FormatError as error:
            raise SpoolDamaged(f"a paper in the spool is damaged: {error}") from error
        finally:
            self._buffers.give(out)

    def sync(self) -> None:
        """Make the content of the file durable."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise spool_failure(error, "making a paper durable") from error

    def _seal(self, item: Sealable, out: memoryview) -> memoryview:
        slot = self._cipher.seal(item.block, item.plain, item.prefix, item.tail, out)
        start = slot_offset(item.block)
        if start < self.end < start + len(slot):
            # the slot grows in place: have its space first, or a full disk would leave neither the old nor the new
            try:
                os.posix_fallocate(self._descriptor, start, len(slot))
            except OSError as error:
                raise spool_failure(error, "writing a paper") from error
        return slot

    def _footer(self, arrival: Arrival, size: int, end: int) -> bytes:
        root = self._seals.root(block_count(size))
        return self._cipher.seal_footer(Footer(size, end, root, arrival))

    def _open(self, block: int, data: memoryview, into: memoryview) -> SlotHead | None:
        if len(data) < HEAD:
            raise FormatError(f"block {block} is cut off")
        head = decode_head(data)
        if head is None:
            return None
        size = slot_size(head.length)
        if len(data) < size or not self._cipher.open(block, head, data[HEAD : size - NONCE], into):
            raise FormatError(f"block {block} does not open")
        return head

    def _read(self, offset: int, into: memoryview) -> int:
        try:
            return os.preadv(self._descriptor, [into], offset)
        except OSError as error:
            raise spool_failure(error, "reading a paper") from error

    def _read_group(self, group: int, blocks: int) -> bytes:
        try:
            return read_group(self._descriptor, group, min(self.end, slot_offset(blocks)))
        except OSError as error:
            raise spool_failure(error, "reading a paper") from error

    def _write(self, offset: int, parts: list[memoryview | bytes]) -> None:
        """Write `parts` one after the other; the header page before them when it is not there yet."""
        first = self._page
        try:
            if first is not None and offset == HEADER_SIZE:
                write_at(self._descriptor, 0, [first, *parts])
            else:
                if first is not None:
                    write_at(self._descriptor, 0, [first])
                if parts:
                    write_at(self._descriptor, offset, parts)
        except OSError as error:
            self._tidy()
            raise spool_failure(error, "writing a paper") from error
        self._page = None

    def _tidy(self) -> None:
        """After a write that failed: what it left behind the slots goes. The first error is the one to report."""
        try:
            os.ftruncate(self._descriptor, 0 if self._page is not None else self.end)
        except OSError:
            return


def _seal_in(item: Sealable, slot: memoryview) -> bytes:
    """The seal of a slot that was just made."""
    length = len(item.plain)
    tag = HEAD + length
    return seal_of(bytes(slot[:NONCE]), bytes(slot[tag : tag + TAG]), length)


def block_count_on_disk(end: int) -> int:
    """Slots, holes included, of a file whose slots end at `end`."""
    return max(0, -(-(end - HEADER_SIZE) // STRIDE))


def write_at(descriptor: int, offset: int, parts: list[memoryview | bytes]) -> None:
    """Write all of `parts` at `offset`, in order. Raises OSError."""
    written = os.pwrite(descriptor, parts[0], offset) if len(parts) == 1 else os.pwritev(descriptor, parts, offset)
    total = sum(map(len, parts))
    if written == total:
        return
    rest = memoryview(b"".join(parts))[written:]
    offset += written
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest = rest[written:]
        offset += written
