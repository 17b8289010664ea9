"""Finding papers: by name, date, hash, class and what else the catalog knows, newest first.

Names are found through two indexes, which the database itself keeps beside `papers`. One has their words (SQLite's FTS5 with its unicode61
tokenizer): a pattern in which a word is whole, such as `2026/invoice-0815.pdf`, finds the few papers that have the word, however many papers there
are. The other has all runs of three characters (the trigram tokenizer), for every other piece. The pattern itself is then compared in full.

Where nearly every name has the same words and runs (`invoice-`, `.pdf`) looking them up costs more than it tells. So only those are looked up that
the newest names do not have: the rarest word, or two runs, at first; and a piece that many of the newest names have is found sooner by looking from
the newest on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, TextClause, select, text

from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.papers import paper_of
from gateway.catalog.rows import Paper, Verdict

ESCAPE = "\\"
RUN = 3  # characters that the index of runs knows
MOST = 10_000
SAMPLE = 200  # newest names, by which the common is told from the rare
COMMON = 10  # times in them: a word or a run that they have as often is common
MANY = 2  # of them: a piece that as many have is found sooner by looking from the newest on
FEW = 100  # papers that may share a word, or two runs; where more do, whole pieces are looked up
TOO_MANY = 3_000  # papers of a name from which on it is no help to look it up

_NEWEST = text("SELECT path FROM paper_names ORDER BY rowid DESC LIMIT :most")
_FITS = "SELECT names.paper, names.path LIKE :pattern ESCAPE :escape AS fits FROM"
_WORDS = "paper_words AS words CROSS JOIN paper_names AS names ON names.rowid = words.rowid"
_BY_WORD = text(f"{_FITS} {_WORDS} WHERE words.paper_words MATCH :terms LIMIT :most")
_BY_RUNS = text(f"{_FITS} paper_names AS names WHERE names.paper_names MATCH :terms LIMIT :most")
_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_WHOLE_WORD = re.compile(r"(?<=[ -/:-@\[-`{-~])[0-9a-z]+(?=[ -/:-@\[-`{-~])")


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


class Newest:
    """The newest names, by which the common is told from the rare. Pure."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = [_folded(path) for path in paths]
        self._together = "\0".join(self._paths)  # no name has a NUL

    def count(self, piece: str) -> int:
        """How often they have it."""
        return self._together.count(piece)

    def has_many(self, pieces: Sequence[str]) -> bool:
        """Whether MANY of them have all `pieces`."""
        return all(map(self.count, pieces)) and sum(all(piece in path for piece in pieces) for path in self._paths) >= MANY


def pieces_of(name: str) -> list[str]:
    """What a name must have to fit the pattern `name`, in lower case, each of RUN characters or more. Pure."""
    has_wildcards = re.search(r"[*?]", name)
    anchored = f"/{name}" if has_wildcards and not name.startswith("/") else name  # with wildcards it is the whole name
    return [_folded(piece) for piece in re.split(r"[*?]", anchored) if len(piece) >= RUN]


def _folded(text: str) -> str:
    """With ASCII in lower case, which is all that LIKE does. What another letter's lower case is depends on who one asks: the indexes are asked with
    the letter itself."""
    return text.translate(_LOWER)


def rarest_word(pieces: Sequence[str], newest: Newest) -> str | None:
    """The word that the `newest` names have least, the longest of such; None where none is rare, or surely whole: with what parts words on both sides
    of it. Only ASCII, of which the index and we are of one mind. Pure."""
    words = [word for piece in pieces for word in _WHOLE_WORD.findall(piece)]
    rare = [(count, -len(word), word) for word in words if (count := newest.count(word)) < COMMON]
    return min(rare)[2] if rare else None


def telling_pieces(pieces: Sequence[str], newest: Newest) -> list[str]:
    """What to look up for `pieces`: the stretches of them that are rare among the `newest` names, each of RUN characters or more; whole pieces where
    no run is. Pure."""
    return [stretch for piece in pieces for stretch in _rare_stretches(piece, newest)] or list(pieces)


def two_runs(pieces: Sequence[str]) -> list[str]:
    """The last two runs of RUN letters or digits in `pieces` that do not overlap; empty when there are none. Pure.

    The index reads all places of each run it is asked for: two tell nearly as much as a whole piece, for a fraction of the time. Runs with a dot or
    a slash in them are in too many names."""
    stretches = [stretch for piece in pieces for stretch in re.findall(rf"[^\W_]{{{RUN},}}", piece)]
    runs = list(dict.fromkeys(stretch[end - RUN : end] for stretch in reversed(stretches) for end in range(len(stretch), RUN - 1, -RUN)))
    return runs[:2] if len(runs) > 1 else []


def _rare_stretches(piece: str, newest: Newest) -> list[str]:
    """The longest stretches of `piece` in which every run of RUN characters is rare among the `newest` names."""
    starts = [start for start in range(len(piece) - RUN + 1) if newest.count(piece[start : start + RUN]) < COMMON]
    stretches: list[list[int]] = []
    for start in starts:
        if stretches and stretches[-1][-1] == start - 1:
            stretches[-1].append(start)
        else:
            stretches.append([start])
    return [piece[stretch[0] : stretch[-1] + RUN] for stretch in stretches]


def _named(connection: Connection, name: str | None) -> list[str] | None:
    """The papers that the indexes have for `name`; None when they do not know, or know so many that looking from the newest on is faster."""
    if name is None or not (pieces := pieces_of(name)):
        return None
    newest = Newest(connection.execute(_NEWEST, {"most": SAMPLE}).scalars().all())
    if newest.has_many(pieces):
        return None
    word = rarest_word(pieces, newest)
    if word and (found := _look_up(connection, _BY_WORD, [word], name, FEW)) is not None:
        return found
    telling = telling_pieces(pieces, newest)
    runs = two_runs(telling)
    if runs and (found := _look_up(connection, _BY_RUNS, runs, name, FEW)) is not None:
        return found
    return _look_up(connection, _BY_RUNS, telling, name, TOO_MANY)


def _look_up(connection: Connection, index: TextClause, terms: Sequence[str], name: str, most: int) -> list[str] | None:
    """Papers that `index` has for all `terms` and whose names fit the pattern `name`; None when `most` or more have the terms."""
    quoted = " AND ".join('"' + term.replace('"', '""') + '"' for term in terms)
    found = connection.execute(index, {"terms": quoted, "pattern": like_pattern(name), "escape": ESCAPE, "most": most}).all()
    return [row.paper for row in found if row.fits] if len(found) < most else None


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
