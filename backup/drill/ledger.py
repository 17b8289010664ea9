"""The drill's working index: what the catalogs, the receipts and the snapshot say of each paper, joined by id.

An SQLite file in the scratch folder, so that a million papers need little memory, and little time: catalogs are read into it by SQL. It is filled
once, read in order of ids, and thrown away. It is not the catalog: nothing here is durable, and nothing here is believed.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from backup.drill.coverage import Coverage
from backup.drill.errors import ScratchFailed
from backup.drill.intake import COLUMNS, take_in
from backup.drill.judge import CLAIMED, GRACE, Receipt, Record
from backup.drill.sample import Group
from backup.drill.sources import Report

Source = Literal["live", "dump"]
Proven = Literal["all", "chosen", "none"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BATCH = 1000
MICROSECOND = timedelta(microseconds=1)
DAY = 86_400_000_000  # microseconds
NEVER = -(2**63)
FIELDS = attrgetter(*CLAIMED)  # many times quicker than dataclasses.astuple, over millions
PRAGMAS = "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA cache_size=-32768; PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF;"
RECORD = """(id TEXT PRIMARY KEY, client TEXT, path TEXT, version INTEGER, size INTEGER, sha256 TEXT, sealed_size INTEGER, sealed_sha256 TEXT,
  header_mac TEXT, generation INTEGER, received_at INTEGER, sealed_at INTEGER, receipted INTEGER) WITHOUT ROWID;"""
TABLES = f"""
CREATE TABLE live {RECORD}
CREATE TABLE dump {RECORD}
CREATE TABLE paper (id TEXT PRIMARY KEY, in_dump INTEGER, sealed_at INTEGER) WITHOUT ROWID;
CREATE TABLE receipt (id TEXT PRIMARY KEY, client TEXT, path TEXT, version INTEGER, size INTEGER, sha256 TEXT, verdict TEXT, fault TEXT)
  WITHOUT ROWID;
