"""Reading the audit log: all segments as one stream of events in time order. Whether they are genuine is for `verify` to say."""

from __future__ import annotations

import fnmatch
import heapq
import re
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address, ip_network
from itertools import count
from pathlib import Path
from typing import Any

from gateway.audit.lines import decode_line, stamp
from gateway.audit.segments import read_lines, segment_ids, segment_path, started_at

Record = dict[str, Any]
_EVENTS = re.compile(rb'"event":"([^"]*)"')
_TIMES = re.compile(rb'"time":"([^"]*)"')
_Head = tuple[str, int, Record, Iterator[Record]]  # time, tie-break, what comes next of a segment, what comes after it


@dataclass(frozen=True)
class Filter:
    """Which records; None lets all pass. `event` may hold `*`; `person` is who it is about or who did it; `path` a name or a folder above it;
    `address` an address or a network."""

    client: str | None = None
    person: str | None = None
    event: str | None = None
    path: str | None = None
    address: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def fits(self, record: Record) -> bool:
        """Whether `record` is wanted."""
        return (
            (self.client is None or record.get("client") == self.client)
            and (self.event is None or fnmatch.fnmatchcase(str(record.get("event")), self.event))
            and (self.person is None or self.person in (record.get("person"), record.get("by")))
            and (self.since is None or record["time"] >= stamp(self.since))
            and (self.until is None or record["time"] < stamp(self.until))
            and (self.path is None or any(_below(record.get(end), self.path) for end in ("path", "target")))
            and (self.address is None or _inside(record.get("address"), self.address))
        )


def read(folder: Path, wanted: Filter | None = None, *, limit: int | None = None, only: Collection[str] = (), **names: Any) -> Iterator[Record]:
    """Events, oldest first, each as its line's object plus `segment`; `limit` keeps the newest so many. `wanted` may also be given by names, as
    in `client="acme"`; with `only`, events of other names are not even decoded. Damaged lines are left out.

    Only segments that overlap in time are open at once.
    """
    asked = wanted if wanted is not None else Filter(**names)
    chosen = (record for record in _merged(folder, stamp(asked.since) if asked.since else "", only) if asked.fits(record))
    return iter(deque(chosen, maxlen=limit)) if limit is not None else chosen


def _below(path: object, top: str) -> bool:
    return isinstance(path, str) and (path == top or path.startswith(top.rstrip("/") + "/"))


def _inside(address: object, wanted: str) -> bool:
    if address == wanted:
        return True
    try:
        return ip_address(str(address)) in ip_network(wanted, strict=False)
    except ValueError:
        return False


def _merged(folder: Path, earliest: str, only: Collection[str]) -> Iterator[Record]:
    """All records by time; a segment is opened when the stream has come to the time in its name."""
    waiting = deque(segment_ids(folder))
    heads: list[_Head] = []
    order = count()
    while waiting or heads:
        while waiting and (not heads or started_at(waiting[0]) <= heads[0][0]):
            _push(heads, _records(folder, waiting.popleft(), earliest, only), order)
        if heads:
            _, _, record, rest = heapq.heappop(heads)
            yield record
            _push(heads, rest, order)


def _push(heads: list[_Head], records: Iterator[Record], order: Iterator[int]) -> None:
    record = next(records, None)
    if record is not None:
        heapq.heappush(heads, (record["time"], next(order), record, records))


def _records(folder: Path, segment: str, earliest: str, only: Collection[str]) -> Iterator[Record]:
    """Those of a segment, but for lines that are plainly older than `earliest` or of no event of `only`: these are not even decoded."""
    old, names = earliest.encode(), {name.encode() for name in only}
    try:
        with segment_path(folder, segment).open("rb") as file:
            for line, whole in read_lines(file):
                if old and all(time < old for time in _TIMES.findall(line)):
                    continue
                if names and names.isdisjoint(_EVENTS.findall(line)):
                    continue
                record = decode_line(line) if whole else None
                if record is not None and isinstance(record.get("time"), str):
                    yield {**record, "segment": segment}
    except OSError:
        return
