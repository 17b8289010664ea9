"""Writes the lists of accesses into the jails: each day for the running month up to the day before, and once more when the month is over.

Writing again what lies there changes nothing. The log is read once to count, and once for each group of clients whose entries fit into memory.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import structlog

from config.errors import NightsafeError
from gateway.audit.events import Event
from gateway.audit.read import Filter, Record, read
from gateway.audit.segments import segment_ids, segment_path
from gateway.audit.signatures import RECEIPT, sign
from gateway.ingest.accesses import EVERYBODY, MOST_LISTED, WATCHED, Accesses, collect, concerns, list_body, list_path
from gateway.ingest.handing import read_plain
from gateway.ingest.parts import Parts
from gateway.ingest.receipts import SIGNATURE_SUFFIX
from gateway.jail.paths import path_of
from gateway.jail.refused import Refused

AT_ONCE = 100_000  # entries in memory
MOST_BYTES = 32 * 1024 * 1024
FIRST_SECONDS, EVERY_SECONDS = 120.0, 3600.0
LAST_MONTH_DAYS = 3  # the days of a month on which the one before is looked at, too


def tell_accesses_by_the_clock(folder: Path, parts: Parts, stop: threading.Event) -> None:
    """Look every hour whether a day is over, until `stop` is set. `folder` is that of the audit log."""
    told: date | None = None
    wait = FIRST_SECONDS
    while not stop.wait(wait):
        wait = EVERY_SECONDS
        today = parts.now().astimezone(UTC).date()
        if today == told:
            continue
        try:
            tell_accesses(folder, parts, today, both=told is None or today.day <= LAST_MONTH_DAYS)
            told = today
        except (NightsafeError, OSError) as error:
            structlog.get_logger().error("ingest.access_lists_failed", error=str(error))


def tell_accesses(folder: Path, parts: Parts, today: date, *, both: bool = True) -> int:
    """Write the lists of the running month, and with `both` of the one before, that are missing or out of date; how many.

    Raises CatalogError, AuditUnavailable, and OSError when a segment cannot be read.
    """
    this, before = today.replace(day=1), (today.replace(day=1) - timedelta(days=1)).replace(day=1)
    written = 0
    for month in [before, this] if both else [this]:
        through = min(today, _next(month)) - timedelta(days=1)
        if through >= month:
            written += _month(folder, parts, month, through)
    return written


def _month(folder: Path, parts: Parts, month: date, through: date) -> int:
    end = _midnight(through + timedelta(days=1))
    for segment in segment_ids(folder):
        segment_path(folder, segment).open("rb").close()  # a list that lacks what this user may not read would be a lie
    clients = [client.name for client in parts.catalog.clients() if client.created_at < end]
    counts: Counter[str] = Counter(client for record in _records(folder, month, through) if (client := concerns(record)))
    written = 0
    for group in _groups(clients, counts):
        for client, found in collect(_records(folder, month, through), group).items():
            try:
                written += _write(parts, client, month, through, found)
            except (Refused, OSError) as error:  # one client's jail must not stop the others
                structlog.get_logger().warning("ingest.access_list_failed", client=client, error=str(error))
    return written


def _records(folder: Path, month: date, through: date) -> Iterator[Record]:
    wanted = Filter(since=_midnight(month), until=_midnight(through + timedelta(days=1)))
    return read(folder, wanted, only=WATCHED)


def _groups(clients: Sequence[str], counts: Counter[str]) -> Iterator[list[str]]:
    """The clients in groups whose entries fit into memory."""
    group: list[str] = []
    size = 0
    for client in clients:
        mine = min(counts[client] + counts[EVERYBODY], 2 * MOST_LISTED)
        if group and size + mine > AT_ONCE:
            yield group
            group, size = [], 0
        group.append(client)
        size += mine
    if group:
        yield group


def _write(parts: Parts, client: str, month: date, through: date, found: Accesses) -> bool:
    path = list_path(month)
    complete = through == _next(month) - timedelta(days=1)
    with parts.tree(client) as tree:
        if _lies_there(read_plain(tree, path_of(path), MOST_BYTES), client, through, complete, found):
            return False
        head = parts.audit.append(
            Event.ACCESS_LISTED, durable=True, client=client, path=path, through=through.isoformat(), others=found.others_total, own=found.own_total
        )
        body = list_body(client, through, complete, found, head)
        tree.write_plains([(path_of(path + SIGNATURE_SUFFIX), sign(parts.signing, RECEIPT, body).encode()), (path_of(path), body)])
    return True


def _lies_there(lying: bytes | None, client: str, through: date, complete: bool, found: Accesses) -> bool:
    """Whether what lies there says just this, whichever place of the audit chain it names."""
    try:
        facts = json.loads(lying or b"")
    except (ValueError, RecursionError):
        return False
    head = facts.get("audit_head") if isinstance(facts, dict) else None
    return isinstance(head, str) and lying == list_body(client, through, complete, found, head)


def _next(month: date) -> date:
    return (month + timedelta(days=32)).replace(day=1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
