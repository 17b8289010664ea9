"""SealWriter: plaintext in, an age payload out, in big pieces and with few copies."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from gateway.age.stream import CHUNK, NONCE_SIZE, SEALED_CHUNK, TAG, ChunkCipher, new_nonce

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BATCH = 16  # sealed chunks per write to the sink: 1 MiB


class Sink(Protocol):
    """Where sealed bytes go. The buffer given to `write` is reused: keep a copy, not the buffer."""

    def write(self, data: memoryview, /) -> int | None:
        """Take `data`; the count taken, or None for all of it."""


class SealWriter:
    """Seals what is written into it. `close` ends the payload; without it the file never opens. Used as a context manager it closes only
    when the block ended well: an exception leaves the file cut off, and recognisably so. Not thread-safe; about 1.1 MiB of memory."""

    def __init__(self, sink: Sink, header: bytes, file_key: bytes) -> None:
        """Writes `header` and the payload nonce at once. OSError of the sink passes through, here and below."""
        nonce = new_nonce()
        self.header = header
        self.size = 0  # plaintext bytes taken
        self.sealed_size = 0  # bytes written to the sink
        self._sink = sink
        self._cipher = ChunkCipher(file_key, nonce)
        self._number = 0
        self._held = memoryview(bytearray(CHUNK))  # plaintext of a chunk that may turn out to be the last
        self._held_length = 0
        self._out = memoryview(b"")  # made when there is something to seal: a small file needs a small one
        self._out_length = 0
        self._open = True
        self._emit(memoryview(header + nonce))

    def write(self, data: ReadableBuffer) -> int:
        """Seal `data` (anything with bytes in it); the number of its bytes."""
        if not self._open:
            raise ValueError("this age writer is closed, or broke earlier")
        view = memoryview(data).cast("B")
        length = len(view)
        try:
            self._take(view)
        except BaseException:
            self._open = False
            raise
        self.size += length
        return length

    def close(self) -> None:
        """Seal the last chunk and write everything out. The sink stays open. A second close does nothing."""
        if not self._open:
            return
        self._open = False
        self._seal(self._held[: self._held_length], last=True)
        self._flush()

    def __enter__(self) -> SealWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        self._open = False

    def _take(self, view: memoryview) -> None:
        if self._held_length:
            topped = min(CHUNK - self._held_length, len(view))
            self._hold(view[:topped])
            view = view[topped:]
            if view and self._held_length == CHUNK:
                self._seal(self._held, last=False)
                self._held_length = 0
        start, end = 0, len(view)
        while end - start > CHUNK:
            self._seal(view[start : start + CHUNK], last=False)
            start += CHUNK
        self._hold(view[start:])

    def _hold(self, view: memoryview) -> None:
        self._held[self._held_length : self._held_length + len(view)] = view
        self._held_length += len(view)

    def _seal(self, plain: memoryview, *, last: bool) -> None:
        if not self._out:
            self._out = memoryview(bytearray(len(plain) + TAG if last else BATCH * SEALED_CHUNK))
        elif self._out_length + SEALED_CHUNK > len(self._out):
            self._flush()
        end = self._out_length + len(plain) + TAG
        self._cipher.seal_into(self._number, last, plain, self._out[self._out_length : end])
        self._out_length = end
        self._number += 1

    def _flush(self) -> None:
        self._emit(self._out[: self._out_length])
        self._out_length = 0

    def _emit(self, data: memoryview) -> None:
        while data:
            taken = self._sink.write(data)
            count = len(data) if taken is None else taken
            self.sealed_size += count
            data = data[count:]


def sealed_overhead(header: bytes) -> int:
    """Bytes that stand before the chunks."""
    return len(header) + NONCE_SIZE
