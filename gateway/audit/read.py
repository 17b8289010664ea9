"""Reading the audit log: all segments as one stream of events in time order. Whether they are genuine is for `verify` to say."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from gateway.audit.lines import decode_line, stamp
from gateway.audit.segments import read_lines, segment_ids, segment_path, started_at

Record = dict[str, Any]
_Head = tuple[str, int, Record, Iterator[Record]]  # time, tie-break, what comes next of a segment, what comes after it


def read(
    folder: Path,
    *,
    client: str | None = None,
    person: str | None = None,
    event: str | None = None,
    since: datetime | None = None,
    limit: int | None = None,
) -> Iterator[Record]:
    """Events, oldest first, each as its line's object plus `segment`; `limit` keeps the newest so many. Damaged lines are left out.

    Only segments that overlap in time are open at once.
    """
    wanted = {name: value for name, value in (("client", client), ("person", person), ("event", event)) if value is not None}
    earliest = stamp(since) if since is not None else ""
    chosen = (record for record in _merged(folder) if record["time"] >= earliest and all(record.get(name) == value for name, value in wanted.items()))
    return iter(deque(chosen, maxlen=limit)) if limit is not None else chosen


def _merged(folder: Path) -> Iterator[Record]:
    """All records by time; a segment is opened when the stream has come to the time in its name."""
    waiting = deque(segment_ids(folder))
    heads: list[_Head] = []
    order = count()
    while waiting or heads:
        while waiting and (not heads or started_at(waiting[0]) <= heads[0][0]):
            _push(heads, _records(folder, waiting.popleft()), order)
        if heads:
            _, _, record, rest = heapq.heappop(heads)
            yield record
            _push(heads, rest, order)


def _push(heads: list[_Head], records: Iterator[Record], order: Iterator[int]) -> None:
    record = next(records, None)
    if record is not None:
        heapq.heappush(heads, (record["time"], next(order), record, records))


def _records(folder: Path, segment: str) -> Iterator[Record]:
    try:
        with segment_path(folder, segment).open("rb") as file:
            for line, whole in read_lines(file):
                record = decode_line(line) if whole else None
                if record is not None and isinstance(record.get("time"), str):
                    yield {**record, "segment": segment}
    except OSError:
        return
