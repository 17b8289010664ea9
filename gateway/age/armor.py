"""ASCII armour around an age file, for reading: strict PEM (RFC 7468, figure 3) with one way to write each file.

The marks, lines of exactly 64 characters, a last line that may be shorter, canonical padding; one kind of line end throughout (LF or CRLF).
Only white space may stand before and after, 1 KiB of it. `ArmoredFile` seeks; `ArmoredStream` reads what cannot be seeked.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
from typing import TYPE_CHECKING

from gateway.age.errors import ArmorError
from gateway.age.source import Source, take

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BEGIN = b"-----BEGIN AGE ENCRYPTED FILE-----"
END = b"-----END AGE ENCRYPTED FILE-----"
LINE = 64  # characters
LINE_BYTES = 48  # what they stand for
WHITE_SPACE = b" \t\n\r\v\f"
WHITE_SPACE_MAX = 1024

_TAIL_MAX = 2 + WHITE_SPACE_MAX + len(END) + 2 + LINE + 2
_BATCH = 1366  # lines at a time: one sealed chunk


def looks_armored(first: bytes) -> bool:
    """Whether a file that begins with the byte `first` is to be read as armour: a binary age file begins with a letter."""
    return first[:1] == b"-" or (first[:1] in WHITE_SPACE and bool(first))


class ArmoredFile(io.RawIOBase):
    """The bytes inside the armour of a seekable file, which it does not close. Lines are checked when they are read."""

    def __init__(self, file: Source) -> None:
        """`file` stands at the armour. Raises ArmorError."""
        super().__init__()
        self._file = file
        self._end_of_line = _read_begin(file)
        self._stride = LINE + len(self._end_of_line)
        self._start = file.tell()
        end = file.seek(0, os.SEEK_END)
        tail_start = max(self._start, end - _TAIL_MAX)
        file.seek(tail_start)
        body_length = tail_start - self._start + _body_end(take(file, end - tail_start), self._end_of_line)
        self._full = max(0, body_length - 1) // self._stride  # lines before the last one
        file.seek(self._start + self._full * self._stride)
        self._last = decode_last(take(file, body_length - self._full * self._stride), self._end_of_line)
        self._size = self._full * LINE_BYTES + len(self._last)
        self._position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position in decoded bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position in decoded bytes."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the start of the file")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Some of the bytes at the position; 0 at the end. Raises ArmorError."""
        target = memoryview(buffer).cast("B")
        if not target or self._position >= self._size:
            return 0
        line, offset = divmod(self._position, LINE_BYTES)
        if line < self._full:
            count = min(_BATCH, self._full - line, -(-(len(target) + offset) // LINE_BYTES))
            self._file.seek(self._start + line * self._stride)
            data = decode_lines(take(self._file, count * self._stride), self._end_of_line)
        else:
            data = self._last
        length = min(len(target), len(data) - offset)
        target[:length] = memoryview(data)[offset : offset + length]
        self._position += length
        return length


class ArmoredStream(io.RawIOBase):
    """The bytes inside the armour of a file that is only read on. Does not close it."""

    def __init__(self, file: Source) -> None:
        """`file` stands at the armour. Raises ArmorError."""
        super().__init__()
        self._file = file
        self._end_of_line = _read_begin(file)
        self._stride = LINE + len(self._end_of_line)
        self._held = b""  # read, but perhaps the last line
        self._ready = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Some bytes; 0 at the end. Raises ArmorError."""
        target = memoryview(buffer).cast("B")
        while not self._ready and not self._ended:
            self._ready = memoryview(self._advance())
        length = min(len(target), len(self._ready))
        target[:length] = self._ready[:length]
        self._ready = self._ready[length:]
        return length

    def _advance(self) -> bytes:
        """Decode the next lines, all but one of those read."""
        text = self._held + take(self._file, _BATCH * self._stride)
        mark = text.find(b"-")  # no line of base64 has it
        if mark < 0 and len(text) >= _BATCH * self._stride:
            ready = len(text) // self._stride * self._stride - self._stride
            self._held = text[ready:]
            return decode_lines(text[:ready], self._end_of_line)
        self._ended = True
        text += take(self._file, _TAIL_MAX)
        if self._file.read(1):
            raise ArmorError("damaged armour: something stands behind its end")
        body = text[: _body_end(text, self._end_of_line)]
        full = max(0, len(body) - 1) // self._stride * self._stride
        return decode_lines(body[:full], self._end_of_line) + decode_last(body[full:], self._end_of_line)


def decode_lines(text: bytes, end_of_line: bytes) -> bytes:
    """The bytes of whole lines, none of them the last. Raises ArmorError."""
    stride = LINE + len(end_of_line)
    count, rest = divmod(len(text), stride)
    ends = all(text[LINE + place :: stride] == end_of_line[place : place + 1] * count for place in range(len(end_of_line)))
    if rest or not ends:
        raise ArmorError("damaged armour: a line has not 64 characters")
    data = _decode(text.translate(None, b"\r\n"))
    if len(data) != count * LINE_BYTES:
        raise ArmorError("damaged armour: padding or a line end within a line")
    return data


def decode_last(text: bytes, end_of_line: bytes) -> bytes:
    """The bytes of the last line; nothing when there is no line at all. Raises ArmorError."""
    if not text:
        return b""
    line = text.removesuffix(end_of_line)
    if len(line) == len(text) or not 0 < len(line) <= LINE:
        raise ArmorError("damaged armour: its last line is malformed")
    data = _decode(line)
    if base64.b64encode(data) != line:
        raise ArmorError("damaged armour: its last line is not in the canonical form")
    return data


def _read_begin(file: Source) -> bytes:
    """Read through the begin line; its line end."""
    left = WHITE_SPACE_MAX
    while left >= 0:
        line = file.readline(left + len(BEGIN) + 2) or b""
        for end_of_line in (b"\r\n", b"\n"):
            if line == BEGIN + end_of_line:
                return end_of_line
        if not line or line.strip(WHITE_SPACE):
            break
        left -= len(line)
    raise ArmorError("this is not an armoured age file")


def _body_end(tail: bytes, end_of_line: bytes) -> int:
    """Where in `tail`, which reaches to the end of the file, the body ends and the end line begins. Raises ArmorError."""
    start = tail.find(b"-")
    line = tail[start : start + len(END)]
    behind = tail[start + len(END) :]
    if start < 0 or line != END:
        raise ArmorError("damaged armour: it has no end line")
    if behind and not behind.startswith(end_of_line):
        raise ArmorError("damaged armour: its end line is malformed")
    if behind.strip(WHITE_SPACE) or len(behind) > WHITE_SPACE_MAX + len(end_of_line):
        raise ArmorError("damaged armour: something stands behind its end")
    return start


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ArmorError("damaged armour: bad base64") from None
