"""SealedReader: an age payload as a readable, seekable binary file. Every byte it gives was authenticated."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from gateway.age.errors import HeaderError, PayloadError
from gateway.age.source import Source, fill, take
from gateway.age.stream import CHUNK, NONCE_SIZE, SEALED_CHUNK, TAG, ChunkCipher, layout

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BATCH = 16  # sealed chunks per read of the file, at most


class SealedReader(io.BufferedIOBase):
    """A file of `size` plaintext bytes. `read(n)` gives n bytes unless the end is near; a forged chunk raises PayloadError instead of
    shortening a read. Opening authenticates the last chunk, because only it proves the length. Closing closes the file below.
    Not thread-safe; at most about 1.2 MiB of memory beside what is asked for."""

    def __init__(self, file: Source, file_key: bytes, owned: Source | None = None) -> None:
        """`file` stands at the payload (behind the header) and reaches to its end; `owned` is what `close` closes, if not `file`.

        Raises HeaderError without a nonce, else PayloadError; nothing is closed then.
        """
        super().__init__()
        self._owned: Source | None = None
        self._file = file
        nonce = take(file, NONCE_SIZE)
        if len(nonce) < NONCE_SIZE:
            raise HeaderError("the age file ends before its payload")
        self._start = file.tell()
        shape = layout(file.seek(0, os.SEEK_END) - self._start)
        self.size = shape.size
        self._layout = shape
        self._cipher = ChunkCipher(file_key, nonce)
        self._position = 0
        self._sealed = memoryview(bytearray(0))
        self._plain = memoryview(bytearray(min(CHUNK, max(1, shape.size))))
        self._cached = -1  # number of the chunk in _plain
        self._load(shape.last)
        self._owned = owned or file

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position in plaintext bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position, which may lie behind the end. Costs nothing. ValueError for one before the start."""
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError("unknown whence")
        if base + offset < 0:
            raise ValueError("a position before the start of the file")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """`size` bytes, fewer at the end; all that is left for None or a negative size."""
        self._check_open()
        left = max(0, self.size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        data = io.BytesIO(bytes(wanted))  # hands its bytes out without the copy that a bytearray would need
        with data.getbuffer() as view:
            self.readinto(view)
        return data.getvalue()

    def read1(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, one chunk at most."""
        return self.read(CHUNK if size < 0 else min(size, CHUNK))

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` as far as the file reaches. On PayloadError the position stays, and nothing unauthenticated is in the buffer."""
        self._check_open()
        target = memoryview(buffer).cast("B")
        target = target[: max(0, min(len(target), self.size - self._position))]
        place = self._position
        done = 0
        while done < len(target):
            done += self._step(place + done, target[done:])
        self._position = place + done
        return done

    readinto1 = readinto

    def close(self) -> None:
        """Close the file below, too."""
        if not self.closed and self._owned is not None:
            self._plain[:] = bytes(len(self._plain))
            self._owned.close()
        super().close()

    def __repr__(self) -> str:
        return f"<SealedReader of {self.size} bytes>"

    def _step(self, place: int, target: memoryview) -> int:
        """Read some bytes at `place`: many whole chunks straight into `target`, or a part of one."""
        number, offset = divmod(place, CHUNK)
        whole = min(len(target) // CHUNK, self._layout.last - number, BATCH)
        if offset == 0 and whole > 0:
            self._open_whole(number, whole, target)
            return whole * CHUNK
        self._load(number)
        length = min(len(target), self._layout.plain_length(number) - offset)
        target[:length] = self._plain[offset : offset + length]
        return length

    def _open_whole(self, number: int, count: int, target: memoryview) -> None:
        """Open `count` chunks from `number` on, none of them the last, into `target`."""
        sealed = self._fetch(number, count * SEALED_CHUNK)
        for place in range(count):
            chunk = sealed[place * SEALED_CHUNK : (place + 1) * SEALED_CHUNK]
            if not self._cipher.open_into(number + place, False, chunk, target[place * CHUNK : (place + 1) * CHUNK]):
                raise PayloadError(_damaged(number + place))

    def _load(self, number: int) -> None:
        """Have chunk `number` in the cache."""
        if self._cached == number:
            return
        length = self._layout.plain_length(number)
        sealed = self._fetch(number, length + TAG)
        self._cached = -1
        if not self._cipher.open_into(number, number == self._layout.last, sealed, self._plain[:length]):
            raise PayloadError(_damaged(number))
        self._cached = number

    def _fetch(self, number: int, length: int) -> memoryview:
        """`length` sealed bytes from chunk `number` on, in a buffer that the next call reuses."""
        if len(self._sealed) < length:
            self._sealed = memoryview(bytearray(length))
        view = self._sealed[:length]
        self._file.seek(self._start + number * SEALED_CHUNK)
        if fill(self._file, view) < length:
            raise PayloadError("the age file became shorter while it was read")
        return view

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


def _damaged(number: int) -> str:
    return f"the age file is damaged, cut off or forged (64 KiB chunk {number})"
