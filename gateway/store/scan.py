"""Reading what slots say in clear, without a key: their heads, tags and echoes, one small read a slot."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from gateway.store.format import (
    BLOCK,
    HEAD,
    HEADER_SIZE,
    NONCE,
    STRIDE,
    TAG,
    TRAILER,
    FormatError,
    SlotHead,
    Trailer,
    decode_head,
    decode_trailer,
    slot_offset,
    slot_size,
)
from gateway.store.seals import GROUP, SEAL, seal_of

_ENDING = TAG + NONCE
_LENGTH = BLOCK.to_bytes(4, "big")
_WHOLE = _LENGTH * 3  # length, prefix and tail of a slot without a gap


class Slot(NamedTuple):
    """A slot as it lies on the disk. `whole` is False when it is torn: its end is missing, or is of an older write."""

    block: int
    head: SlotHead
    tag: bytes
    whole: bool

    @property
    def seal(self) -> bytes:
        """What stands for this slot in the digest over the file."""
        return seal_of(self.head.nonce, self.tag, self.head.length)


def slots(descriptor: int, first: int, stop: int, end: int) -> Iterator[Slot | None]:
    """The slots of blocks [first, stop) of a file whose slots end at `end`, in order; None for a hole. Raises FormatError, OSError."""
    head = os.pread(descriptor, HEAD, slot_offset(first))
    for block in range(first, stop):
        start = slot_offset(block)
        if start >= end:
            return
        ending = os.pread(descriptor, _ENDING + HEAD, start + STRIDE - _ENDING)
        parsed = decode_head(head) if len(head) == HEAD and start + HEAD <= end else _torn_head()
        if parsed is not None:
            own = ending[:_ENDING] if parsed.length == BLOCK else os.pread(descriptor, _ENDING, start + HEAD + parsed.length)
            whole = start + slot_size(parsed.length) <= end and own[TAG:] == parsed.nonce
            yield Slot(block, parsed, own[:TAG], whole)
        else:
            yield None
        head = ending[_ENDING:]


def _torn_head() -> SlotHead:
    raise FormatError("the file ends within the head of a block")


def read_group(descriptor: int, group: int, end: int) -> bytes:
    """The seals of a group of slots, for `seals`. Raises FormatError for a torn slot, OSError."""
    first = group * GROUP
    if is_hole(descriptor, slot_offset(first), min(end, slot_offset(first + GROUP))):
        return b""
    seals = bytearray()
    head = os.pread(descriptor, HEAD, slot_offset(first))
    for block in range(first, first + GROUP):
        start = slot_offset(block)
        if start >= end:
            break
        ending = os.pread(descriptor, _ENDING + HEAD, start + STRIDE - _ENDING)
        if start + STRIDE <= end and head[NONCE:HEAD] == _WHOLE and ending[TAG:_ENDING] == head[:NONCE]:
            seals += head[:NONCE] + ending[:TAG] + _LENGTH  # nearly every slot: the rest is for those that are short, torn, or holes
        else:
            seals += _seal_at(descriptor, block, end)
        head = ending[_ENDING:]
    return bytes(seals)


def _seal_at(descriptor: int, block: int, end: int) -> bytes:
    slot = next(slots(descriptor, block, block + 1, end))
    if slot is not None and not slot.whole:
        raise FormatError(f"block {block} is torn")
    return bytes(SEAL) if slot is None else slot.seal


def is_hole(descriptor: int, start: int, end: int) -> bool:
    """Whether the file system holds nothing in [start, end): a cheap way over the large gaps of sparse files. False is always a safe answer."""
    if start >= end:
        return True
    try:
        return os.lseek(descriptor, start, os.SEEK_DATA) >= end
    except OSError as error:
        return error.errno == errno.ENXIO


def read_trailer(descriptor: int, file_size: int) -> Trailer | None:
    """The trailer of a finished file, None for an unfinished one. Raises OSError."""
    if file_size < HEADER_SIZE + TRAILER:
        return None
    return decode_trailer(os.pread(descriptor, TRAILER, file_size - TRAILER), file_size)


def written_runs(descriptor: int, end: int) -> Iterator[tuple[int, int]]:
    """What was written, as the heads of the slots tell: (start, end) in plaintext bytes, in order. A torn slot has nothing. Raises OSError."""
    try:
        for slot in slots(descriptor, 0, max(0, -(-(end - HEADER_SIZE) // STRIDE)), end):
            if slot is not None and slot.whole:
                start, head = slot.block * BLOCK, slot.head
                yield start, start + head.prefix
                yield start + head.tail, start + head.length
    except FormatError:
        return  # what a dying writer left behind the slots


def gap_free_prefix(descriptor: int, end: int) -> int:
    """Plaintext bytes from the start of the paper up to the first gap or torn slot, as the heads tell. Raises OSError."""
    blocks = max(0, -(-(end - HEADER_SIZE) // STRIDE))
    prefix = 0
    try:
        for slot in slots(descriptor, 0, blocks, end):
            if slot is None or not slot.whole:
                break
            prefix += slot.head.prefix
            if slot.head.prefix < BLOCK:
                break
    except FormatError:
        pass
    return prefix
