"""Writing a segment again, after an fsync that failed.

Linux tells of a failed write once, and from then on takes what it could not write for written: the next fsync says that all is well. To write over
it in its place does not help (ext4 leaves the place marked as never written, and gives zeros once the memory is needed elsewhere). So the file is
made anew and takes the place of the old one, its last lines proven to be what was written. At no moment is there less than before.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from pathlib import Path

from config.files import FILE_MODE, PIECE_BYTES, TEMPORARY_PREFIX, write_all
from gateway.audit.lines import line_hash


def write_again(path: Path, start: int, end: int, head: str) -> int | None:
    """A descriptor, for appending and locked, of a new file of `end` bytes that has come to the disk and lies at `path`; the folder is still to be
    synced. None, and nothing changes, when the bytes from `start` on are not whole lines of which the last has the hash `head`: then the kernel
    has given them up, and nobody has them. Raises OSError."""
    with path.open("rb") as source:
        source.seek(start)
        if not _leads_to(source.read(end - start), head):
            return None
        source.seek(0)
        temporary = path.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_APPEND, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            while piece := source.read(min(PIECE_BYTES, end - source.tell())):
                write_all(descriptor, piece)
            os.fsync(descriptor)
            os.rename(temporary, path)
        except BaseException:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
    return descriptor


def _leads_to(data: bytes, head: str) -> bool:
    """Whether `data` is lines of one chain up to `head`. Read from the end: each hash vouches for the line before."""
    *lines, rest = data.split(b"\n")
    for line in reversed(lines):
        if line_hash(line) != head:
            return False
        head = json.loads(line)["prev"]  # it is a line of ours, or it would have another hash
    return not rest
