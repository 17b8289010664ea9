"""A day's summary for each client, signed like a receipt: /receipts/summaries/YYYY-MM-DD.json lists every paper of that day (UTC) with its verdict.

It is written when the day is over, and anew when something changes afterwards: a paper that ingest came to late, a verdict that a person changed.
Days that have none because ingest was down are made up for. With it a client sees in one look that nothing is missing.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import structlog

from config.errors import NightsafeError
from config.printable import json_line
from gateway.audit.events import Event
from gateway.audit.signatures import RECEIPT, sign
from gateway.catalog.rows import Paper
from gateway.ingest.handing import read_plain
from gateway.ingest.parts import Parts
from gateway.ingest.receipts import FOLDER, SIGNATURE_SUFFIX, receipt_path, rfc3339
from gateway.jail.paths import path_of
from gateway.jail.refused import Refused

VERSION = 1  # of the summary's form, in "nightsafe_summary"
DAYS = 7  # that are looked at again
MOST_BACK = 92  # days: those that are older are not looked for, whatever they lack
MOST_AT_ONCE = 31  # days that are made up for in one go
MOST_LISTED = 10_000  # papers; a day with more is counted in full, and listed so far
MOST_BYTES = 16 * 1024 * 1024  # of a summary; with names so long that it would have more, fewer papers are listed
ROOM_BYTES, ROOM_BYTES_EACH = 4096, 64  # for what stands around the list, and for the line breaks of one paper in it
FIRST_SECONDS, EVERY_SECONDS = 90.0, 3600.0


def summary_path(day: date) -> str:
    """The virtual path of a day's summary."""
    return f"/{FOLDER}/summaries/{day.isoformat()}.json"


@dataclass
class Papers:
    """What a client sent in a day: all are counted, and the first MOST_LISTED kept. A client may send millions."""

    count: int = 0
    size: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    _first: list[Paper] = field(default_factory=list)

    def take(self, paper: Paper) -> None:
        """One more, in any order."""
        self.count += 1
        self.size += paper.size
        self.verdicts[_verdict(paper)] += 1
        self._first.append(paper)
        if len(self._first) > 2 * MOST_LISTED:
            self.first()

    def first(self) -> list[Paper]:
        """The first of the day, in order."""
        self._first.sort(key=lambda paper: (paper.received_at, paper.id))
        del self._first[MOST_LISTED:]
        return self._first


def summary_body(client: str, day: date, papers: Papers, audit_head: str) -> bytes:
    """The summary of `papers`, all of one client and day: JSON in UTF-8, keys sorted."""
    facts = {
        "nightsafe_summary": VERSION,
        "client": client,
        "day": day.isoformat(),
        "papers": papers.count,
        "bytes": papers.size,
        "verdicts": dict(papers.verdicts),
        "listed": list(_first_listed(papers)),
        "audit_head": audit_head,
    }
    return (json_line(facts, indent=1, sort_keys=True) + "\n").encode()


Seen = dict[date, object]  # how the papers of a day stood when all its summaries were as they should be


def summarise(parts: Parts, today: date, seen: Seen | None = None) -> int:
    """Write the summaries of the last DAYS days before `today` that are missing or out of date, and of older ones that were missed; how many.
    A day that stands as in `seen` is not looked at; the others are remembered there. Raises CatalogError, AuditUnavailable."""
    seen = {} if seen is None else seen
    last = [today - timedelta(days=ago) for ago in range(DAYS, 0, -1)]
    old = sum(_sum_up(parts, day, seen, is_old=True) for day in _missed(parts, today, seen))
    return old + sum(_sum_up(parts, day, seen) for day in last)


def summarise_by_the_clock(parts: Parts, stop: threading.Event) -> None:
    """Look every hour, at days that changed, until `stop` is set."""
    wait, seen, last = FIRST_SECONDS, Seen(), date.min
    while not stop.wait(wait):
        wait, today = EVERY_SECONDS, parts.now().astimezone(UTC).date()
        if today != last:  # once a day all are compared with what lies in the jails
            seen, last = Seen(), today
        try:
            summarise(parts, today, seen)
        except (NightsafeError, OSError) as error:
            structlog.get_logger().error("ingest.summaries_failed", error=str(error))