CREATE TABLE chosen (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE drilled (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE expired (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE later (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE destroyed (client TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE served (id TEXT PRIMARY KEY, size INTEGER, sha256 TEXT, why TEXT) WITHOUT ROWID;
"""
LATER = "id IN (SELECT id FROM later) AND id NOT IN (SELECT id FROM dump) AND sealed_at <= :expected"
JOIN = """
BEGIN;
DELETE FROM paper;
INSERT INTO paper SELECT id, 1, sealed_at FROM dump;
INSERT OR IGNORE INTO paper SELECT id, 0, sealed_at FROM live;
COMMIT;
"""
EXPECTED = "(in_dump OR sealed_at <= :expected)"  # the other half of `judge.is_too_new`
DRILLED = "(sealed_at <= :covered OR id IN (SELECT id FROM drilled))"
GROUPS = {Group.BEFORE: DRILLED, Group.NEW: f"NOT {DRILLED} AND sealed_at > :new", Group.NEVER: f"NOT {DRILLED} AND sealed_at <= :new"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One paper with everything that is written of it."""

    paper: str
    live: Record | None
    dump: Record | None
    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class Moments:
    """When the dump was made, since when a paper counts as new, and until when a full drill proved all; None when none did."""

    dump_at: datetime
    new_since: datetime
    covered: datetime | None = None

    def values(self) -> dict[str, int]:
        """As the index stores them."""
        covered = NEVER if self.covered is None else _stored(self.covered)
        return {"expected": _stored(self.dump_at - GRACE), "new": _stored(self.new_since), "covered": covered}


class Ledger:
    """One drill's index. Not thread-safe; `close` removes nothing (the scratch folder goes as a whole)."""

    def __init__(self, path: Path) -> None:
        with _translated():
            self._base = sqlite3.connect(path, timeout=30, isolation_level=None, uri=True)
            self._base.executescript(PRAGMAS + TABLES)
        self._joined = False

    def leave_out(self, clients: Collection[str]) -> None:
        """Take in no papers of these clients. To be told before the catalogs are."""
        self._insert("INSERT OR IGNORE INTO destroyed VALUES (?)", ((client,) for client in clients))

    def add_catalog(self, source: Source, file: Path, which: str, report: Report) -> None:
        """Enter the accepted papers of the catalog in `file`; a row that cannot be a paper's is reported and left out. `which` names the catalog.
        What the live one calls expired is left out of both, so it comes first.

        Raises ValueError, TypeError and OverflowError when the catalog is damaged; nothing of it is entered then.
        """
        self._joined = False
        with _translated():
            take_in(self._base, source, file, which, report)

    def add_records(self, source: Source, records: Iterable[tuple[str, Record]]) -> int:
        """Enter what a catalog says, (paper id, record) each; how many there were."""
        self._joined = False
        rows = ((paper, *_row(record)) for paper, record in records)
        return self._insert(f"INSERT INTO {source} VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)  # noqa: S608 - one of two names

    def add_receipts(self, receipts: Iterable[tuple[str, Receipt]]) -> int:
        """Enter what receipts say. A second receipt for one paper makes both unbelievable."""
        rows = ((paper, *astuple(receipt)) for paper, receipt in receipts)
        return self._insert(
            "INSERT INTO receipt VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET fault = 'there are several receipts for it'", rows
        )

    def add_drilled(self, papers: Iterable[str]) -> None:
        """Enter papers that samples proved before."""
        self._insert("INSERT OR IGNORE INTO drilled VALUES (?)", ((paper,) for paper in papers))

    def count_lacking(self, moments: Moments) -> int:
        """How many papers the dump lacks, which it should have by their times."""
        return self._count(f"SELECT COUNT(*) FROM paper WHERE NOT in_dump AND {EXPECTED}", moments.values())  # noqa: S608 - constants only

    def set_aside(self, papers: Iterable[str], moments: Moments) -> int:
        """Of those that the dump lacks, expect nothing of the ones among `papers`, which came after it whatever their times say; how many."""
        self._joined = False
        self._insert("INSERT OR IGNORE INTO later VALUES (?)", ((paper,) for paper in papers))
        with _translated():
            self._base.execute(f"DELETE FROM later WHERE id NOT IN (SELECT id FROM live WHERE {LATER})", moments.values())  # noqa: S608 - constants only
            return self._base.execute("DELETE FROM live WHERE id IN (SELECT id FROM later)").rowcount

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
            row = self._base.execute("SELECT * FROM dump WHERE id = ?", (paper,)).fetchone()
        return None if row is None else _record(row)

    def owned(self) -> Iterator[tuple[str, str]]:
        """(client, paper) of every paper that the dump has."""
        with _translated():
            for client, paper in self._base.execute("SELECT client, id FROM dump ORDER BY id"):
                yield str(client), str(paper)

    def entries(self, chosen_only: bool = False) -> Iterator[Entry]:
        """All papers, or those that were drawn, by id."""
        papers = "(SELECT id FROM chosen WHERE id IN (SELECT id FROM paper))" if chosen_only else "paper"
        query = (
            f"SELECT p.id, live.*, dump.*, receipt.* FROM {papers} p "  # noqa: S608 - constants only
            "LEFT JOIN live ON live.id = p.id LEFT JOIN dump ON dump.id = p.id LEFT JOIN receipt ON receipt.id = p.id ORDER BY p.id"
        )
        self._join()
        with _translated():
            for row in self._base.execute(query):
                yield _entry(row)

    def population(self, group: Group, moments: Moments) -> Iterator[str]:
        """The ids of the papers of a group that the snapshot should hold, by id: what a draw needs, without the rest."""
        query = f"SELECT id FROM paper WHERE {EXPECTED} AND {GROUPS[group]} ORDER BY id"  # noqa: S608 - constants only
        self._join()
        with _translated():
            for (paper,) in self._base.execute(query, moments.values()):
                yield paper

    def young(self, moments: Moments) -> list[str]:
        """The ids of the papers that the dump has, though they were sealed so shortly before it that it might not have had them; by id."""
        with _translated():
            return [str(paper) for (paper,) in self._base.execute("SELECT id FROM dump WHERE sealed_at > :expected ORDER BY id", moments.values())]

    def count_newer(self, moments: Moments) -> int:
        """How many papers are too new for the snapshot."""
        return self._count(f"SELECT COUNT(*) FROM paper WHERE NOT {EXPECTED}", moments.values())  # noqa: S608 - constants only

    def coverage(self, moments: Moments, proven: Proven) -> Coverage:
        """Of the papers that the snapshot should hold, how many were proven: earlier, or now (`all`, those that were `chosen`, or `none`)."""
        now = {"all": "1", "chosen": "id IN (SELECT id FROM chosen)", "none": "0"}[proven]
        waits = f"{EXPECTED} AND NOT ({now} OR {DRILLED})"
        count = self._count(f"SELECT COUNT(*) FROM paper WHERE {EXPECTED}", moments.values())  # noqa: S608 - constants only
        query = f"SELECT COUNT(*), MIN(sealed_at), id FROM paper WHERE {waits}"  # noqa: S608 - the id is of the row with the least
        with _translated():
            waiting, sealed_at, oldest = self._base.execute(query, moments.values()).fetchone()
        return Coverage(count, count - waiting, *((str(oldest), _moment(sealed_at)) if waiting else ("", None)))

    def explained(self, papers: Iterable[str]) -> set[tuple[str, str]]:
        """The (client, paper) pairs that a catalog has among `papers` (a few hundred)."""
        wanted = list(papers)
        marks = ",".join("?" * len(wanted))
        some = f"WHERE id IN ({marks})"
        query = f"SELECT client, id FROM live {some} UNION SELECT client, id FROM dump {some}"  # noqa: S608 - question marks only
        with _translated():
            return {(str(row[0]), str(row[1])) for row in self._base.execute(query, wanted * 2)}

    def excused(self, papers: Iterable[str]) -> set[str]:
        """Those of `papers` (a few hundred) that retention has ended, or that were set aside."""
        wanted = list(papers)
        marks = ",".join("?" * len(wanted))
        with _translated():
            query = f"SELECT id FROM (SELECT id FROM expired UNION ALL SELECT id FROM later) WHERE id IN ({marks})"  # noqa: S608 - question marks
            return {str(row[0]) for row in self._base.execute(query, wanted)}

    def owners(self, sealed_sha256: str, not_paper: str) -> list[tuple[str, Record]]:
        """Other papers whose catalogued file has this hash (at most a few)."""
        for table in ("live", "dump"):
            self._base.execute(f"CREATE INDEX IF NOT EXISTS {table}_by_file ON {table} (sealed_sha256)")
        query = (
            "SELECT * FROM live WHERE sealed_sha256 = :file AND id <> :paper UNION SELECT * FROM dump WHERE sealed_sha256 = :file AND id <> :paper"
        )
        rows = self._base.execute(f"{query} ORDER BY id LIMIT 4", {"file": sealed_sha256, "paper": not_paper})
        return [(str(row[0]), _record(row)) for row in rows]

    def count(self) -> int:
        """How many papers there are, whoever knows them."""
        return self._count("SELECT COUNT(*) FROM paper")

    def count_beside(self) -> tuple[int, int]:
        """How many entries the folders have in which those that were drawn lie: of the vault, and of their days' receipts. restic passes them all."""
        drawn = "FROM dump WHERE id IN (SELECT id FROM chosen)"
        folder, day = "client, substr(id, -2)", f"client, received_at / {DAY}"
        files = self._count(f"SELECT COUNT(*) FROM dump WHERE ({folder}) IN (SELECT {folder} {drawn})")  # noqa: S608 - constants only
        receipts = self._count(f"SELECT COUNT(*) FROM dump WHERE receipted AND ({day}) IN (SELECT {day} {drawn})")  # noqa: S608 - constants only
        return files, 2 * receipts

    def count_chosen(self) -> int:
        """How many papers were drawn."""
        return self._count("SELECT COUNT(*) FROM chosen")

    def close(self) -> None:
        """Close the index."""
        self._base.close()

    def _count(self, query: str, values: dict[str, int] | None = None) -> int:
        self._join()
        with _translated():
            return int(self._base.execute(query, values or {}).fetchone()[0])

    def _join(self) -> None:
        """Who there is, whoever knows them: made when it is asked for first."""
        if not self._joined:
            with _translated():
                self._base.executescript(JOIN)
            self._joined = True

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
    """Of the columns of `live` or `dump`."""
    values = [*row[1:10], _moment(row[10]), _moment(row[11]), bool(row[12])]
    return Record(*values)


def _stored(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def _moment(stored: int) -> datetime:
    return EPOCH + timedelta(microseconds=stored)


def _entry(row: tuple[Any, ...]) -> Entry:
    live, dump, receipt = row[1 : 1 + COLUMNS], row[1 + COLUMNS : 1 + 2 * COLUMNS], row[1 + 2 * COLUMNS :]
    return Entry(
        str(row[0]),
        _record(live) if live[0] is not None else None,
        _record(dump) if dump[0] is not None else None,
        Receipt(*receipt[1:8]) if receipt[0] is not None else None,
    )
