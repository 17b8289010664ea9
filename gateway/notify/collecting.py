"""Reading what the audit log has new, from where the outbox says. Nothing that was there before the first start is told."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from gateway.audit.follow import NewLine, ends, new_lines
from gateway.audit.lines import line_hash
from gateway.notify.notices import Notice, plain, text_of
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
            self._places = ends(folder)
            outbox.store((), self._places)

    def collect(self) -> int:
        """Store notices of all new lines; how many there were. Raises OutOfReach."""
        stored = 0
        for _, lines in groupby(enumerate(new_lines(self._folder, dict(self._places))), lambda pair: (pair[1].segment, pair[0] // BATCH)):
            stored += self._store([line for _, line in lines])
        return stored

    def _store(self, lines: Sequence[NewLine]) -> int:
        found = [
            (receiver.name, _notice(line.record, line.line))
            for line in lines
            if line.record is not None
            for receiver in self._receivers
            if receiver.wants(str(line.record.get("event")))
        ]
        last = lines[-1]
        self._outbox.store(found, {last.segment: last.place})
        self._places[last.segment] = last.place
        return len(found)


def _notice(record: dict[str, Any], line: bytes) -> Notice:
    return Notice(0, plain(record.get("event")), plain(record.get("time")), text_of(record), line_hash(line))
