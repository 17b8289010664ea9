"""The liveness of a partial: a kernel lock of an open file description (OFD), which ends with its last descriptor whatever happened.

The locked byte lies far behind any content, so that byte ranges of the content stay free for locks of their own.
"""

from __future__ import annotations

import fcntl
import os
import struct

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid
_ALIVE = 1 << 62
_F_OFD_GETLK = 36
_F_OFD_SETLK = 37


def hold(descriptor: int) -> bool:
    """Lock the liveness byte through `descriptor` (open for writing); False when another open file holds it, in this process or any other."""
    try:
        fcntl.fcntl(descriptor, _F_OFD_SETLK, _lock(fcntl.F_WRLCK))
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_held(descriptor: int) -> bool:
    """Whether some other open file holds the liveness byte."""
    answer = fcntl.fcntl(descriptor, _F_OFD_GETLK, _lock(fcntl.F_WRLCK))
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _lock(kind: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, _ALIVE, 1, 0)
