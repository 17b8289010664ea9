"""What a process does with memory that it does not need any more, by malloc of glibc.

glibc gives it back to the kernel at once: buffers of 128 KiB and more by munmap, and the end of the heap as soon as 128 KiB of it are free. Whoever
moves large papers asks for the same buffers again a moment later, and every page of them has to be made and cleared anew: two fifths of the
processor time of a download. It has a heap for nearly every thread besides, each of which keeps what it once needed: two heaps for all threads hold
half as much, and nobody waits for the other long.
"""

from __future__ import annotations

import ctypes

KEPT = 4 * 1024 * 1024  # bytes at the end of each heap that stay with the process; larger than any one buffer
LARGEST = 2 * 1024 * 1024  # bytes of a buffer that comes from a heap
HEAPS = 2  # for all threads

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc; see mallopt(3)


def keep_freed_memory() -> None:
    """Keep a little of what is freed, for the next buffer. Nothing is changed where the C library has no mallopt."""
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is not None:
        change(_M_MMAP_THRESHOLD, LARGEST)
        change(_M_TRIM_THRESHOLD, KEPT)
        change(_M_ARENA_MAX, HEAPS)
