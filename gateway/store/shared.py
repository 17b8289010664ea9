"""What several processes that have one partial open must know of it beside its slots: a record in the header page. Pure encoding.

    magic (4), flags (1), number of runs (2), sequence (8), size (8), boot id (16), runs of written bytes (start and end, 8 each), zeros, HMAC (32)

It lies between the age header and the end of the page, is zeros while one process alone has the file open, and zeros for ever once the paper
lands. It is written by whoever has the turn: `BUSY` before something is changed, the outcome afterwards. So who finds it busy knows that
the other was killed meanwhile, and looks at the slots. It is of one life of the machine: nobody syncs it.
"""

from __future__ import annotations

import functools
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from gateway.store.format import MAC, SHARED_SIZE
from gateway.store.intervals import Intervals

_FIXED = struct.Struct(">4sBHQQ16s")
_RUN = struct.Struct(">QQ")
_MAGIC = b"NSSH"
RUNS = (SHARED_SIZE - MAC - _FIXED.size) // _RUN.size
NOTHING = bytes(SHARED_SIZE)

Mac = Callable[[bytes], bytes]


class Flag(IntFlag):
    """What is true of the file."""

    BUSY = 1  # being written: more than `size` may be there
    CUTTING = 2  # being cut to `size`: more than that must go
    FINISHED = 4
    WRITABLE = 8
    BROKEN = 16  # a sync failed: it can never be called durable


@dataclass(frozen=True)
class SharedState:
    """`sequence` grows with every change."""

    sequence: int
    flags: Flag
    size: int
    written: Intervals

    def encode(self, mac: Mac) -> bytes:
        """SHARED_SIZE bytes."""
        runs = self.written.runs(RUNS)
        fixed = _FIXED.pack(_MAGIC, self.flags, len(runs), self.sequence, self.size, boot_id())
        body = (fixed + b"".join(_RUN.pack(*run) for run in runs)).ljust(SHARED_SIZE - MAC, b"\0")
        return body + mac(body)


def decode_shared(data: bytes, mac: Mac) -> SharedState | None:
    """None for anything that was not written under this key, in this life of the machine."""
    if len(data) != SHARED_SIZE or not hmac.compare_digest(mac(data[:-MAC]), data[-MAC:]):
        return None
    magic, flags, count, sequence, size, boot = _FIXED.unpack_from(data)
    if magic != _MAGIC or boot != boot_id() or count > RUNS:
        return None
    written = Intervals()
    for start, end in _RUN.iter_unpack(data[_FIXED.size : _FIXED.size + count * _RUN.size]):
        written.add(start, end)
    return SharedState(sequence, Flag(flags), size, written)


@functools.cache
def boot_id() -> bytes:
    """16 bytes that are others after every start of the machine."""
    return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
