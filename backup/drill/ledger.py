"""The drill's working index: what the catalogs, the receipts and the snapshot say of each paper, joined by id.

An SQLite file in the scratch folder, so that a million papers need little memory. It is filled once, read in order of ids, and thrown away.
It is not the catalog: nothing here is durable, and nothing here is believed.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from backup.drill.errors import ScratchFailed
from backup.drill.judge import CLAIMED, Receipt, Record

Source = Literal["live", "dump"]
CODES: dict[Source, int] = {"live": 0, "dump": 1}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BATCH = 1000
MICROSECOND = timedelta(microseconds=1)
FIELDS = attrgetter(*CLAIMED)  # many times quicker than dataclasses.astuple, over millions
TABLES = """
CREATE TABLE record (id TEXT, source INTEGER, client TEXT, path TEXT, version INTEGER, size INTEGER, sha256 TEXT, sealed_size INTEGER,
  sealed_sha256 TEXT, header_mac TEXT, generation INTEGER, received_at INTEGER,
  sealed_at INTEGER, receipted INTEGER, PRIMARY KEY (id, source)) WITHOUT ROWID;
CREATE TABLE receipt (id TEXT PRIMARY KEY, client TEXT, path TEXT, version INTEGER, size INTEGER, sha256 TEXT, verdict TEXT, fault TEXT)
  WITHOUT ROWID;
