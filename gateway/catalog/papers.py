"""Papers and their versions in the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.rows import NewPaper, Paper, Verdict

PAGE = 1000  # rows read at once: memory stays bounded over millions of papers
FIELDS = tuple(field.name for field in fields(Paper))


class PaperQueries:
    """The part of the catalog that knows every paper that ever arrived."""

    _database: Database

    def record(self, arrivals: Sequence[NewPaper]) -> list[Paper]:
        """Record papers in one durable transaction, in order, and number their versions from 1 for each client and path.

        A paper that is recorded already is left as it is: recording twice is recording once.
        """
        with self._database.writing() as connection:
            return [_known(connection, new.id) or _add(connection, new) for new in arrivals]

    def paper(self, paper: str) -> Paper | None:
        """The paper with this id, or None."""
        with self._database.reading() as connection:
            return _known(connection, paper)

    def papers(self, client: str | None = None, state: Verdict | None = None) -> Iterator[Paper]:
        """All papers by id, which is by time of arrival; read page by page, so that no transaction stays open."""
        query = select(t.papers)
        if client is not None:
            query = query.where(t.papers.c.client == client)
        if state is not None:
            query = query.where(t.papers.c.state == state)
        return self._paged(query)

    def versions(self, client: str, path: str) -> list[Paper]:
        """Every version that ever had this name, oldest first."""
        query = select(t.papers).where(t.papers.c.client == client, t.papers.c.path == path).order_by(t.papers.c.version)
        with self._database.reading() as connection:
            return [_paper(row) for row in connection.execute(query)]

    def count_papers(self, client: str | None = None, state: Verdict | None = None) -> tuple[int, int]:
        """How many papers there are, and their plaintext bytes."""
        query = select(func.count(), func.coalesce(func.sum(t.papers.c.size), 0)).select_from(t.papers)
        if client is not None:
            query = query.where(t.papers.c.client == client)
        if state is not None:
            query = query.where(t.papers.c.state == state)
        with self._database.reading() as connection:
            count, size = connection.execute(query).one()
        return int(count), int(size)

    def mark_receipted(self, papers: Iterable[str]) -> None:
        """Remember that the receipts of these papers lie in their jails."""
        ids = list(papers)
        with self._database.writing() as connection:
            for start in range(0, len(ids), 500):
                connection.execute(update(t.papers).where(t.papers.c.id.in_(ids[start : start + 500])).values(receipted=True))

    def unreceipted(self) -> list[Paper]:
        """Papers whose receipt may not have been written yet, oldest first, at most 10,000."""
        query = select(t.papers).where(~t.papers.c.receipted).order_by(t.papers.c.id).limit(10_000)
        with self._database.reading() as connection:
            return [_paper(row) for row in connection.execute(query)]

    def _paged(self, query: Select[Any]) -> Iterator[Paper]:
        last = ""
        while True:
            with self._database.reading() as connection:
                page = [_paper(row) for row in connection.execute(query.where(t.papers.c.id > last).order_by(t.papers.c.id).limit(PAGE))]
            yield from page
            if len(page) < PAGE:
                return
            last = page[-1].id


def _known(connection: Connection, paper: str) -> Paper | None:
    row = connection.execute(select(t.papers).where(t.papers.c.id == paper)).one_or_none()
    return None if row is None else _paper(row)


def _add(connection: Connection, new: NewPaper) -> Paper:
    same_name = (t.papers.c.client == new.client) & (t.papers.c.path == new.path)
    version = connection.execute(select(func.coalesce(func.max(t.papers.c.version), 0)).where(same_name)).scalar_one() + 1
    paper = Paper(**asdict(new), version=version, receipted=False)
    connection.execute(insert(t.papers).values(**asdict(paper)))
    return paper


def _paper(row: Row[Any]) -> Paper:
    return Paper(**{name: getattr(row, name) for name in FIELDS})
