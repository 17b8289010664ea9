"""SpoolFile: one arriving paper, open for reading and writing at any place.

Here: its states (being written, finished, landed, discarded), its handles, and whose turn it is. What is written goes to its `content`. Once several
processes have the file open, every write is written through, and what is in memory are copies of what is on the disk (see `sharing`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from gateway.store import locks
from gateway.store.arrival import Arrival
from gateway.store.blocks import PaperCipher
from gateway.store.buffers import Buffers
from gateway.store.content import Content
from gateway.store.entries import translated
from gateway.store.errors import SpoolBusy, SpoolDamaged, SpoolGone, SpoolTooLarge, StoreFailed, StoreFull
from gateway.store.format import MAX_SIZE, Footer, FormatError, block_count
from gateway.store.intervals import Intervals
from gateway.store.landed import read_footer
from gateway.store.scan import written_runs
from gateway.store.shared import Flag, SharedState
from gateway.store.sharing import Sharing, clear_record
from gateway.store.slots import SlotStore


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

    def is_partial(self, paper: str, descriptor: int) -> bool:
        """Whether this open file is the partial of that name."""


class _Turn:
    """`with`: the file is this thread's, and this process's; what others did to it is known, and what is done is told to them."""

    __slots__ = ("_file",)

    def __init__(self, file: SpoolFile) -> None:
        self._file = file

    def __enter__(self) -> None:
        self._file.enter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.leave(failed=kind is not None)


class SpoolFile:
    """Made by `Spool` alone, shared by all handles of this process on one paper. Thread-safe, and safe beside other processes."""

    def __init__(
        self, owner: Owner, paper: str, client: str, descriptor: int, cipher: PaperCipher, store: SlotStore, buffers: Buffers, size: int = 0
    ) -> None:
        """`descriptor` shares ALIVE and holds SOLE. [0, size) is what the file has already, without gaps."""
        self.paper = paper
        self.client = client
        self.handles = 1
        self._owner = owner
        self._descriptor = descriptor
        self._content = Content(store, buffers, size)
        self._cipher = cipher
        self._lock = threading.RLock()
        self._turn = _Turn(self)
        self._sharing: Sharing | None = None
        self._announced = False
        self._broken = False
        self._writable = True
        self._landed = False
        self._entry_durable = False
        self._refusal: Callable[[], Exception] | None = None

    @property
    def size(self) -> int:
        """The logical size in bytes: gaps and what is still in memory included."""
        if self._sharing is not None:
            with self._turn:
                return self._content.size
        return self._content.size

    @property
    def prefix(self) -> int:
        """Bytes from the start without a gap, what is still in memory included."""
        with self._turn:
            return self._content.prefix

    @property
    def finished(self) -> bool:
        """Whether the file has a footer: it is durable, and may land."""
        if self._sharing is not None:
            with self._turn:
                return self._content.finished
        return self._content.finished

    @property
    def is_shared(self) -> bool:
        """Whether another process has had it open meanwhile."""
        return self._sharing is not None

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `offset`; gaps before it read as zeros. Raises SpoolTooLarge, SpoolFull, StoreFailed, SpoolBusy, SpoolGone."""
        view = memoryview(data)
        if offset < 0 or offset + len(view) > MAX_SIZE:
            raise _too_large()
        with self._turn:
            self._ready_to_write()
            self._announce(Flag.BUSY, self._content.size)
            self._content.write(offset, view)

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes at `offset`; fewer at the end, none behind it. Raises SpoolDamaged, SpoolGone, StoreFailed."""
        with self._turn:
            self._check()
            return self._content.read(offset, length)

    def truncate(self, size: int) -> None:
        """Cut the paper to `size` bytes, or extend it by a gap. Raises as `write`."""
        if not 0 <= size <= MAX_SIZE:
            raise _too_large()
        with self._turn:
            self._ready_to_write()
            self._announce(Flag.BUSY | Flag.CUTTING, size)
            self._content.resize(size)

    def sync(self) -> None:
        """Everything that was written is durable when this returns. Raises SpoolFull, StoreFailed."""
        with self._turn:
            self._check()
            if not self._content.finished:
                self._content.store.write_header()
                self._content.flush()
                self._make_durable()

    def finish(self, arrival: Arrival) -> None:
        """Write everything and the footer; durable when this returns. The paper may then land, or go on by `continue_writing`.

        A finished paper that was continued but not changed keeps its footer, with the facts of its first arrival. Raises SpoolFull, StoreFailed:
        the paper is then unfinished, and nothing that was durable is lost.
        """
        with self._turn:
            self._check()
            self._announce(Flag.BUSY, self._content.size)
            if not self._content.finished:
                last = block_count(self._content.size) - 1
                self._content.flush(but=last)
                self._content.store.finish(arrival, self._content.size, self._content.last(last))
                self._content.forget()
                self._make_durable()
                self._content.finished = True
            self._writable = False

    def continue_writing(self) -> None:
        """A finished paper may be written again. The footer stays until the first change: until then a crash leaves it finished.
        Raises SpoolBusy when it has landed, SpoolGone."""
        with self._turn:
            self._check()
            self._check_landed()
            self._announce(Flag.BUSY, self._content.size)
            self._writable = True

    def close(self) -> bool:
        """Give one handle back. The last one flushes, keeps the file as it is (a partial unless finished) and releases the locks; a lack of space
        then does not raise: what could not be written is not in the prefix. True when nobody, in no process, has the paper open any more; of
        several that close at once one is told so."""
        with self._lock:
            if not self._owner.release(self):
                return False
            try:
                return self._close()
            finally:
                self._end(lambda: SpoolGone("this paper was closed"))
                os.close(self._descriptor)
                self._owner.closed(self)

    def discard(self) -> None:
        """Remove the partial. Every handle that is left, in any process, only raises SpoolGone, and is still to be closed."""
        with self._turn:
            self._check()
            self._check_landed()
            self._announce(Flag.BUSY, self._content.size)
            self._owner.unlink_partial(self.paper)
            self._end(lambda: SpoolGone("this paper was discarded"))

    def land(self, move: Callable[[], None]) -> None:
        """For `Spool.land`: `move` the finished file; reading goes on, writing ends. Raises SpoolBusy unless it is finished and left alone."""
        with self._turn:
            self._check()
            if self._landed:
                move()
                return
            if not self._content.finished or self._writable:
                raise SpoolBusy("this paper is still being written", "finish it first")
            if self._sharing is not None:
                with translated("landing a paper"):
                    if clear_record(self._descriptor):
                        os.fsync(self._descriptor)
                self._sharing.forget()
            move()
            self._landed = True

    def drop_beyond(self) -> None:
        """For `Spool`: what lies behind the gap-free prefix of a resumed file goes."""
        with self._turn:
            self._content.cut(self._content.size)

    def share_if_wanted(self) -> None:
        """For the Attendant: give SOLE up when another process waits for the file. Not now when it is in use."""
        if self._sharing is None and locks.is_held(self._descriptor, locks.WANT) and self._lock.acquire(blocking=False):
            try:
                if self._sharing is None:
                    if self._refusal is None:
                        self.begin_sharing()
                    locks.release(self._descriptor, locks.SOLE)
            finally:
                self._lock.release()

    def begin_sharing(self) -> None:
        """From now on with others: everything is written, and told. Raises SpoolFull, StoreFailed; nothing is changed then."""
        if not self._landed:
            sharing = Sharing(self._descriptor, self._cipher)
            if not self._content.finished:
                self._content.store.write_header()
                self._content.flush()
            sharing.write(self._state(0))
            self._entry_durable = False  # another may find the file finished before this one ever synced the folder
            self._sharing = sharing

    def join(self, sharing: Sharing) -> None:
        """For `Spool`: others have the file open, and have left a record."""
        self._sharing = sharing

    def assume_finished(self) -> None:
        """For `Spool`: the file on the disk has a footer, and this handle may write."""
        self._content.finished = True
        self._entry_durable = True

    def was_deposited(self) -> None:
        """For `Spool`: everything of it is durable, footer and name included."""
        self.assume_finished()
        self._writable = False

    # --- turns

    def enter(self) -> None:
        """For `_Turn`."""
        self._lock.acquire()
        if self._sharing is None or self._refusal is not None or self._landed:
            return
        try:
            self._sharing.take_turn()
            try:
                if self._sharing.changed():
                    with translated("reading a paper"):
                        self._catch_up(self._sharing.record())
            except BaseException:
                self._sharing.forget()
                self._sharing.give_turn()
                raise
        except BaseException:
            self._lock.release()
            raise

    def leave(self, *, failed: bool) -> None:
        """For `_Turn`. After a failure the record stays busy, and whoever comes next looks at the slots."""
        try:
            if self._sharing is not None:
                self._tell(self._sharing, failed=failed)
        finally:
            self._lock.release()

    def _tell(self, sharing: Sharing, *, failed: bool) -> None:
        try:
            if self._announced:
                self._announced = False
                if self._broken:
                    sharing.write(self._state(Flag.BROKEN))
                elif failed:
                    self._content.forget()
                    sharing.forget()
                elif self._refusal is None:
                    if not self._content.finished:
                        self._content.flush()
                    sharing.write(self._state(0))
        finally:
            sharing.give_turn()

    def _announce(self, doing: Flag, size: int) -> None:
        """Before anything is changed: whoever finds this record when it has the turn knows that it was not brought to an end."""
        if self._sharing is not None and not self._announced:
            self._sharing.write(self._state(doing, size))
            self._announced = True

    def _state(self, flags: int, size: int | None = None) -> SharedState:
        now = Flag(flags) | (Flag.FINISHED if self._content.finished else 0) | (Flag.WRITABLE if self._writable else 0)
        sequence = self._sharing.sequence + 1 if self._sharing is not None else 1
        return SharedState(sequence, now, self._content.size if size is None else size, self._content.written)

    def _catch_up(self, state: SharedState | None) -> None:
        """Others had turns."""
        self._content.forget()
        if os.fstat(self._descriptor).st_nlink == 0:
            self._end(lambda: SpoolGone("this paper was discarded"))
        elif state and state.flags & Flag.BROKEN:
            self._end(lambda: StoreFailed("the spool's disk failed while making a paper durable"))
        elif state is None or state.flags & Flag.BUSY:
            self._landed = not self._owner.is_partial(self.paper, self._descriptor)
            self._recover(state)
        else:
            self._content.finished = bool(state.flags & Flag.FINISHED)
            self._writable = bool(state.flags & Flag.WRITABLE)
            self._content.size = state.size
            self._content.written = state.written
            self._content.store.look_again(self._slots_end())

    def _recover(self, state: SharedState | None) -> None:
        """From the slots alone: the paper has landed, or somebody was killed in the middle of something."""
        footer = self._footer()
        self._content.finished = footer is not None
        self._writable = not self._landed and (state is not None or footer is None)
        self._announced = not self._landed  # what is found is told to the others
        self._content.written = Intervals(footer.size if footer else 0)
        self._content.store.look_again(self._slots_end())
        if footer is not None:
            self._content.size = footer.size
            return
        size = state.size if state else 0
        reached = 0
        for start, end in written_runs(self._descriptor, self._content.store.end):
            self._content.written.add(start, end)
            reached = max(reached, end if end > start else 0)
        self._content.size = size if state and state.flags & Flag.CUTTING else max(size, reached)
        self._content.cut(self._content.size)

    def _slots_end(self) -> int:
        footer = self._footer() if self._content.finished else None
        return footer.end if footer else os.fstat(self._descriptor).st_size

    def _footer(self) -> Footer | None:
        try:
            return read_footer(self._descriptor, self._cipher)
        except FormatError:
            return None

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
        if self._content.finished:
            self._content.continue_writing()

    def _make_durable(self) -> None:
        try:
            self._content.store.sync()
            if not self._entry_durable:
                self._owner.sync_partial()
                self._entry_durable = True
        except StoreFailed as error:
            # after a failed fsync the kernel may forget what was not written: this file can never be called durable again
            message = error.message
            self._broken = self._announced = True
            self._end(lambda: StoreFailed(message))
            raise

    def _close(self) -> bool:
        if self._landed and self._sharing is None:
            return True
        try:
            with self._turn:
                if self._refusal is None and not self._content.finished:
                    self._content.store.write_header()
                    self._content.flush()
                return locks.hold(self._descriptor)
        except (StoreFull, StoreFailed, SpoolBusy, SpoolDamaged):
            return False

    def _end(self, refusal: Callable[[], Exception]) -> None:
        self._content.forget()
        if self._refusal is None:
            self._refusal = refusal


def _too_large() -> SpoolTooLarge:
    return SpoolTooLarge("a paper can have 1 TiB at the most")