CREATE TABLE chosen (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE served (id TEXT PRIMARY KEY, size INTEGER, sha256 TEXT, why TEXT) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One paper with everything that is written of it."""

    paper: str
    live: Record | None
    dump: Record | None
    receipt: Receipt | None


class Ledger:
    """One drill's index. Not thread-safe; `close` removes nothing (the scratch folder goes as a whole)."""

    def __init__(self, path: Path) -> None:
        with _translated():
            self._base = sqlite3.connect(path, isolation_level=None)
            self._base.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-32768; PRAGMA temp_store=MEMORY;" + TABLES)

    def add_records(self, source: Source, records: Iterable[tuple[str, Record]]) -> int:
        """Enter what a catalog says, (paper id, record) each; how many there were."""
        rows = ((paper, CODES[source], *_row(record)) for paper, record in records)
        return self._insert("INSERT INTO record VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)

    def add_receipts(self, receipts: Iterable[tuple[str, Receipt]]) -> int:
        """Enter what receipts say. A second receipt for one paper makes both unbelievable."""
        rows = ((paper, *astuple(receipt)) for paper, receipt in receipts)
        return self._insert(
            "INSERT INTO receipt VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET fault = 'there are several receipts for it'", rows
        )

    def choose(self, papers: Iterable[str]) -> None:
        """Enter the papers that were drawn."""
        self._insert("INSERT OR IGNORE INTO chosen VALUES (?)", ((paper,) for paper in papers))

    def add_served(self, served: Iterable[tuple[str, int, str, str]]) -> None:
        """Enter what clients were given: (paper, size, SHA-256, why nothing)."""
        self._insert("INSERT OR REPLACE INTO served VALUES (?,?,?,?)", served)

    def served(self, paper: str) -> tuple[int, str, str] | None:
        """(size, SHA-256, why nothing) of what a client was given of a paper; None when it was not asked for."""
        with _translated():
            row = self._base.execute("SELECT size, sha256, why FROM served WHERE id = ?", (paper,)).fetchone()
        return None if row is None else (int(row[0]), str(row[1]), str(row[2]))

    def record(self, paper: str) -> Record | None:
        """What the dump says of a paper."""
        with _translated():
            row = self._base.execute("SELECT * FROM record WHERE id = ? AND source = ?", (paper, CODES["dump"])).fetchone()
        return None if row is None else _record(row)

    def owned(self) -> Iterator[tuple[str, str]]:
        """(client, paper) of every paper that the dump has."""
        with _translated():
            for client, paper in self._base.execute("SELECT client, id FROM record WHERE source = ? ORDER BY id", (CODES["dump"],)):
                yield str(client), str(paper)

    def entries(self, chosen_only: bool = False) -> Iterator[Entry]:
        """All papers, or those that were drawn, by id."""
        where = "WHERE r.id IN (SELECT id FROM chosen)" if chosen_only else ""
        query = f"SELECT r.*, q.* FROM record r LEFT JOIN receipt q ON q.id = r.id {where} ORDER BY r.id, r.source"  # noqa: S608 - constants only
        with _translated():
            for paper, rows in itertools.groupby(self._base.execute(query), key=lambda row: row[0]):
                yield _entry(str(paper), list(rows))

    def seals(self) -> Iterator[tuple[str, bool, datetime]]:
        """(paper id, whether the dump has it, when it was sealed) of all papers, by id: what a draw needs, without the rest."""
        with _translated():
            for paper, newest_source, sealed_at in self._base.execute("SELECT id, MAX(source), sealed_at FROM record GROUP BY id ORDER BY id"):
                yield paper, newest_source == CODES["dump"], _moment(sealed_at)

    def explained(self, papers: Iterable[str]) -> set[tuple[str, str]]:
        """The (client, paper) pairs that a catalog has among `papers` (a few hundred)."""
        wanted = list(papers)
        marks = ",".join("?" * len(wanted))
        query = f"SELECT DISTINCT client, id FROM record WHERE id IN ({marks})"  # noqa: S608 - question marks only
        with _translated():
            return {(str(row[0]), str(row[1])) for row in self._base.execute(query, wanted)}

    def owners(self, sealed_sha256: str, not_paper: str) -> list[tuple[str, Record]]:
        """Other papers whose catalogued file has this hash (at most a few)."""
        self._base.execute("CREATE INDEX IF NOT EXISTS by_file ON record (sealed_sha256)")
        rows = self._base.execute("SELECT * FROM record WHERE sealed_sha256 = ? AND id <> ? LIMIT 4", (sealed_sha256, not_paper))
        return [(str(row[0]), _record(row)) for row in rows]

    def count(self) -> int:
        """How many papers there are, whoever knows them."""
        return int(self._base.execute("SELECT COUNT(DISTINCT id) FROM record").fetchone()[0])

    def count_chosen(self) -> int:
        """How many papers were drawn."""
        with _translated():
            return int(self._base.execute("SELECT COUNT(*) FROM chosen").fetchone()[0])

    def close(self) -> None:
        """Close the index."""
        self._base.close()

    def _insert(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> int:
        count = 0
        iterator = iter(rows)
        while batch := list(itertools.islice(iterator, BATCH)):
            with _translated():
                self._base.execute("BEGIN")
                self._base.executemany(statement, batch)
                self._base.execute("COMMIT")
            count += len(batch)
        return count


@contextmanager
def _translated() -> Iterator[None]:
    """Our own scratch file can fail for one reason only: its disk."""
    try:
        yield
    except sqlite3.Error as error:
        raise ScratchFailed(
            f"the drill's scratch folder cannot be used: {error}", "free some space there, or set drill.scratch to another disk"
        ) from error


def _row(record: Record) -> tuple[Any, ...]:
    return (*FIELDS(record), _stored(record.received_at), _stored(record.sealed_at), int(record.receipted))


def _record(row: tuple[Any, ...]) -> Record:
    values = [*row[2:11], _moment(row[11]), _moment(row[12]), bool(row[13])]
    return Record(*values)


def _stored(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def _moment(stored: int) -> datetime:
    return EPOCH + timedelta(microseconds=stored)


def _entry(paper: str, rows: list[tuple[Any, ...]]) -> Entry:
    records = {row[1]: _record(row) for row in rows}
    receipt = Receipt(*rows[0][15:22]) if rows[0][14] is not None else None
    return Entry(paper, records.get(0), records.get(1), receipt)
