"""What a person, a client and a paper are to each other at this moment, in one question: keyd asks it for every key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, bindparam, literal, select

from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.rows import Custody


@dataclass(frozen=True)
class Standing:
    """None where the catalog does not know the person, the client, or the paper. `sees`: whether the client's papers are the person's business."""

    person_active: bool | None
    expires_at: datetime | None
    sees: bool
    client_active: bool | None
    custody: Custody | None
    paper_client: str | None
    header_mac: str | None
    is_staff: bool = False


_ONE = select(literal(1).label("one")).subquery()
_QUERY = select(
    t.people.c.active.label("person_active"),
    t.people.c.expires_at,
    t.people.c.role,
    t.people.c.client.label("own"),
    t.assignments.c.client.label("assigned"),
    t.clients.c.active.label("client_active"),
    t.clients.c.custody,
    t.papers.c.client.label("paper_client"),
    t.papers.c.header_mac,
).select_from(
    _ONE.outerjoin(t.people, t.people.c.name == bindparam("person"))
    .outerjoin(t.clients, t.clients.c.name == bindparam("client"))
    .outerjoin(t.assignments, and_(t.assignments.c.person == t.people.c.name, t.assignments.c.client == t.clients.c.name))
    .outerjoin(t.papers, t.papers.c.id == bindparam("paper"))
)


class StandingQueries:
    """The part of the catalog that keyd asks."""

    _database: Database

    def standing(self, person: str, client: str, paper: str = "") -> Standing:
        """How these three stand, whether or not the catalog knows them."""
        with self._database.reading() as connection:
            row = connection.execute(_QUERY, {"person": person, "client": client, "paper": paper}).one()
        sees = row.own == client if row.role == "client" else row.role == "staff" and row.assigned == client
        return Standing(
            row.person_active, row.expires_at, sees, row.client_active, row.custody, row.paper_client, row.header_mac, row.role == "staff"
        )
