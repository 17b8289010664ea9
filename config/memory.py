"""What a process does with memory that it does not need any more, by malloc of glibc.

glibc gives it back to the kernel at once: buffers of 128 KiB and more by munmap, and the end of the heap as soon as 128 KiB of it are free. Whoever
moves large papers asks for the same buffers again a moment later, and every page of them has to be made and cleared anew: two fifths of the
processor time of a download. It has a heap for nearly every thread besides, each of which keeps what it once needed: two heaps for all threads hold
half as much, and nobody waits for the other long.

What lies between buffers that are still in use it never gives back by itself: a heap that papers of all sizes go through is as large as the worst
moment made it, and most of it are holes. A process that works for months, and that nobody waits for, has one heap, takes all that is large from the
kernel and gives it back at once; the holes that are left are given back now and then.
"""

from __future__ import annotations

import ctypes
import threading

KEPT = 4 * 1024 * 1024  # bytes at the end of each heap that stay with the process; larger than any one buffer
LARGEST = 2 * 1024 * 1024  # bytes of a buffer that comes from a heap
HEAPS = 2  # for all threads
# the same where little is held, with one heap for all threads
KEPT_OF_LITTLE = 128 * 1024  # as glibc begins with
LARGEST_OF_LITTLE = 32 * 1024  # less than one chunk of a sealed paper: what is freed of several, side by side, becomes a hole that others break up
EVERY_SECONDS = 10.0  # between two times that memory is given back

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc; see mallopt(3)


def keep_freed_memory() -> None:
    """Keep a little of what is freed, for the next buffer. Nothing is changed where the C library has no mallopt."""
    _set_malloc(largest=LARGEST, kept=KEPT, heaps=HEAPS)


def hold_little_memory() -> None:
    """Keep nothing large of what is freed, and one heap for all threads. Nothing is changed where the C library has no mallopt."""
    _set_malloc(largest=LARGEST_OF_LITTLE, kept=KEPT_OF_LITTLE, heaps=1)


def _set_malloc(*, largest: int, kept: int, heaps: int) -> None:
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is not None:
        change(_M_MMAP_THRESHOLD, largest)
        change(_M_TRIM_THRESHOLD, kept)
        change(_M_ARENA_MAX, heaps)


def give_back_freed_memory() -> None:
    """Give the kernel all pages of the heaps that hold nothing, but for KEPT_OF_LITTLE bytes at their ends. Nothing is done where the C library has
    no malloc_trim. Milliseconds, in which other threads go on as long as they ask for no memory."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(KEPT_OF_LITTLE))


def give_back_by_the_clock(stop: threading.Event) -> None:
    """See give_back_freed_memory: until `stop`."""
    while not stop.wait(EVERY_SECONDS):
        give_back_freed_memory()
