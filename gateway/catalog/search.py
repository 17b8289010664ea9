"""Finding papers: by name, date, hash, class and what else the catalog knows, newest first.

Names are found through an index of all runs of three characters (SQLite's FTS5 with its trigram tokenizer), which the database itself keeps
beside `papers`: so a piece of a name is found among millions as fast as among a thousand. The pattern itself is then compared in full.

Where nearly every name has the same runs (`invoice-`, `.pdf`) looking them up costs more than it tells. So only those are looked up that the
newest names do not have, two runs at first; and a piece that many of the newest names have is found sooner by looking from the newest on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, select, text

from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.papers import paper_of
from gateway.catalog.rows import Paper, Verdict

ESCAPE = "\\"
RUN = 3  # characters that the index knows
MOST = 10_000
SAMPLE = 200  # newest names, by which the common is told from the rare
COMMON = 10  # of them: a run that as many have is common
MANY = 2  # of them: a piece that as many have is found sooner by looking from the newest on
FEW = 100  # papers that may share two runs; where more do, whole pieces are looked up
TOO_MANY = 3_000  # papers of a name from which on it is no help to look it up


_LOOK_UP = text("SELECT paper, path LIKE :pattern ESCAPE :escape AS fits FROM paper_names WHERE paper_names MATCH :phrases LIMIT :most")


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is looked for; everything given must hold. None is not asked.

    `name`: a piece of the path, or, with * and ?, the whole name (the whole path when it begins with /); case does not count.
    `since` is counted in, `until` is not, by time of receipt. `ending` is a name's extension, without its dot. `sha256` in hex, whole.
    A verdict with the code `without_code` is left out.
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
    without_code: str | None = None


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


def telling_pieces(name: str, newest: Sequence[str]) -> list[str]:
    """What to look up for the pattern `name`: the pieces of it that are rare among the `newest` names, each of RUN characters or more; a whole
    piece where none of its runs is. Empty when nothing can be looked up, or is common. Pure."""
    has_wildcards = re.search(r"[*?]", name)
    anchored = f"/{name}" if has_wildcards and not name.startswith("/") else name  # with wildcards it is the whole name
    pieces = [piece.lower() for piece in re.split(r"[*?]", anchored) if len(piece) >= RUN]
    names = [path.lower() for path in newest]
    if not pieces or sum(all(piece in path for piece in pieces) for path in names) >= MANY:
        return []
    rare = [run for piece in pieces for run in _rare_runs(piece, names)]
    return rare or pieces


def two_runs(pieces: Sequence[str]) -> list[str]:
    """The last two runs of RUN letters or digits in `pieces` that do not overlap; empty when there are none. Pure.

    The index reads all places of each run it is asked for: two tell nearly as much as a whole piece, for a fraction of the time. Runs with a dot or
    a slash in them are in too many names."""
    stretches = [stretch for piece in pieces for stretch in re.findall(rf"[^\W_]{{{RUN},}}", piece)]
    runs = list(dict.fromkeys(stretch[end - RUN : end] for stretch in reversed(stretches) for end in range(len(stretch), RUN - 1, -RUN)))
    return runs[:2] if len(runs) > 1 else []


def _rare_runs(piece: str, names: Sequence[str]) -> list[str]:
    """The longest stretches of `piece` in which every run of RUN characters is rare among `names`."""
    starts = [start for start in range(len(piece) - RUN + 1) if sum(piece[start : start + RUN] in name for name in names) < COMMON]
    stretches: list[list[int]] = []
    for start in starts:
        if stretches and stretches[-1][-1] == start - 1:
            stretches[-1].append(start)
        else:
            stretches.append([start])
    return [piece[stretch[0] : stretch[-1] + RUN] for stretch in stretches]


def _named(connection: Connection, name: str | None) -> list[str] | None:
    """The papers that the index has for `name`; None when it does not know, or knows so many that looking from the newest on is faster."""
    if name is None or not re.search(rf"[^*?]{{{RUN},}}", name):
        return None
    newest = connection.execute(select(t.papers.c.path).order_by(t.papers.c.id.desc()).limit(SAMPLE)).scalars().all()
    pieces = telling_pieces(name, newest)
    if not pieces:
        return None
    for phrases, most in ((two_runs(pieces), FEW), (pieces, TOO_MANY)):
        if phrases and len(found := _look_up(connection, phrases, name, most)) < most:
            return [row.paper for row in found if row.fits]
    return None


def _look_up(connection: Connection, phrases: Sequence[str], name: str, most: int) -> Sequence[Row[Any]]:
    """Papers whose names have all `phrases`, at most `most` of them, and whether they fit the pattern `name`."""
    quoted = " AND ".join('"' + phrase.replace('"', '""') + '"' for phrase in phrases)
    return connection.execute(_LOOK_UP, {"phrases": quoted, "pattern": like_pattern(name), "escape": ESCAPE, "most": most}).all()


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
    if wanted.without_code is not None:
        found.append(papers.code != wanted.without_code)
    return found + [column == value for column, value in exact if value is not None]
