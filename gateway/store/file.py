"""SpoolFile: one arriving paper, open for reading and writing at any place.

Blocks that are not whole yet wait in memory, at most CACHE_BLOCKS of them; a whole one is sealed and written at once. A write that goes over
bytes which are on the disk already is written through, so that a crash never brings older bytes back into what a client resumes.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from gateway.store.arrival import Arrival
from gateway.store.buffers import Buffers
from gateway.store.errors import SpoolBusy, SpoolGone, SpoolTooLarge, StoreFailed, StoreFull
from gateway.store.format import BLOCK, MAX_SIZE, block_count
from gateway.store.intervals import Intervals
from gateway.store.slots import Sealable, SlotStore

CACHE_BLOCKS = 40  # 2.5 MiB a file: more than the 64 outstanding writes of 32 KiB that rclone makes
_ZEROS = memoryview(bytes(BLOCK))


class Owner(Protocol):
    """What a SpoolFile needs of its spool."""

    def release(self, file: SpoolFile) -> bool:
        """One handle fewer; True when it was the last."""

    def closed(self, file: SpoolFile) -> None:
        """The descriptor is closed."""

    def sync_partial(self) -> None:
        """Make the folder durable."""

    def unlink_partial(self, paper: str) -> None:
        """Remove the file's name."""


class _Block:
    """Plaintext of one block. [0, filled) is set; what the disk tells as written lies below `stored`; [low, high) came since it was last
    sealed."""

    __slots__ = ("dirty", "filled", "high", "low", "on_disk", "stored", "view")

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.filled = self.stored = 0
        self.on_disk = False
        self.low = self.high = 0
        self.dirty = False

    def write(self, place: int, data: memoryview) -> None:
        """`data` stands at `place` from now on."""
        end = place + len(data)
        if place > self.filled:
            self.view[self.filled : place] = _ZEROS[: place - self.filled]
        self.view[place:end] = data
        if end > self.filled:
            self.filled = end
        if self.low <= end and place <= self.high and self.high:
            self.low = min(self.low, place)
            self.high = max(self.high, end)
        else:
            self.low, self.high = place, end
        self.dirty = True

    def cut(self, length: int) -> bool:
        """Only `length` bytes stay. True when the disk tells of bytes behind them, which must go, too."""
        gone = bytes(self.view[length : self.filled])
        self.filled = min(self.filled, length)
        self.low = self.high = 0
        return self.on_disk and (self.stored > length or gone.count(0) < len(gone))

    def content(self, length: int) -> memoryview:
        """The first `length` bytes; zeros where nothing was written."""
        if length > self.filled:
            self.view[self.filled : length] = _ZEROS[: length - self.filled]
            self.filled = length
        return self.view[:length]


