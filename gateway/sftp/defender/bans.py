"""Bans and what leads to them, in `defender.sqlite3`: a file of its own, written in batches, shared by the gateway's processes and by commands.

It may be lost without harm: bans are forgotten then. So nothing is synced to the disk, and no login waits for it.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from pathlib import Path

from config.errors import OutOfReach
from config.files import FILE_MODE
from config.settings import GatewaySettings
from gateway.catalog.networks import parse_address

BUSY_SECONDS = 5.0
MOST_MARKS = 100_000  # addresses that are remembered; then the ones that were quiet longest are forgotten
FORGET_SECONDS = 7 * 86400.0  # after its end a ban is remembered so long, for the next one to be longer
_TABLES = """
CREATE TABLE IF NOT EXISTS marks (address TEXT PRIMARY KEY, points REAL NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS marks_by_time ON marks (at);
CREATE TABLE IF NOT EXISTS bans (
    address TEXT PRIMARY KEY, since REAL NOT NULL, until REAL NOT NULL, level INTEGER NOT NULL, reason TEXT NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Rules:
    """`limit` points within `window` seconds lead to a ban of `first` seconds; each further one is twice as long, up to `longest`."""

    limit: float
    window: float
    first: float
    longest: float

    def seconds(self, level: int) -> float:
        """How long the ban of this level (from 1) lasts."""
        return min(self.longest, self.first * 2.0 ** min(level - 1, 40))


def rules_of(settings: GatewaySettings) -> Rules:
    """The rules that the settings make."""
    return Rules(settings.ban_after, settings.ban_window_seconds, settings.ban_seconds, settings.longest_ban_seconds)


@dataclass(frozen=True)
class Ban:
    """No connections from `address` (an IPv4 address or an IPv6 /64) until then. Times are seconds since the epoch."""

    address: str
    since: float
    until: float
    level: int
    reason: str


def group_of(address: str) -> str:
    """What is counted and banned together: an IPv4 address, or the /64 of an IPv6 one; other text stands for itself."""
    found = parse_address(address)
    if found is None or isinstance(found, IPv4Address):
        return str(found) if found is not None else address
    return str(ip_network(f"{found}/64", strict=False))


class BanStore:
    """The file. Blocking; one thread at a time. Raises OutOfReach."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._translated():
            try:
                self._connection = self._open()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                for end in ("", "-wal", "-shm"):  # damaged: bans are no reason to keep everybody out
                    path.with_name(path.name + end).unlink(missing_ok=True)
                self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            for pragma in ("journal_mode=WAL", "synchronous=OFF"):
                connection.execute(f"PRAGMA {pragma}")
            connection.executescript(_TABLES)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def bans(self, now: float) -> dict[str, Ban]:
        """The bans that hold."""
        with self._translated():
            rows = self._connection.execute("SELECT address, since, until, level, reason FROM bans WHERE until > ?", (now,)).fetchall()
        return {row[0]: Ban(*row) for row in rows}

    def add(self, points: Mapping[str, float], rules: Rules, now: float, reason: str) -> list[Ban]:
        """Add points to addresses, in one transaction; the bans that this led to.

        None to those that are banned: their connections are of before the ban, and other workers saw the same burst. It would lead to a ban at
        the next level at once, or put a short one in the place of one that was made by hand.
        """
        made = []
        with self._writing():
            for address, more in points.items():
                if self._connection.execute("SELECT 1 FROM bans WHERE address = ? AND until > ?", (address, now)).fetchone():
                    continue
                total = self._points(address, rules, now) + more
                if total >= rules.limit:
                    made.append(self._ban(address, None, rules, now, reason))
                    total = 0.0
                self._connection.execute(
                    "INSERT INTO marks VALUES (?, ?, ?) ON CONFLICT (address) DO UPDATE SET points = excluded.points, at = excluded.at",
                    (address, total, now),
                )
        return made

    def ban(self, address: str, seconds: float | None, rules: Rules, now: float, reason: str) -> Ban:
        """Ban an address for `seconds`, or for as long as its level says."""
        with self._writing():
            return self._ban(address, seconds, rules, now, reason)

    def unban(self, address: str) -> bool:
        """Forget a ban, and all that was held against the address. False when there was none."""
        with self._writing():
            self._connection.execute("DELETE FROM marks WHERE address = ?", (address,))
            return self._connection.execute("DELETE FROM bans WHERE address = ?", (address,)).rowcount > 0

    def prune(self, rules: Rules, now: float) -> None:
        """Forget what is too old, and what is too much."""
        with self._writing():
            self._connection.execute("DELETE FROM marks WHERE at < ?", (now - rules.window,))
            self._connection.execute("DELETE FROM bans WHERE until < ?", (now - FORGET_SECONDS,))
            for table, time in (("marks", "at"), ("bans", "until")):
                self._connection.execute(
                    f"DELETE FROM {table} WHERE address IN (SELECT address FROM {table} ORDER BY {time} DESC LIMIT -1 OFFSET ?)",  # noqa: S608
                    (MOST_MARKS,),
                )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _points(self, address: str, rules: Rules, now: float) -> float:
        """What is left of the points: they go by and by, all of them within the window."""
        row = self._connection.execute("SELECT points, at FROM marks WHERE address = ?", (address,)).fetchone()
        return 0.0 if row is None else max(0.0, row[0] - max(0.0, now - row[1]) * rules.limit / rules.window)

    def _ban(self, address: str, seconds: float | None, rules: Rules, now: float, reason: str) -> Ban:
        row = self._connection.execute("SELECT level FROM bans WHERE address = ?", (address,)).fetchone()
        level = (row[0] if row else 0) + 1
        made = Ban(address, now, now + (rules.seconds(level) if seconds is None else seconds), level, reason)
        self._connection.execute("INSERT OR REPLACE INTO bans VALUES (?, ?, ?, ?, ?)", (address, made.since, made.until, level, reason))
        return made

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _translated(self) -> AbstractContextManager[None]:
        return _translated(self._path)


def read_bans(path: Path, now: float) -> list[Ban]:
    """The bans that hold, the oldest first, for somebody who may not write there. Empty when there is no file. Raises OutOfReach."""
    if not path.exists():
        return []
    with _translated(path), closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'bans'").fetchone():
            return []  # made for its rights alone; no gateway has run yet
        found = connection.execute("SELECT address, since, until, level, reason FROM bans WHERE until > ? ORDER BY since", (now,))
        return [Ban(*row) for row in found]


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise OutOfReach(
            f"{path.name} cannot be used: {error}", f"it holds bans alone; stop the gateway, then: rm {shlex.quote(str(path))}; it is made anew"
        ) from error
