"""Taking up a partial whose writer is gone: what of it is sound?"""

from __future__ import annotations

import os
from dataclasses import dataclass

from gateway.store.blocks import PaperCipher
from gateway.store.buffers import Buffers
from gateway.store.errors import SpoolDamaged
from gateway.store.format import BLOCK, HEADER_SIZE, FormatError, block_count
from gateway.store.landed import read_footer
from gateway.store.scan import gap_free_prefix
from gateway.store.slots import SlotStore


@dataclass(frozen=True)
class Resumed:
    """`size`: bytes without a gap that opened, or of the whole paper when it is `finished`. `torn`: the heads had promised more."""

    store: SlotStore
    size: int
    finished: bool = False
    torn: bool = False


def resume(descriptor: int, cipher: PaperCipher, buffers: Buffers) -> Resumed:
    """Look at a partial. Every block of the prefix is opened, because only that proves it. Changes nothing. Raises SpoolDamaged, OSError."""
    check_header(descriptor, cipher)
    try:
        footer = read_footer(descriptor, cipher)
    except FormatError:
        footer = None  # torn by a crash of the machine: it was never acknowledged
    if footer is not None:
        return Resumed(SlotStore(descriptor, cipher, buffers, end=footer.end), footer.size, finished=True)
    end = os.fstat(descriptor).st_size
    promised = gap_free_prefix(descriptor, end)
    store = SlotStore(descriptor, cipher, buffers, end=end)
    sound = _sound(store, buffers, promised)
    return Resumed(store, sound, torn=sound < promised)


def check_header(descriptor: int, cipher: PaperCipher) -> None:
    """Raises SpoolDamaged when the header page of a partial was not made with this key."""
    if not cipher.partial_header_is_ours(os.pread(descriptor, HEADER_SIZE, 0)):
        raise SpoolDamaged("a partial in the spool is damaged: its header was changed, or belongs to another key")


def _sound(store: SlotStore, buffers: Buffers, promised: int) -> int:
    """How much of the first `promised` bytes opens."""
    view = buffers.take()
    try:
        for block in range(block_count(promised)):
            try:
                head = store.get(block, view)
            except SpoolDamaged:
                head = None
            if head is None:
                return block * BLOCK
        return promised
    finally:
        buffers.give(view)