class SpoolFile:
    """Made by `Spool` alone, shared by all handles of this process on one paper. Thread-safe."""

    def __init__(self, owner: Owner, paper: str, client: str, descriptor: int, store: SlotStore, buffers: Buffers, size: int = 0) -> None:
        """`descriptor` holds the liveness lock. [0, size) is what the file has already, without gaps."""
        self.paper = paper
        self.client = client
        self.handles = 1
        self._owner = owner
        self._descriptor = descriptor
        self._store = store
        self._buffers = buffers
        self._lock = threading.RLock()
        self._cache: OrderedDict[int, _Block] = OrderedDict()
        self._written = Intervals(size)
        self._size = size
        self._finished = False
        self._writable = True
        self._landed = False
        self._entry_durable = False
        self._refusal: Callable[[], Exception] | None = None

    @property
    def size(self) -> int:
        """The logical size in bytes: gaps and what is still in memory included."""
        return self._size

    @property
    def prefix(self) -> int:
        """Bytes from the start without a gap, what is still in memory included."""
        with self._lock:
            return min(self._size, self._written.run_end(0))

    @property
    def finished(self) -> bool:
        """Whether the file has a footer: it is durable, and may land."""
        return self._finished

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `offset`; gaps before it read as zeros. Raises SpoolTooLarge, SpoolFull, StoreFailed, SpoolBusy, SpoolGone."""
        view = memoryview(data)
        if offset < 0 or offset + len(view) > MAX_SIZE:
            raise _too_large()
        with self._lock:
            self._ready_to_write()
            while view:
                number, place = divmod(offset, BLOCK)
                piece = view[: BLOCK - place]
                self._write_piece(number, place, piece)
                view = view[len(piece) :]
                offset += len(piece)
            if self._buffers.scarce:
                self._flush()
                self._forget()

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes at `offset`; fewer at the end, none behind it. Raises SpoolDamaged, SpoolGone, StoreFailed."""
        with self._lock:
            self._check()
            end = min(offset + length, self._size)
            parts = []
            while offset < end:
                number, place = divmod(offset, BLOCK)
                upto = min(BLOCK, place + end - offset)
                parts.append(bytes(self._block(number).content(upto)[place:]))
                offset += upto - place
            if self._buffers.scarce:
                self._flush()
                self._forget()
            return parts[0] if len(parts) == 1 else b"".join(parts)

    def truncate(self, size: int) -> None:
        """Cut the paper to `size` bytes, or extend it by a gap. Raises as `write`."""
        if not 0 <= size <= MAX_SIZE:
            raise _too_large()
        with self._lock:
            self._ready_to_write()
            if size < self._size:
                self._cut(size)
            self._size = size

    def sync(self) -> None:
        """Everything that was written is durable when this returns. Raises SpoolFull, StoreFailed."""
        with self._lock:
            self._check()
            if not self._finished:
                self._store.write_header()
                self._flush()
                self._make_durable()

    def finish(self, arrival: Arrival) -> None:
        """Write everything and the footer; durable when this returns. The paper may then land, or go on by `continue_writing`.

        A finished paper that was continued but not changed keeps its footer, with the facts of its first arrival. Raises SpoolFull, StoreFailed:
        the paper is then unfinished, and nothing that was durable is lost.
        """
        with self._lock:
            self._check()
            if not self._finished:
                last = block_count(self._size) - 1
                self._flush(but=last)
                self._store.finish(arrival, self._size, self._last(last))
                self._forget()
                self._make_durable()
                self._finished = True
            self._writable = False

    def continue_writing(self) -> None:
        """A finished paper may be written again. The footer stays until the first change: until then a crash leaves it finished.
        Raises SpoolBusy when it has landed, SpoolGone."""
        with self._lock:
            self._check()
            self._check_landed()
            self._writable = True

    def close(self) -> None:
        """Give one handle back. The last one flushes, keeps the file as it is (a partial unless finished) and releases the lock; a lack of space
        then does not raise: what could not be written is not in the prefix."""
        with self._lock:
            if not self._owner.release(self):
                return
            try:
                if self._refusal is None and not self._finished:
                    self._store.write_header()
                    self._flush()
            except (StoreFull, StoreFailed):
                pass
            finally:
                self._end(lambda: SpoolGone("this paper was closed"))
                os.close(self._descriptor)
                self._owner.closed(self)

    def discard(self) -> None:
        """Remove the partial. Every handle that is left only raises SpoolGone, and is still to be closed."""
        with self._lock:
            self._check()
            self._check_landed()
            self._owner.unlink_partial(self.paper)
            self._end(lambda: SpoolGone("this paper was discarded"))

    def land(self, move: Callable[[], None]) -> None:
        """For `Spool.land`: `move` the finished file; reading goes on, writing ends. Raises SpoolBusy unless it is finished and left alone."""
        with self._lock:
            self._check()
            if not self._finished or self._writable:
                raise SpoolBusy("this paper is still being written", "finish it first")
            move()
            self._landed = True

    def drop_beyond(self) -> None:
        """For `Spool`: what lies behind the gap-free prefix of a resumed file goes."""
        with self._lock:
            self._cut(self._size)

    def assume_finished(self) -> None:
        """For `Spool`: the file on the disk has a footer, and this handle may write."""
        self._finished = True
        self._entry_durable = True

    # --- all below runs under the lock

    def _check(self) -> None:
        if self._refusal is not None:
            raise self._refusal()

    def _check_landed(self) -> None:
        if self._landed:
            raise SpoolBusy("this paper has landed", "a new version is a new paper")

    def _ready_to_write(self) -> None:
        self._check()
        self._check_landed()
        if not self._writable:
            raise SpoolBusy("this paper is finished", "open it again for writing")
        if self._finished:
            self._continue()

    def _continue(self) -> None:
        """Take the footer off. The last block may be short on the disk: from now on it waits in memory to be written whole."""
        last = block_count(self._size) - 1
        edge = self._block(last) if self._size % BLOCK else None
        self._store.drop_footer()
        self._finished = False
        self._written = Intervals(self._size)
        if edge is not None:
            edge.dirty = True

    def _write_piece(self, number: int, place: int, piece: memoryview) -> None:
        start = number * BLOCK + place
        end = start + len(piece)
        if len(piece) == BLOCK:
            self._store.put(Sealable(number, piece, BLOCK, BLOCK))
            self._drop(number)
            self._took(start, end)
            return
        block = self._block(number)
        over = place < block.stored
        block.write(place, piece)
        self._took(start, end)
        if block.high - block.low == BLOCK:
            self._seal(number, block)
            self._drop(number)
        elif over:
            self._seal(number, block)

    def _took(self, start: int, end: int) -> None:
        self._written.add(start, end)
        if end > self._size:
            self._size = end

    def _cut(self, size: int) -> None:
        kept = block_count(size)
        inside = size % BLOCK
        edge = self._block(kept - 1) if inside else None
        for number in [number for number in self._cache if number >= kept]:
            self._drop(number)
        self._written.cut(size)
        self._store.cut(kept)
        if edge is not None and edge.cut(inside):
            self._seal(kept - 1, edge)

    def _block(self, number: int) -> _Block:
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
            head = self._store.get(number, view)
        except BaseException:
            self._buffers.give(view)
            raise
        block = self._cache[number] = _Block(view)
        if head is not None:
            start = number * BLOCK
            block.on_disk = True
            block.filled = head.length
            block.dirty = head.length < BLOCK and not self._finished  # what a footer has left behind: it must be written whole
            block.stored = _stored(head.prefix, head.tail, head.length)
            self._written.add(start, start + head.prefix)
            self._written.add(start + head.tail, start + head.length)
        return block

    def _sealable(self, number: int, block: _Block, length: int = BLOCK) -> Sealable:
        start = number * BLOCK
        prefix = min(length, self._written.run_end(start) - start)
        tail = max(prefix, self._written.run_start(start + length) - start)
        return Sealable(number, block.content(length), prefix, tail)

    def _seal(self, number: int, block: _Block) -> None:
        item = self._sealable(number, block)
        self._store.put(item)
        block.on_disk = True
        block.stored = _stored(item.prefix, item.tail, BLOCK)
        block.low = block.high = 0
        block.dirty = False

    def _last(self, number: int) -> Sealable | None:
        """The last block of a paper that is being finished, when it must be written: it changed, or the paper ends within it."""
        inside = self._size % BLOCK
        block = self._block(number) if inside else self._cache.get(number)
        if block is None or not (block.dirty or block.filled):
            return None
        return self._sealable(number, block, inside or BLOCK)

    def _flush(self, but: int = -1) -> None:
        for number in sorted(self._cache):
            block = self._cache[number]
            if block.dirty and number != but:
                self._seal(number, block)

    def _drop(self, number: int) -> None:
        block = self._cache.pop(number, None)
        if block is not None:
            self._buffers.give(block.view)

    def _forget(self) -> None:
        for number in list(self._cache):
            self._drop(number)

    def _make_durable(self) -> None:
        try:
            self._store.sync()
            if not self._entry_durable:
                self._owner.sync_partial()
                self._entry_durable = True
        except StoreFailed as error:
            # after a failed fsync the kernel may forget what was not written: this file can never be called durable again
            message = error.message
            self._end(lambda: StoreFailed(message))
            raise

    def _end(self, refusal: Callable[[], Exception]) -> None:
        self._forget()
        if self._refusal is None:
            self._refusal = refusal


def _stored(prefix: int, tail: int, length: int) -> int:
    """The end of what was written of a slot's content."""
    return length if tail < length else prefix


def _too_large() -> SpoolTooLarge:
    return SpoolTooLarge("a paper can have 1 TiB at the most")
