"""What `gateway.age` reads from: any binary file, buffered or raw, seekable or not."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

Source = BinaryIO | io.BufferedIOBase | io.RawIOBase


def fill(file: Source, view: memoryview) -> int:
    """Read from `file` until `view` is full or the file ends; the count of bytes."""
    readinto: Any = getattr(file, "readinto", None)
    done = 0
    while done < len(view):
        if readinto is not None:
            count = readinto(view[done:])
        else:
            data = file.read(len(view) - done) or b""
            count = len(data)
            view[done : done + count] = data
        if not count:
            break
        done += count
    return done


def take(file: Source, length: int) -> bytes:
    """`length` bytes of `file`, fewer only at its end."""
    data = bytearray(length)
    return bytes(data[: fill(file, memoryview(data))])