def _sum_up(parts: Parts, day: date, seen: Seen, *, is_old: bool = False) -> int:
    """One day, for all clients. What fails on an old day is not tried again with these `seen`, which are a day's: it would keep others waiting."""
    standing = parts.catalog.standing_between(*_span(day))
    if seen.get(day) == standing:
        return 0
    written, whole = 0, True
    for client, papers in _by_client(parts, day):
        try:
            written += _write(parts, client, day, papers, is_old=is_old)
        except (Refused, OSError) as error:  # one client's jail must not stop the others
            whole = False
            structlog.get_logger().warning("ingest.summary_failed", client=client, day=day.isoformat(), error=str(error))
    if whole or is_old:
        seen[day] = standing
    return written


def _missed(parts: Parts, today: date, seen: Seen) -> list[date]:
    """Older days that lack something, from the oldest on. Behind DAYS days with papers in a row that lack nothing, none is looked for."""
    missed: list[date] = []
    well = 0
    for ago in range(DAYS + 1, MOST_BACK + 1):
        day = today - timedelta(days=ago)
        if day not in seen:  # what comes to an old day later is found tomorrow
            standing = parts.catalog.standing_between(*_span(day))
            if not standing:
                continue
            if _lacks(parts, day, standing):
                missed.append(day)
                well = 0
                continue
            seen[day] = standing
        well += 1
        if well == DAYS:
            break
    return missed[::-1][:MOST_AT_ONCE]


def _lacks(parts: Parts, day: date, standing: Iterable[tuple[Any, ...]]) -> bool:
    """Whether some client's summary of an old day is missing, or tells of fewer papers than the catalog has."""
    counts: Counter[str] = Counter()
    for client, _, count, *_ in standing:
        counts[client] += count
    for client, count in counts.items():
        try:
            with parts.tree(client) as tree:
                if _count_of(read_plain(tree, path_of(summary_path(day)), MOST_BYTES)) < count:
                    return True
        except (Refused, OSError):
            continue  # a jail that cannot be used is told of with the last days
    return False


def _count_of(lying: bytes | None) -> int:
    """How many papers a summary tells of; -1 where it is none."""
    try:
        count = json.loads(lying or b"")["papers"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return -1
    return count if isinstance(count, int) else -1


def _span(day: date) -> tuple[datetime, datetime]:
    start = datetime.combine(day, time(), UTC)
    return start, start + timedelta(days=1)


def _by_client(parts: Parts, day: date) -> Iterator[tuple[str, Papers]]:
    found: dict[str, Papers] = defaultdict(Papers)
    destroyed = {one.client for one in parts.catalog.destructions()}  # these have no jail any more
    for paper in parts.catalog.received_between(*_span(day)):
        if paper.client not in destroyed:
            found[paper.client].take(paper)
    return iter(sorted(found.items()))


def _write(parts: Parts, client: str, day: date, papers: Papers, *, is_old: bool) -> bool:
    path = summary_path(day)
    with parts.tree(client) as tree:
        lying = read_plain(tree, path_of(path), MOST_BYTES)
        if _is_summary(lying, client, day, papers) or (is_old and _count_of(lying) > papers.count):
            return False
        head = parts.audit.append(Event.SUMMARY_WRITTEN, durable=True, client=client, path=path, papers=papers.count)
        body = summary_body(client, day, papers, head)
        tree.write_plains([(path_of(path + SIGNATURE_SUFFIX), sign(parts.signing, RECEIPT, body).encode()), (path_of(path), body)])
    return True


def _is_summary(lying: bytes | None, client: str, day: date, papers: Papers) -> bool:
    """Whether what lies there says just this, whichever place of the audit chain it names."""
    try:
        facts = json.loads(lying or b"")
    except (ValueError, RecursionError):
        return False
    head = facts.get("audit_head") if isinstance(facts, dict) else None
    return isinstance(head, str) and lying == summary_body(client, day, papers, head)


def _first_listed(papers: Papers) -> Iterator[dict[str, Any]]:
    """As many as fit: a summary that cannot be read again whole would look changed for ever."""
    room = MOST_BYTES - ROOM_BYTES
    for paper in papers.first():
        listed = _listed(paper)
        room -= len(json.dumps(listed)) + ROOM_BYTES_EACH  # with all but ASCII escaped: never less than what is written
        if room < 0:
            return
        yield listed


def _listed(paper: Paper) -> dict[str, Any]:
    return {
        "path": paper.path,
        "version": paper.version,
        "size": paper.size,
        "sha256": paper.sha256,
        "verdict": _verdict(paper),
        "received_at": rfc3339(paper.received_at),
        "paper": paper.id,
        "receipt": receipt_path(paper),
    }


def _verdict(paper: Paper) -> str:
    """As the receipt has it: that a paper expired later changes nothing of what came in."""
    return "accepted" if paper.state == "expired" else paper.state
