"""Content: the plaintext of one arriving paper, as it lies in its slots and, where blocks are not whole yet, in memory.

Blocks that are not whole yet wait in memory, at most CACHE_BLOCKS of them; a whole one is sealed and written at once. A write that goes over
bytes which are on the disk already is written through, so that a crash never brings older bytes back into what a client resumes.

No locks, no other processes: its SpoolFile knows of those. Not thread-safe.
"""

from __future__ import annotations

from collections import OrderedDict

from gateway.store.buffers import Buffers
from gateway.store.cached import CachedBlock, stored_end
from gateway.store.format import BLOCK, block_count
from gateway.store.intervals import Intervals
from gateway.store.slots import Sealable, SlotStore

CACHE_BLOCKS = 40  # 2.5 MiB a file: more than the 64 outstanding writes of 32 KiB that rclone makes


class Content:
    """`size` in bytes, gaps and what is in memory included; `written` tells what is no gap; `finished`: a footer stands behind the slots."""

    def __init__(self, store: SlotStore, buffers: Buffers, size: int) -> None:
        """[0, size) is there already, without gaps."""
        self.store = store
        self.size = size
        self.written = Intervals(size)
        self.finished = False
        self._buffers = buffers
        self._cache: OrderedDict[int, CachedBlock] = OrderedDict()

    @property
    def prefix(self) -> int:
        """Bytes from the start without a gap."""
        return min(self.size, self.written.run_end(0))

    def write(self, offset: int, view: memoryview) -> None:
        """`view` stands at `offset` from now on."""
        while view:
            number, place = divmod(offset, BLOCK)
            piece = view[: BLOCK - place]
            self._write_piece(number, place, piece)
            view = view[len(piece) :]
            offset += len(piece)
        self._relieve()

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes at `offset`; fewer at the end."""
        end = min(offset + length, self.size)
        parts = []
        while offset < end:
            number, place = divmod(offset, BLOCK)
            upto = min(BLOCK, place + end - offset)
            parts.append(bytes(self.block(number).content(upto)[place:]))
            offset += upto - place
        self._relieve()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def resize(self, size: int) -> None:
        """Cut to `size` bytes, or extend by a gap."""
        if size < self.size:
            self.cut(size)
        self.size = size

    def continue_writing(self) -> None:
        """Take the footer off. The last block may be short on the disk: from now on it waits in memory to be written whole."""
        last = block_count(self.size) - 1
        edge = self.block(last) if self.size % BLOCK else None
        self.store.drop_footer()
        self.finished = False
        self.written = Intervals(self.size)
        if edge is not None:
            edge.dirty = True

    def cut(self, size: int) -> None:
        """Nothing from `size` on is kept, on the disk neither."""
        kept = block_count(size)
        inside = size % BLOCK
        edge = self.block(kept - 1) if inside else None
        for number in [number for number in self._cache if number >= kept]:
            self._drop(number)
        self.written.cut(size)
        self.store.cut(kept)
        if edge is not None and edge.cut(inside):
            self._seal(kept - 1, edge)

    def last(self, number: int) -> Sealable | None:
        """The last block of a paper that is being finished, when it must be written: it changed, or the paper ends within it."""
        inside = self.size % BLOCK
        block = self.block(number) if inside else self._cache.get(number)
        if block is None or not (block.dirty or block.filled):
            return None
        return self._sealable(number, block, inside or BLOCK)

    def flush(self, but: int = -1) -> None:
        """Seal and write every block that came since; but not block `but`."""
        for number in sorted(self._cache):
            block = self._cache[number]
            if block.dirty and number != but:
                self._seal(number, block)

    def forget(self) -> None:
        """Keep nothing in memory."""
        for number in list(self._cache):
            self._drop(number)

    def block(self, number: int) -> CachedBlock:
        """The block in memory, read from the disk when it lies there."""
        block = self._cache.get(number)
        if block is not None:
            return block
        while len(self._cache) >= CACHE_BLOCKS:
            oldest, old = next(iter(self._cache.items()))
            if old.dirty:
                self._seal(oldest, old)
            self._drop(oldest)
        view = self._buffers.take()
        try:
            head = self.store.get(number, view)
        except BaseException:
            self._buffers.give(view)
            raise
        block = self._cache[number] = CachedBlock(view)
        if head is not None:
            start = number * BLOCK
            block.on_disk = True
            block.filled = head.length
            block.dirty = head.length < BLOCK and not self.finished  # what a footer has left behind: it must be written whole
            block.stored = stored_end(head.prefix, head.tail, head.length)
            self.written.add(start, start + head.prefix)
            self.written.add(start + head.tail, start + head.length)
        return block

    def _write_piece(self, number: int, place: int, piece: memoryview) -> None:
        start = number * BLOCK + place
        end = start + len(piece)
        if len(piece) == BLOCK:
            self.store.put(Sealable(number, piece, BLOCK, BLOCK))
            self._drop(number)
            self._took(start, end)
            return
        block = self.block(number)
        over = place < block.stored
        block.write(place, piece)
        self._took(start, end)
        if block.high - block.low == BLOCK:
            self._seal(number, block)
            self._drop(number)
        elif over:
            self._seal(number, block)

    def _took(self, start: int, end: int) -> None:
        self.written.add(start, end)
        if end > self.size:
            self.size = end

    def _sealable(self, number: int, block: CachedBlock, length: int = BLOCK) -> Sealable:
        start = number * BLOCK
        prefix = min(length, self.written.run_end(start) - start)
        tail = max(prefix, self.written.run_start(start + length) - start)
        return Sealable(number, block.content(length), prefix, tail)

    def _seal(self, number: int, block: CachedBlock) -> None:
        item = self._sealable(number, block)
        self.store.put(item)
        block.on_disk = True
        block.stored = stored_end(item.prefix, item.tail, BLOCK)
        block.low = block.high = 0
        block.dirty = False

    def _drop(self, number: int) -> None:
        block = self._cache.pop(number, None)
        if block is not None:
            self._buffers.give(block.view)

    def _relieve(self) -> None:
        if self._buffers.scarce:
            self.flush()
            self.forget()
