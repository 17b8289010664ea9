"""Legal holds in the catalog. They are never removed: a released one tells who lifted it, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from config.errors import UsageError
from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.destructions import refuse_destroyed
from gateway.catalog.people import unknown_client
from gateway.catalog.rows import Hold, Paper


class HoldQueries:
    """The part of the catalog that knows what must not be destroyed."""

    _database: Database

    def set_hold(self, client: str, *, reason: str, ordered_by: str, path: str | None = None, paper: str | None = None) -> Hold:
        """Hold a client, a path of it, or one paper. Raises UsageError when the client or the paper is unknown, or a word is missing."""
        _said(reason, ordered_by)
        with self._database.writing() as connection:
            if connection.execute(select(t.clients.c.name).where(t.clients.c.name == client)).one_or_none() is None:
                raise unknown_client(client)
            refuse_destroyed(connection, client)
            if paper is not None:
                owner = connection.execute(select(t.papers.c.client).where(t.papers.c.id == paper)).scalar_one_or_none()
                if owner != client:
                    raise UsageError(f"{client} has no paper {paper[:40]}", f"the ids are shown by: nightsafe files list {client}")
            values = {"client": client, "path": path, "paper": paper, "reason": reason, "ordered_by": ordered_by, "set_at": datetime.now(UTC)}
            number = connection.execute(insert(t.holds).values(**values).returning(t.holds.c.id)).scalar_one()
            return _hold(connection.execute(select(t.holds).where(t.holds.c.id == number)).one())

    def release_hold(self, number: int, *, reason: str, released_by: str) -> Hold:
        """Lift a hold. Raises UsageError when there is none of that number, or it was lifted before."""
        _said(reason, released_by)
        with self._database.writing() as connection:
            row = connection.execute(select(t.holds).where(t.holds.c.id == number)).one_or_none()
            if row is None:
                raise UsageError(f"there is no hold {number}", "see the numbers with: nightsafe hold list")
            if row.released_at is not None:
                raise UsageError(f"hold {number} was released on {row.released_at:%Y-%m-%d} by {row.released_by}", "nothing was changed")
            values = {"released_at": datetime.now(UTC), "released_by": released_by, "release_reason": reason}
            connection.execute(update(t.holds).where(t.holds.c.id == number).values(**values))
            return _hold(connection.execute(select(t.holds).where(t.holds.c.id == number)).one())

    def holds(self, client: str | None = None, *, active_only: bool = True) -> list[Hold]:
        """Holds, oldest first; of one client when it is named."""
        query = select(t.holds).order_by(t.holds.c.id)
        if client is not None:
            query = query.where(t.holds.c.client == client)
        if active_only:
            query = query.where(t.holds.c.released_at.is_(None))
        with self._database.reading() as connection:
            return [_hold(row) for row in connection.execute(query)]

    def holds_on(self, paper: Paper) -> list[Hold]:
        """The active holds that cover a paper; it must not be destroyed while there is one."""
        return [hold for hold in self.holds(paper.client) if hold.covers(paper)]


def holds_in(connection: Connection) -> list[Hold]:
    """All active holds, as this transaction sees them."""
    return [_hold(row) for row in connection.execute(select(t.holds).where(t.holds.c.released_at.is_(None)))]


def _said(reason: str, by: str) -> None:
    if not reason.strip() or not by.strip():
        raise UsageError("a hold needs a reason and the name of who ordered it", "give --reason TEXT and --by NAME")


def _hold(row: Row[Any]) -> Hold:
    return Hold(
        row.id,
        row.client,
        row.path,
        row.paper,
        row.reason,
        row.ordered_by,
        row.set_at,
        row.released_at,
        row.released_by,
        row.release_reason,
    )
