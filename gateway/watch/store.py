"""`watch.sqlite3`: habits, and how far the log has been read; both in one transaction. It may be lost: what the log holds is learnt again."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from config.errors import OutOfReach
from config.files import FILE_MODE
from gateway.watch.habits import Habits

SCHEMA = """
CREATE TABLE IF NOT EXISTS places (segment TEXT PRIMARY KEY, offset INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS habits (person TEXT PRIMARY KEY, seen INTEGER NOT NULL, habits TEXT NOT NULL);
"""


class Store:
    """The file at `path`, which is made. Used by one thread. Every method raises OutOfReach when it cannot be used."""

    def __init__(self, path: Path) -> None:
        with _translated():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
            self._connection = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def places(self) -> dict[str, int]:
        """How far each segment has been read, in bytes."""
        with _translated():
            return dict(self._connection.execute("SELECT segment, offset FROM places").fetchall())

    def habits(self, most: int) -> Iterator[tuple[str, Habits]]:
        """Those of the people who were seen last, longest ago first; what cannot be read is left out."""
        query = "SELECT person, habits FROM (SELECT * FROM habits ORDER BY seen DESC LIMIT ?) ORDER BY seen"
        with _translated():
            rows = self._connection.execute(query, (most,)).fetchall()
        for person, text in rows:
            try:
                yield person, Habits.from_json(json.loads(text))
            except (ValueError, TypeError, KeyError):
                continue

    def keep(self, habits: Mapping[str, Habits], places: Mapping[str, int]) -> None:
        """Keep both, or neither."""
        with _translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                seen = self._connection.execute("SELECT coalesce(max(seen), 0) FROM habits").fetchone()[0] + 1
                rows = [(person, seen, json.dumps(one.as_json())) for person, one in habits.items()]
                self._connection.executemany("INSERT OR REPLACE INTO habits VALUES (?, ?, ?)", rows)
                self._connection.executemany("INSERT OR REPLACE INTO places VALUES (?, ?)", list(places.items()))
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise OutOfReach(f"what the watch knows cannot be used: {error}", "look at the disk; watch.sqlite3 may be removed") from error
