"""Finding papers: by name, date, hash, class and what else the catalog knows, newest first.

Names are found through an index of all runs of three characters (SQLite's FTS5 with its trigram tokenizer), which the database itself keeps
beside `papers`: so a piece of a name is found among millions as fast as among a thousand. The pattern itself is then compared in full.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select, text

from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.papers import paper_of
from gateway.catalog.rows import Paper, Verdict

ESCAPE = "\\"
SHORTEST = 3  # characters of a name that the index knows
MOST = 10_000
COMMON = 5_000  # papers of a name from which on it is no help to look it up


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is looked for; everything given must hold. None is not asked.

    `name`: a piece of the path, or, with * and ?, the whole name (the whole path when it begins with /); case does not count.
    `since` is counted in, `until` is not, by time of receipt. `ending` is a name's extension, without its dot. `sha256` in hex, whole.
    """

    client: str | None = None
    clients: tuple[str, ...] | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    sha256: str | None = None
    class_name: str | None = None
    ending: str | None = None
    person: str | None = None
    state: Verdict | None = None


class SearchQueries:
    """The part of the catalog that finds papers."""

    _database: Database

    def find(self, wanted: Search, limit: int = 100) -> list[Paper]:
        """Papers, newest first, at most `limit` (and MOST) of them."""
        with self._database.reading() as connection:
            named = _named(connection, wanted.name)
            return [paper_of(row) for row in connection.execute(_query(wanted, named).limit(min(limit, MOST)))]


def like_pattern(name: str) -> str:
    """A pattern of ours as one of LIKE, with ESCAPE."""
    plain = re.sub(r"([\\%_])", r"\\\1", name)
    if not re.search(r"[*?]", name):
        return f"%{plain}%"
    pattern = plain.replace("*", "%").replace("?", "_")
    return pattern if name.startswith("/") else f"%/{pattern}"


def known_piece(name: str) -> str | None:
    """The longest piece of a pattern that the index can look up; None when all are too short."""
    longest = max(re.split(r"[*?]", name), key=len)
    return longest if len(longest) >= SHORTEST else None


def _named(connection: Connection, name: str | None) -> list[str] | None:
    """The papers that the index has for `name`; None when it does not know, or knows so many that looking from the newest on is faster."""
    piece = known_piece(name) if name is not None else None
    if piece is None:
        return None
    phrase = 'path : "' + piece.replace('"', '""') + '"'
    query = text("SELECT paper FROM paper_names WHERE paper_names MATCH :phrase LIMIT :most")
    found = [row.paper for row in connection.execute(query, {"phrase": phrase, "most": COMMON})]
    return found if len(found) < COMMON else None


def _query(wanted: Search, named: list[str] | None) -> Select[Any]:
    papers = t.papers.c
    query = select(t.papers)
    if named is not None:
        query = query.where(papers.id.in_(named))
    for condition in _conditions(wanted):
        query = query.where(condition)
    by_time = wanted.since is not None or wanted.until is not None
    return query.order_by(papers.received_at.desc(), papers.id.desc()) if by_time else query.order_by(papers.id.desc())


def _conditions(wanted: Search) -> list[ColumnElement[bool]]:
    papers = t.papers.c
    found: list[ColumnElement[bool]] = []
    if wanted.name is not None:
        found.append(papers.path.like(like_pattern(wanted.name), escape=ESCAPE))
    if wanted.ending is not None:
        found.append(papers.path.like("%." + re.sub(r"([\\%_])", r"\\\1", wanted.ending.lstrip(".")), escape=ESCAPE))
    if wanted.clients is not None:
        found.append(papers.client.in_(wanted.clients))
    if wanted.since is not None:
        found.append(papers.received_at >= wanted.since)
    if wanted.until is not None:
        found.append(papers.received_at < wanted.until)
    exact = (
        (papers.client, wanted.client),
        (papers.sha256, wanted.sha256.lower() if wanted.sha256 else None),
        (papers.class_name, wanted.class_name),
        (papers.person, wanted.person),
        (papers.state, wanted.state),
    )
    return found + [column == value for column, value in exact if value is not None]
