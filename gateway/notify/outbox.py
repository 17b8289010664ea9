"""What is still to be sent, and how far the audit log has been read: an SQLite file of its own, durable, which may be lost without harm.

A notice and the place behind its line are stored in one transaction: none is missed and none is stored twice, whenever the process dies. A notice
goes once its receiver has taken it; so after a crash a receiver may be told twice.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from config.errors import OutOfReach
from config.files import FILE_MODE
from gateway.notify.notices import Bundle, Notice

MOST_WAITING = 2_000  # notices of one event for one receiver; what comes on top is counted, and pushes nothing else out
MOST_COUNTED = 20  # lines of counts in a digest

SCHEMA = """
CREATE TABLE IF NOT EXISTS places (segment TEXT PRIMARY KEY, offset INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS notices (number INTEGER PRIMARY KEY AUTOINCREMENT, receiver TEXT NOT NULL, event TEXT NOT NULL, time TEXT NOT NULL,
    text TEXT NOT NULL, head TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS notices_by_receiver ON notices (receiver, number);
CREATE TABLE IF NOT EXISTS receivers (name TEXT PRIMARY KEY, dropped INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '', sent_at TEXT NOT NULL DEFAULT '');
"""
ADDED = ("allowance", "allowance_at")  # columns of receivers

_NOTICES = "SELECT number, event, time, text, head FROM notices WHERE receiver = ?"
_SOME_OF_EACH = """SELECT number FROM (SELECT number, row_number() OVER (PARTITION BY event ORDER BY number) AS turn FROM notices
    WHERE receiver = ?) ORDER BY turn, number LIMIT ?"""
_COUNTS = """SELECT event, substr(text, 1, instr(text || char(10), char(10)) - 1) AS whom, count(*) AS times FROM notices WHERE receiver = ?
    GROUP BY event, whom ORDER BY times DESC, event, whom LIMIT ?"""


@dataclass(frozen=True)
class Standing:
    """How it goes with a receiver. `sent_at` is the last time that it took something, empty when never; `failures` in a row since."""

    waiting: int
    dropped: int
    failures: int
    error: str
    sent_at: str


@dataclass(frozen=True)
class Allowance:
    """How many more messages a receiver might be sent, a fraction included, at a moment (seconds since the epoch)."""

    left: float
    at: float


class Outbox:
    """The outbox at `path`, which is made. Thread-safe. Every method raises OutOfReach when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
            self._connection = sqlite3.connect(path, timeout=30.0, check_same_thread=False, isolation_level=None)
            for pragma in ("journal_mode=WAL", "synchronous=FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(SCHEMA)
            self._add_columns()
        except (OSError, sqlite3.Error) as error:
            raise _unusable(error) from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def places(self) -> dict[str, int]:
        """How far each segment of the log has been read, in bytes."""
        with self._reading() as connection:
            return dict(connection.execute("SELECT segment, offset FROM places").fetchall())

    def store(self, found: Iterable[tuple[str, Notice]], places: Mapping[str, int]) -> None:
        """(receiver, notice) to be sent, and the places behind their lines."""
        with self._writing() as connection:
            counted = connection.execute("SELECT receiver, event, count(*) FROM notices GROUP BY receiver, event").fetchall()
            waiting = Counter({(receiver, event): count for receiver, event, count in counted})
            for receiver, notice in found:
                connection.execute("INSERT OR IGNORE INTO receivers (name) VALUES (?)", (receiver,))
                if waiting[receiver, notice.event] >= MOST_WAITING:
                    connection.execute("UPDATE receivers SET dropped = dropped + 1 WHERE name = ?", (receiver,))
                    continue
                waiting[receiver, notice.event] += 1
                values = (receiver, notice.event, notice.time, notice.text, notice.head)
                connection.execute("INSERT INTO notices (receiver, event, time, text, head) VALUES (?, ?, ?, ?, ?)", values)
            connection.executemany("INSERT OR REPLACE INTO places (segment, offset) VALUES (?, ?)", list(places.items()))

    def waiting(self, receiver: str, most: int) -> Bundle:
        """The oldest notices for a receiver, at most `most`. What was dropped, because too many waited, is told with the last of them."""
        with self._reading() as connection:
            rows = connection.execute(f"{_NOTICES} ORDER BY number LIMIT ?", (receiver, most + 1)).fetchall()
            dropped = _dropped(connection, receiver) if len(rows) <= most else 0
        notices = tuple(Notice(*row) for row in rows[:most])
        return Bundle(notices, dropped=dropped, last=notices[-1] if notices else None)

    def digest(self, receiver: str, most: int) -> Bundle:
        """All that waits for a receiver: at most `most` notices, of every event some, and how many there are of each kind."""
        with self._reading() as connection:
            rows = connection.execute(f"{_NOTICES} AND number IN ({_SOME_OF_EACH}) ORDER BY number", (receiver, receiver, most)).fetchall()
            last = connection.execute(f"{_NOTICES} ORDER BY number DESC LIMIT 1", (receiver,)).fetchone()
            counts = connection.execute(_COUNTS, (receiver, MOST_COUNTED)).fetchall()
            (total,) = connection.execute("SELECT count(*) FROM notices WHERE receiver = ?", (receiver,)).fetchone()
            dropped = _dropped(connection, receiver)
        return Bundle(tuple(Notice(*row) for row in rows), tuple(counts), total - len(rows), dropped, Notice(*last) if last else None)

    def allowance(self, receiver: str) -> Allowance | None:
        """What a receiver was left with when it last took something; None when it never did."""
        with self._reading() as connection:
            row = connection.execute("SELECT allowance, allowance_at FROM receivers WHERE name = ? AND allowance_at > 0", (receiver,)).fetchone()
        return Allowance(*row) if row else None

    def sent(self, receiver: str, last: int, dropped: int, at: str, allowance: Allowance) -> None:
        """A receiver took everything up to the notice `last`, was told of `dropped` ones, and has `allowance` left."""
        with self._writing() as connection:
            connection.execute("DELETE FROM notices WHERE receiver = ? AND number <= ?", (receiver, last))
            connection.execute(
                "UPDATE receivers SET dropped = dropped - ?, failures = 0, error = '', sent_at = ?, allowance = ?, allowance_at = ? WHERE name = ?",
                (dropped, at, allowance.left, allowance.at, receiver),
            )

    def failed(self, receiver: str, error: str) -> None:
        """A receiver took nothing."""
        with self._writing() as connection:
            connection.execute("UPDATE receivers SET failures = failures + 1, error = ? WHERE name = ?", (error, receiver))

    def forget(self, names: Iterable[str]) -> None:
        """Keep nothing for receivers other than `names`: they were taken out of the settings."""
        kept = set(names)
        with self._writing() as connection:
            for (name,) in connection.execute("SELECT name FROM receivers").fetchall():
                if name not in kept:
                    connection.execute("DELETE FROM notices WHERE receiver = ?", (name,))
                    connection.execute("DELETE FROM receivers WHERE name = ?", (name,))

    def standing(self, receiver: str) -> Standing:
        """How it goes with a receiver."""
        with self._reading() as connection:
            waiting = connection.execute("SELECT count(*) FROM notices WHERE receiver = ?", (receiver,)).fetchone()[0]
            row = connection.execute("SELECT dropped, failures, error, sent_at FROM receivers WHERE name = ?", (receiver,)).fetchone()
        return Standing(waiting, *(row or (0, 0, "", "")))

    def _add_columns(self) -> None:
        """What outboxes of earlier versions do not have."""
        known = {row[1] for row in self._connection.execute("PRAGMA table_info(receivers)")}
        for column in ADDED:
            if column not in known:
                self._connection.execute(f"ALTER TABLE receivers ADD COLUMN {column} REAL NOT NULL DEFAULT 0")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise _unusable(error) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def _dropped(connection: sqlite3.Connection, receiver: str) -> int:
    found = connection.execute("SELECT dropped FROM receivers WHERE name = ?", (receiver,)).fetchone()
    return int(found[0]) if found else 0


def _unusable(error: Exception) -> OutOfReach:
    return OutOfReach(f"the outbox of notices cannot be used: {error}", "look at the disk of the data folder; a new one is made when it is gone")
