"""Events into a bundle: every line as it stands in the log, and a page for people. Streams; what is kept is one counter for each name.

`events.jsonl` has one object a line, oldest first: the line of the log with `segment` added, but for the first of each segment, which has it itself.
Without what was added, in canonical form, its SHA-256 is what `prev` of the next line in that segment says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.audit import page
from gateway.audit.bundle import Bundle
from gateway.audit.events import Event
from gateway.audit.lines import OWN_FIELDS, canonical, line_hash

ON_THE_PAGE = 5000  # events; the JSON lines have all
MOST_NAMES = 1000  # people, addresses, … that are counted one by one
COLUMNS = ("time (UTC)", "role", "event", "who", "client, path", "more")
_APART = OWN_FIELDS | {"segment", "person", "client", "path", "by"}


@dataclass
class Totals:
    """What went by. `segments` has for each the first and last line's number and the last one's hash."""

    events: int = 0
    by_event: Counter[str] = field(default_factory=Counter)
    by_person: Counter[str] = field(default_factory=Counter)
    by_client: Counter[str] = field(default_factory=Counter)
    segments: dict[str, list[Any]] = field(default_factory=dict)

    def take(self, record: Mapping[str, Any]) -> None:
        """Count one record."""
        self.events += 1
        self.by_event[str(record["event"])] += 1
        for counter, name in ((self.by_person, record.get("person")), (self.by_client, record.get("client"))):
            if isinstance(name, str) and name:
                counter[name if name in counter or len(counter) < MOST_NAMES else "(others)"] += 1
        opening = record["event"] == Event.SEGMENT_OPENED
        own = {name: value for name, value in record.items() if opening or name != "segment"}
        first = self.segments.setdefault(str(record["segment"]), [own.get("seq"), None, None])
        first[1:] = [own.get("seq"), line_hash(canonical(own))]

    def values(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "events": self.events,
            "by_event": dict(self.by_event.most_common()),
            "by_person": dict(self.by_person.most_common()),
            "by_client": dict(self.by_client.most_common()),
            "segments": {name: {"first": first, "last": last, "head": head} for name, (first, last, head) in sorted(self.segments.items())},
        }


def write_events(bundle: Bundle, records: Iterable[Mapping[str, Any]], title: str, facts: Mapping[str, object]) -> Totals:
    """Write `events.jsonl` and `page.html` of `records` into a bundle."""
    totals = Totals()
    with bundle.file("events.jsonl") as lines, bundle.file("page.html") as html:
        html.write(page.opening(title))
        html.write(page.facts(facts))
        html.write(page.heading("Events"))
        html.write(page.table_opening(COLUMNS))
        for record in records:
            totals.take(record)
            lines.write(canonical(record) + b"\n")
            if totals.events <= ON_THE_PAGE:
                html.write(page.row(cells(record)))
        html.write(page.TABLE_END)
        if totals.events > ON_THE_PAGE:
            html.write(page.paragraph(f"The first {ON_THE_PAGE:,} of {totals.events:,} events; events.jsonl has all of them.", "soft"))
        for words, counted in (("By event", totals.by_event), ("By person", totals.by_person), ("By client", totals.by_client)):
            html.write(page.heading(words))
            html.write(page.table((words.removeprefix("By "), "events"), counted.most_common()))
        html.write(page.CLOSING)
    return totals


def cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    """A record as a row of COLUMNS."""
    who = " by ".join(str(record[name]) for name in ("person", "by") if record.get(name))
    about = " ".join(str(record[name]) for name in ("client", "path") if record.get(name))
    more = {name: value for name, value in record.items() if name not in _APART and value not in (None, "")}
    return str(record["time"])[:23], str(record["role"]), str(record["event"]), who, about, json.dumps(more, ensure_ascii=False) if more else ""
