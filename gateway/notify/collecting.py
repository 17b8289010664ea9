"""Reading what the audit log has new, from where the outbox says. Nothing that was there before the first start is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gateway.audit.lines import decode_line, line_hash
from gateway.audit.segments import read_lines, segment_ids, segment_path
from gateway.notify.notices import Notice, text_of
from gateway.notify.outbox import Outbox
from gateway.notify.receivers import Receiver

BATCH = 1000  # lines in one transaction


class Collector:
    """Feeds one outbox from the audit log in `folder`. Not thread-safe."""

    def __init__(self, folder: Path, outbox: Outbox, receivers: Sequence[Receiver]) -> None:
        self._folder = folder
        self._outbox = outbox
        self._receivers = receivers
        self._places = outbox.places()
        if not self._places:
            self._places = {segment: _size(segment_path(folder, segment)) for segment in segment_ids(folder)}
            outbox.store((), self._places)

    def collect(self) -> int:
        """Store notices of all new lines; how many there were. Raises OutOfReach."""
        stored = 0
        for segment in segment_ids(self._folder):
            start = self._places.get(segment, 0)
            if _size(segment_path(self._folder, segment)) > start:
                stored += self._segment(segment, start)
        return stored

    def _segment(self, segment: str, start: int) -> int:
        found: list[tuple[str, Notice]] = []
        place, stored = start, 0
        for count, line in enumerate(_lines(segment_path(self._folder, segment), start), 1):
            place += len(line) + 1
            record = decode_line(line)
            if record is not None:
                found += [(receiver.name, _notice(record, line)) for receiver in self._receivers if receiver.wants(str(record.get("event")))]
            if count % BATCH == 0:
                stored += self._store(found, segment, place)
                found = []
        return stored + self._store(found, segment, place)

    def _store(self, found: list[tuple[str, Notice]], segment: str, place: int) -> int:
        self._outbox.store(found, {segment: place})
        self._places[segment] = place
        return len(found)


def _notice(record: dict[str, Any], line: bytes) -> Notice:
    return Notice(0, str(record.get("event")), str(record.get("time")), text_of(record), line_hash(line))


def _lines(path: Path, start: int) -> Iterator[bytes]:
    """Whole lines from `start` on; a line under way is left for the next time."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            for line, whole in read_lines(file):
                if not whole:
                    return
                yield line
    except FileNotFoundError:
        return


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
