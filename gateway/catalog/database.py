"""The connection to the database: transactions, durability, and one kind of error for all that can go wrong.

SQLite in WAL mode with synchronous=FULL: a commit that returned is on the disk. Writers take their lock at the start (BEGIN IMMEDIATE), so
that a transaction never fails half-way because another one wrote.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from config.rights import share_logs
from gateway.catalog.errors import CatalogError

BUSY_SECONDS = 30.0
WRITE = "nightsafe_write"
MAPPED_BYTES = 2**31 - 2**16  # as much as SQLite maps: pages are read where the system has them, once for all processes and connections


class Database:
    """An SQLite file. Thread-safe; each transaction takes a connection of its own from a small pool."""

    def __init__(self, path: Path) -> None:
        self.path = path
        share_logs(path)
        self._engine = create_engine(
            f"sqlite:///{path}", poolclass=QueuePool, pool_size=8, max_overflow=24, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}
        )
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database. Raises CatalogError."""
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is durable once the block has ended without an exception. Raises CatalogError."""
        with self._translated(), self._engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
            yield connection

    def dump(self, target: Path) -> None:
        """A consistent copy of the database in `target` (replaced), through SQLite's own backup interface. Raises CatalogError."""
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as source, closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.Error as error:
            raise CatalogError(f"the catalog could not be copied: {_said(error)}", _hint(str(error))) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if type(error.orig) is sqlite3.DatabaseError:  # damaged: a connection remembers the pages that it met, and would not see them mended
                self._engine.dispose()
            raise CatalogError(f"the catalog {self.path.name} cannot be used: {_said(error.orig)}", _hint(str(error.orig))) from error
        except PoolTimeout as error:  # nobody gave a connection back
            raise CatalogError(f"the catalog {self.path.name} cannot be used: all connections to it are taken", _hint("busy")) from error

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        share_logs(self.path)


class Changes:
    """Tells whether anybody committed anything since it was last asked, for the price of a look at the head of the log (SQLite's data_version).

    Not thread-safe, but may be used by one thread after another.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._seen: int | None = None

    def happened(self) -> bool:
        """True at first, and whenever there was a commit of any process since the last call. Raises CatalogError."""
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            self.close()  # the next look has a connection that remembers nothing, and cannot tell what happened meanwhile
            self._seen = None
            raise CatalogError(f"the catalog {self._path.name} cannot be used: {_said(error)}", _hint(str(error))) from error
        changed = bool(version != self._seen)
        self._seen = version
        return changed

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _said(error: BaseException | None) -> str:
    """In SQLite's words. What it calls an I/O error when there is no room for the memory that its processes share (the file -shm) is a full disk."""
    full = getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHMSIZE"
    return "database or disk is full" if full else str(error)


def _hint(text: str) -> str:
    if "locked" in text or "busy" in text:
        return "another process holds it for long; try again, and look for a hanging 'nightsafe' process"
    if "full" in text or "I/O" in text:
        return "free some space on the disk of the data folder; nothing was changed"
    return "look at the disk and the rights of the data folder; restore the catalog from a backup if it is damaged"


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _begin, not by the driver
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY", f"mmap_size={MAPPED_BYTES}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITE) else "BEGIN")
