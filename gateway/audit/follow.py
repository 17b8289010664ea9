"""New lines of the log, as they are written: for whoever follows it from a place that they remember."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.lines import decode_line
from gateway.audit.read import Record
from gateway.audit.segments import read_lines, segment_ids, segment_path

Places = dict[str, int]  # segment → bytes that were read


@dataclass(frozen=True)
class NewLine:
    """A line, and the place behind it. `record` is None for one that is damaged."""

    segment: str
    place: int
    line: bytes
    record: Record | None


def ends(folder: Path) -> Places:
    """Where each segment ends now."""
    return {segment: _size(segment_path(folder, segment)) for segment in segment_ids(folder)}


def new_lines(folder: Path, places: Mapping[str, int]) -> Iterator[NewLine]:
    """Whole lines behind `places`, segment by segment. A line under way is left for the next time."""
    for segment in segment_ids(folder):
        place, path = places.get(segment, 0), segment_path(folder, segment)
        if _size(path) <= place:
            continue
        try:
            with path.open("rb") as file:
                file.seek(place)
                for line, whole in read_lines(file):
                    if not whole:
                        break
                    place += len(line) + 1
                    record = decode_line(line)
                    yield NewLine(segment, place, line, record if record is not None and isinstance(record.get("time"), str) else None)
        except OSError:
            continue


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
