"""Once over the plaintext of a landed paper: SHA-256 and the checks in this thread, sealing in another one beside it.

Opening a block, SHA-256 over a piece, sealing it and SHA-256 over what was sealed all let go of the interpreter, so that two threads keep two cores
busy: here a piece is opened, hashed and looked at, and one or two behind it the other thread seals, hashes and writes. Memory: RING pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256

from gateway.store import LandedPaper, SpoolDamaged

PIECE_BYTES = 1024 * 1024
RING = 3  # pieces: one that is opened, one that is sealed, one between them

Take = Callable[[memoryview], object]  # what is done with each piece, which is valid until it returns


def pass_over(landed: LandedPaper, take: Take, write: Take | None, between: Callable[[], None]) -> str:
    """The SHA-256 (hex) of the paper from where it stands. Each piece is given to `take` in this thread and to `write`, in order; `between` is called
    between two pieces. All writing has ended when this returns or raises: what any of them raised, or SpoolDamaged when bytes are missing."""
    digest, left = sha256(), landed.size
    with _ring(min(left, PIECE_BYTES), write, beside=left > PIECE_BYTES) as ring:
        while left:
            buffer = ring.free()
            count = landed.readinto(buffer[: min(left, PIECE_BYTES)])
            if not count:
                raise SpoolDamaged("the spool file ends before the length that its footer tells")
            piece = buffer[:count]
            ring.write(piece)
            digest.update(piece)
            take(piece)
            left -= count
            if left:
                between()
    return digest.hexdigest()


class _Ring:
    """Buffers that are filled here and emptied by `write`: in the thread of `helper` where there is one."""

    def __init__(self, size: int, write: Take | None, helper: Executor | None) -> None:
        self._write = write
        self._helper = helper
        self._free = deque(memoryview(bytearray(size)) for _ in range(RING if helper else 1))
        self._written: deque[Future[None]] = deque()
        self._broken = False

    def free(self) -> memoryview:
        """The buffer that was written longest ago; raises what writing it raised."""
        if len(self._written) == len(self._free):
            self._written.popleft().result()
        self._free.rotate(-1)
        return self._free[-1]

    def write(self, piece: memoryview) -> None:
        """Write a piece of the buffer that was free; it is not to be changed until that is free again."""
        if self._write is None:
            return
        if self._helper is None:
            self._write(piece)
        else:
            self._written.append(self._helper.submit(self._write_next, self._write, piece))

    def end(self) -> None:
        """Wait until all is written; raises what writing raised."""
        while self._written:
            self._written.popleft().result()

    def drop(self) -> None:
        """Write nothing more."""
        self._broken = True

    def _write_next(self, write: Take, piece: memoryview) -> None:
        if self._broken:
            return
        try:
            write(piece)
        except BaseException:
            self._broken = True
            raise


@contextmanager
def _ring(size: int, write: Take | None, *, beside: bool) -> Iterator[_Ring]:
    """A paper of one piece, or one that nobody writes, is not worth a thread."""
    if write is None or not beside:
        yield _Ring(size, write, None)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="ingest-seal") as helper:  # its end waits for what is being written
        ring = _Ring(size, write, helper)
        try:
            yield ring
            ring.end()
        finally:
            ring.drop()
