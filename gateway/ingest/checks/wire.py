"""What ingest and a worker process say to each other: frames of a kind, a length and so many bytes, over two pipes.

Ingest sends JOB; the worker asks READ (offset, length) and gets DATA, as often as it likes; it tells ENTRY, PIECE…, ENTRY_END for each unlocked
entry of an archive that is to be scanned, and at last RESULT. Content never leaves the two memories and the pipes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any, Literal

Kind = Literal[b"J", b"R", b"D", b"E", b"P", b"Z", b"F"]
JOB: Kind = b"J"
READ: Kind = b"R"
DATA: Kind = b"D"
ENTRY: Kind = b"E"
PIECE: Kind = b"P"
ENTRY_END: Kind = b"Z"
RESULT: Kind = b"F"

HEAD = struct.Struct(">cI")
SPAN = struct.Struct(">QI")
MOST_BYTES = 1024 * 1024  # of one frame


class Broken(Exception):
    """The other side has gone, or talks nonsense."""


def encode(kind: Kind, data: bytes | memoryview = b"") -> bytes:
    """One frame."""
    return HEAD.pack(kind, len(data)) + bytes(data)


def receive(read: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """(kind, data) of the next frame; `read(n)` gives exactly n bytes, fewer only at the end. Raises Broken."""
    head = read(HEAD.size)
    if len(head) < HEAD.size:
        raise Broken
    kind, length = HEAD.unpack(head)
    if length > MOST_BYTES:
        raise Broken
    data = read(length)
    if len(data) < length:
        raise Broken
    return kind, data


def encode_json(kind: Kind, values: Any) -> bytes:
    """A frame with JSON."""
    return encode(kind, json.dumps(values).encode())


def decode_json(data: bytes) -> dict[str, Any]:
    """Raises Broken unless `data` is a JSON object."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise Broken
    return values
