"""Rows that are put back as they were into a new catalog, with their numbers and times."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert

from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.rows import Client, Hold, Paper

PAGE = 1000


class RebuildQueries:
    """The part of the catalog that takes rows whole."""

    _database: Database

    def put_back_client(self, client: Client) -> None:
        """A client with its keys."""
        values = {"name": client.name, "custody": client.custody, "active": client.active, "created_at": client.created_at}
        with self._database.writing() as connection:
            connection.execute(insert(t.clients).values(**values))
            connection.execute(insert(t.client_keys), [{"client": client.name, **vars(key)} for key in client.keys])

    def put_back_papers(self, papers: Sequence[Paper]) -> None:
        """Papers with their versions."""
        for start in range(0, len(papers), PAGE):
            with self._database.writing() as connection:
                connection.execute(insert(t.papers), [vars(paper) for paper in papers[start : start + PAGE]])

    def put_back_holds(self, holds: Sequence[Hold]) -> None:
        """Legal holds with their numbers."""
        if holds:
            with self._database.writing() as connection:
                connection.execute(insert(t.holds), [vars(hold) for hold in holds])
