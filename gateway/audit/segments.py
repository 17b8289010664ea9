"""Segments: the files of the audit log, one a process (and a new one when it grows large), and how they are read line by line.

`audit/ROLE-<utc time, compact>-<random>.jsonl`. The name without its ending is the segment's id.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from gateway.audit.lines import MAX_LINE_BYTES

CHECKPOINTS = "checkpoints.jsonl"
_ID = re.compile(r"(?P<role>[a-z0-9][a-z0-9-]{0,31})-(?P<time>[0-9]{8}T[0-9]{12}Z)-[0-9a-f]{8}")


def new_segment_id(role: str, moment: datetime) -> str:
    """An id that no other process makes. Raises ValueError when `role` is no role's name."""
    made = f"{role}-{moment.strftime('%Y%m%dT%H%M%S%fZ')}-{secrets.token_hex(4)}"
    if not _ID.fullmatch(made):
        raise ValueError(f"not the name of a role: {role!r}")
    return made


def role_of(segment: str) -> str | None:
    """The role that a segment's id names; None when it is no segment's id."""
    found = _ID.fullmatch(segment)
    return found["role"] if found else None


def started_at(segment: str) -> str:
    """The time in a segment's id, in a form that sorts like the times in its lines (RFC 3339)."""
    found = _ID.fullmatch(segment)
    time = found["time"] if found else "00000000T000000000000Z"
    return f"{time[:4]}-{time[4:6]}-{time[6:8]}T{time[9:11]}:{time[11:13]}:{time[13:15]}.{time[15:21]}Z"


def segment_path(folder: Path, segment: str) -> Path:
    """The file of a segment."""
    return folder / f"{segment}.jsonl"


def segment_ids(folder: Path) -> list[str]:
    """The ids of all segments in `folder`, by time of opening."""
    found = [name.removesuffix(".jsonl") for name in _names(folder) if name != CHECKPOINTS]
    return sorted((segment for segment in found if role_of(segment)), key=lambda segment: (started_at(segment), segment))


def strangers(folder: Path) -> list[str]:
    """Names that end like segments and are none: a segment that was renamed, or something planted."""
    return sorted(name for name in _names(folder) if name != CHECKPOINTS and role_of(name.removesuffix(".jsonl")) is None)


def read_lines(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """(line without newline, whole) from the current position. `whole` is False for a last line without newline, and for a line that is
    longer than any of ours: nothing follows either.
    """
    while line := file.readline(MAX_LINE_BYTES + 2):
        if not line.endswith(b"\n"):
            yield line, False
            return
        yield line[:-1], True


def is_held(file: BinaryIO) -> bool:
    """Whether a live process still writes this segment."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(file.fileno(), fcntl.LOCK_UN)
    return False


def _names(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.endswith(".jsonl")]
    except FileNotFoundError:
        return []
