"""Takes the rows of a catalog into the drill's index, at the speed of SQL.

A million rows, read one by one in Python and checked there, take half a minute. So SQL takes in what is beyond doubt a paper's row, and only what
is not goes through `sources.records`, which alone decides and words what is wrong. SQL may doubt too much, never too little.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backup.drill.sources import Report, Row, records
from gateway.catalog.names import NAME

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EARLIEST, LATEST = ((datetime(year, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND for year in (2, 9999))
COLUMNS = 13  # of the index's tables `live` and `dump`
FIELDS = "id, client, path, version, size, sha256, sealed_size, sealed_sha256, header_mac, generation, received_at, sealed_at, receipted"
HEX = {"id": 32, "sha256": 64, "sealed_sha256": 64, "header_mac": 64}
HEX_DIGITS = b"0123456789abcdef"
OURS = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM)  # anything else is the catalog's fault

# A plus before a column keeps SQLite from looking rows up by it: they are to be read, and written, in the order of their ids.
HASHES = [f"typeof({name}) = 'text' AND length(CAST({name} AS BLOB)) = {length}" for name, length in HEX.items()]
NUMBERS = [f"typeof({name}) = 'integer' AND +{name} >= 0" for name in ("version", "size", "sealed_size", "generation")]
MOMENTS = [f"typeof({name}) = 'integer' AND +{name} BETWEEN {EARLIEST} AND {LATEST}" for name in ("received_at", "sealed_at")]
PLAIN = " AND ".join(
    [
        *HASHES,
        *NUMBERS,
        *MOMENTS,
        "receipted IN (0, 1)",
        "+client IN (SELECT name FROM temp.client)",
        "typeof(path) = 'text' AND substr(path, 1, 1) = '/'",
        "plain(CAST(id || sha256 || sealed_sha256 || header_mac AS BLOB), CAST(path AS BLOB))",
    ]
)
OTHERS = "(client IS NULL OR client NOT IN (SELECT client FROM main.destroyed)) AND (id IS NULL OR id NOT IN (SELECT id FROM main.expired))"
# What the live catalog says in the same words was looked at already, and to find it there is cheaper than to look again.
NAMES = FIELDS.split(", ")
SAME = " AND ".join(f"live.{name} = papers.{name}" for name in NAMES)
KNOWN = f"EXISTS (SELECT 1 FROM main.live WHERE {SAME})"  # noqa: S608 - constants only
DUMP_PLAIN = f"({KNOWN} OR ({PLAIN}))"
ACCEPTED = f"FROM catalog.papers WHERE state = 'accepted' AND {OTHERS}"


def take_in(base: sqlite3.Connection, source: str, file: Path, which: str, report: Report) -> None:
    """Enter the accepted papers of the catalog in `file`, as of one moment, or nothing.

    `base` is the index, `source` the catalog's table in it, `which` its name for people. Rows that cannot be a paper's go to `report`.
    Raises ValueError, TypeError, OverflowError when the catalog is damaged, sqlite3.Error when the index cannot be written.
    """
    with _attached(base, file), _whole(base):
        names = (row for row in base.execute("SELECT name FROM catalog.clients") if _is_name(*row))
        base.executemany("INSERT INTO temp.client VALUES (?)", names)
        if source == "live":
            base.execute("INSERT OR IGNORE INTO main.expired SELECT id FROM catalog.papers WHERE state = 'expired' AND typeof(id) = 'text'")
        doubtless = PLAIN if source == "live" else DUMP_PLAIN
        taken = base.execute(f"INSERT INTO main.{source} SELECT {FIELDS} {ACCEPTED} AND {doubtless} ORDER BY id").rowcount
        (there,) = base.execute(f"SELECT COUNT(*) {ACCEPTED}").fetchone()
        if taken != there:
            _take_the_rest(base, source, doubtless, which, report)


def _take_the_rest(base: sqlite3.Connection, source: str, doubtless: str, which: str, report: Report) -> None:
    """The rows that SQL was in doubt about, one by one."""
    statement = f"INSERT INTO main.{source} VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - one of two names
    base.text_factory = lambda text: text.decode(errors="surrogateescape")
    try:
        rows = base.execute(f"SELECT {FIELDS} {ACCEPTED} AND ({doubtless}) IS NOT TRUE ORDER BY id")
        for paper, one in records(map(_row, rows), which, report):
            moments = ((moment - EPOCH) // MICROSECOND for moment in (one.received_at, one.sealed_at))
            values = (one.client, one.path, one.version, one.size, one.sha256, one.sealed_size, one.sealed_sha256, one.header_mac, one.generation)
            base.execute(statement, (paper, *values, *moments, one.receipted))
    finally:
        base.text_factory = str


@contextmanager
def _attached(base: sqlite3.Connection, file: Path) -> Iterator[None]:
    """The catalog beside the index, for reading only."""
    base.create_function("plain", 2, _is_plain, deterministic=True)
    base.execute("ATTACH ? AS catalog", (f"{file.absolute().as_uri()}?mode=ro",))
    try:
        base.execute("CREATE TABLE temp.client (name TEXT PRIMARY KEY)")
        yield
    finally:
        base.execute("DROP TABLE IF EXISTS temp.client")
        base.execute("DETACH catalog")


@contextmanager
def _whole(base: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing. A fault that is not the index's own is the catalog's."""
    base.execute("BEGIN")
    try:
        yield
        base.execute("COMMIT")
    except sqlite3.IntegrityError as error:
        _roll_back(base)
        raise ValueError("its rows are out of order") from error
    except sqlite3.Error as error:
        _roll_back(base)
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in OURS:
            raise
        raise ValueError(str(error)) from error
    except BaseException:
        _roll_back(base)
        raise


def _roll_back(base: sqlite3.Connection) -> None:
    if base.in_transaction:
        base.execute("ROLLBACK")


def _is_plain(hexes: bytes, path: bytes) -> bool:
    """Whether `hexes` are lowercase hex digits and `path` is UTF-8."""
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return not hexes.translate(None, HEX_DIGITS)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def _row(values: tuple[Any, ...]) -> Row:
    *others, received_at, sealed_at, receipted = values
    return Row(*others, _moment(received_at), _moment(sealed_at), bool(receipted))  # type: ignore[call-arg] # mypy counts no starred values


def _moment(stored: Any) -> datetime | None:
    return None if stored is None else EPOCH + timedelta(microseconds=stored)
