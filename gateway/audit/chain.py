"""One segment, read from its first line to its last: does each line follow from the one before, and from what was signed?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.words import counted
from gateway.audit.events import Event
from gateway.audit.lines import MAX_LINE_BYTES, NO_LINE, decode_line, line_hash
from gateway.audit.segments import is_held, read_lines, role_of, segment_path

MAX_PROBLEMS = 20  # of one segment: enough to see what kind of damage it is

Watch = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Mark:
    """What a segment was when it was signed: its number of whole lines, and the hash of the last."""

    lines: int
    head: str


@dataclass
class SegmentState:
    """What a segment is found to be. `marked` tells whether it still holds what its mark says."""

    segment: str
    lines: int = 0
    head: str = NO_LINE
    next_number: int = 0  # what the next line should say of itself
    torn: bool = False
    marked: bool = True
    after: Mark | None = None  # what its first line says of the segment before it …
    after_segment: str = ""  # … whose id this is
    problems: list[str] = field(default_factory=list)

    def complain(self, text: str, *, always: bool = False) -> None:
        """Add a problem, named by the segment; beyond MAX_PROBLEMS they are not worth the memory, but for what is told `always`."""
        if always or len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"{self.segment}: {text}")


def check_segment(folder: Path, segment: str, mark: Mark | None, watch: Watch | None = None) -> SegmentState:
    """Read a segment and compare it with `mark`. `watch` sees (hash, record) of every line that is one of ours."""
    state = SegmentState(segment)
    try:
        with segment_path(folder, segment).open("rb") as file:
            for line, whole in read_lines(file):
                if whole:
                    _take(state, line, mark, watch)
                elif len(line) > MAX_LINE_BYTES:
                    state.complain(f"line {state.lines + 1} is longer than any of this log; nothing after it was read")
                elif not is_held(file):
                    state.torn = True
    except OSError as error:
        state.complain(f"cannot be read: {error.strerror}")
    if mark is not None and state.lines < mark.lines:
        state.marked = False
        state.complain(f"cut off: {counted(mark.lines, 'line was', 'lines were')} signed, {counted(state.lines, 'is', 'are')} left", always=True)
    return state


def _take(state: SegmentState, line: bytes, mark: Mark | None, watch: Watch | None) -> None:
    """Look at the next whole line and go on from it, whatever is wrong with it: one edit is one complaint or two, not a thousand."""
    number = state.lines + 1
    record = decode_line(line)
    if record is None:
        state.complain(f"line {number} is not a line of this log")
        state.next_number += 1
    else:
        _check_record(state, record, number)
    state.lines = number
    state.head = line_hash(line)
    if record is not None and watch is not None:
        watch(state.head, record)
    if mark is not None and number == mark.lines and state.head != mark.head:
        state.marked = False
        state.complain(f"line {number} is not the one that was signed: it, or lines before it, were edited", always=True)


def _check_record(state: SegmentState, record: dict[str, Any], number: int) -> None:
    if number == 1:
        _check_first(state, record)
    told, wanted = record.get("seq"), state.next_number
    state.next_number = (told if isinstance(told, int) else wanted) + 1  # from here on it may be whole again
    if told != wanted:
        gone = told - wanted if isinstance(told, int) else 0
        before = f"{counted(gone, 'line is', 'lines are')} missing before it, removed or moved"
        what = before if gone > 0 else "lines were added or moved"
        state.complain(f"line {number} has the number {told!r} instead of {wanted}: {what}")
    elif record.get("prev") != state.head:
        state.complain(f"line {number} does not follow from the line before it: one of the two was edited, or lines were removed, added or moved")
    if record.get("role") != role_of(state.segment):
        state.complain(f"line {number} is of the role {record.get('role')!r}")


def _check_first(state: SegmentState, record: dict[str, Any]) -> None:
    if record.get("event") != Event.SEGMENT_OPENED or record.get("segment") != state.segment:
        state.complain("its first line is not the opening of this segment: lines were removed, or the file was renamed")
    before, head = record.get("after"), record.get("after_head")
    if isinstance(before, str) and isinstance(head, str):
        state.after_segment, state.after = before, Mark(0, head)
