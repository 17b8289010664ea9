"""Who has a partial open, and whose turn it is: kernel locks of open file descriptions (OFD), which end with their last descriptor whatever
happened. The locked bytes lie far behind any content.

    ALIVE   read: everyone who has the file open for writing. Write: one who must be alone with it (to make, to land)
    SOLE    write: the one process that has it open and keeps unfinished blocks in memory. Nobody's once several have it open
    WANT    read: those who wait for SOLE to be given up
    TURN    write: the one who does something, while several have it open
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable

ALIVE, SOLE, WANT, TURN = range(1 << 62, (1 << 62) + 4)

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid
_F_OFD_GETLK = 36
_F_OFD_SETLK = 37


def hold(descriptor: int, byte: int = ALIVE) -> bool:
    """Lock `byte` through `descriptor` (open for writing) against everyone; False when another open file has it, in this process or any other.
    A lock that was shared before stays so then."""
    return _set(descriptor, fcntl.F_WRLCK, byte)


def share(descriptor: int, byte: int = ALIVE) -> bool:
    """Lock `byte` through `descriptor` (open for reading) beside others who share it; False when somebody holds it alone."""
    return _set(descriptor, fcntl.F_RDLCK, byte)


def release(descriptor: int, byte: int) -> None:
    """Let go of `byte`."""
    _set(descriptor, fcntl.F_UNLCK, byte)


def is_held(descriptor: int, byte: int = ALIVE) -> bool:
    """Whether some other open file has a lock on `byte`, shared or not."""
    answer = fcntl.fcntl(descriptor, _F_OFD_GETLK, _lock(fcntl.F_WRLCK, byte))
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def hold_within(descriptor: int, byte: int, seconds: float, pause: float) -> bool:
    """As `hold`, trying again every `pause` seconds: the kernel's own waiting has no limit."""
    return _within(lambda: hold(descriptor, byte), seconds, pause)


def share_within(descriptor: int, seconds: float, pause: float = 0.005) -> bool:
    """As `share` of ALIVE, trying again."""
    return _within(lambda: share(descriptor), seconds, pause)


def _within(attempt: Callable[[], bool], seconds: float, pause: float) -> bool:
    until = time.monotonic() + seconds
    while not attempt():
        if time.monotonic() >= until:
            return False
        time.sleep(pause)
    return True


def _set(descriptor: int, kind: int, byte: int) -> bool:
    try:
        fcntl.fcntl(descriptor, _F_OFD_SETLK, _lock(kind, byte))
    except (BlockingIOError, PermissionError):
        return False
    return True


def _lock(kind: int, byte: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0)
