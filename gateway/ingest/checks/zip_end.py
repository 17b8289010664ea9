"""Where a zip archive ends: its end-of-central-directory record, found as readers find it, whatever stands before it. Pure.

A zip is read from its end. So it may stand behind a program that unpacks it, behind a picture, behind anything; and its comment may hold a second
end, of another archive, that some readers take and some do not. A large archive has a second record (zip64) before the first: who goes by which, and
whether by where it is or by where it is said to be, differs as well. What could be read in two ways is not taken.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

END = struct.Struct("<4s4H2LH")
TAIL_BYTES = END.size + 65_535  # the record, and the longest comment
MAGIC = b"PK\x05\x06"
IN_DIRECTORY = b"PK\x01\x02"
LOCATOR, LOCATOR_BYTES = b"PK\x06\x07", 20  # of a large archive, just before the record
LARGE, LARGE_END, LARGE_LOCATOR = b"PK\x06\x06", struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
LARGE_BYTES = LARGE_END.size + LOCATOR_BYTES  # the record of a large archive and its locator
HEADS = (b"PK\x03\x04", MAGIC, b"PK\x07\x08")  # of an entry, of an empty archive, of a part of one


def is_zip(head: bytes, tail: bytes, size: int) -> bool:
    """Whether readers may take a file of `size` bytes for a zip archive, by its first bytes and its last TAIL_BYTES. Chance is as good as ruled
    out."""
    return head.startswith(HEADS) or any(_reaches_the_end(tail, place) or _has_directory(tail, place, size) for place in _records(tail))


def end_in(tail: bytes) -> int | None:
    """Where in `tail` the record is that Python's zip readers take: one without a comment at the very end, or else the last there is."""
    last = len(tail) - END.size
    if last >= 0 and tail.startswith(MAGIC, last) and tail.endswith(b"\0\0"):
        return last
    place = tail.rfind(MAGIC)
    return place if 0 <= place <= last else None


def is_ambiguous(tail: bytes) -> bool:
    """Whether another record than that of `end_in` reaches exactly to the end, so that other readers see another archive."""
    taken = end_in(tail)
    return any(place != taken and _reaches_the_end(tail, place) for place in _records(tail))


@dataclass(frozen=True)
class Directory:
    """What an end tells of the directory: entries, bytes, where it begins in the file; and where it begins if it lies right before its end."""

    count: int
    size: int
    told: int
    start: int


def directory_of(record: bytes, before: bytes, place: int) -> Directory | None:
    """The directory by the `record` at `place` in the file, with the LARGE_BYTES `before` it, or as many as there are. None when it is damaged, or
    when readers could differ about it."""
    _, disk, _, _, count, size, told, _ = END.unpack_from(record)
    if not before[-LOCATOR_BYTES:].startswith(LOCATOR):
        return None if disk == 0xFFFF or count == 0xFFFF or size == 0xFFFFFFFF else Directory(count, size, told, place - size)
    if len(before) != LARGE_BYTES or not before.startswith(LARGE):
        return None
    _, _, _, _, _, _, _, large_count, large_size, large_told = LARGE_END.unpack_from(before)
    same = count in (large_count, 0xFFFF) and size in (large_size, 0xFFFFFFFF) and told in (large_told, 0xFFFFFFFF)
    start = place - LARGE_BYTES - large_size
    # where the locator points, with as much before the archive as before its directory
    is_here = LARGE_LOCATOR.unpack_from(before, LARGE_END.size)[2] - large_told == large_size
    return Directory(large_count, large_size, large_told, start) if same and is_here else None


def _records(tail: bytes) -> Iterator[int]:
    """Where something begins that may be a record."""
    return (found.start() for found in re.finditer(re.escape(MAGIC), tail) if found.start() <= len(tail) - END.size)


def _reaches_the_end(tail: bytes, place: int) -> bool:
    behind = len(tail) - place - END.size
    return behind == int.from_bytes(tail[place + END.size - 2 : place + END.size], "little")


def _has_directory(tail: bytes, place: int, size: int) -> bool:
    """Whether the directory lies where a record with something behind it tells; one that begins before `tail` is believed when it can be."""
    start: int = place - END.unpack_from(tail, place)[5]
    if tail.startswith(LOCATOR, max(0, place - LOCATOR_BYTES)):
        return True
    return tail.startswith(IN_DIRECTORY, start) if start >= 0 else size - len(tail) + start >= 0
