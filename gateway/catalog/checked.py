"""Held papers in the catalog: what a later look made of them, and what people decide about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Literal, NamedTuple, cast

from sqlalchemy import insert, select, update

from config.errors import UsageError
from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.papers import paper_of
from gateway.catalog.rows import NewPaper, Paper

Decision = Literal["release", "refuse", "again"]
STAY = ("id", "client", "path", "person", "received_at")  # of a held paper: the name under which its version was numbered


class Decided(NamedTuple):
    """What a person said about a held paper, and when: the same word said again is another one."""

    decision: Decision
    at: datetime


class CheckQueries:
    """The part of the catalog that knows of papers which wait for a verdict."""

    _database: Database

    def settle(self, papers: Sequence[NewPaper]) -> list[Paper]:
        """Put a later verdict in the place of `held`, in one durable transaction. Path and version stay; the receipt is to be written anew.

        A paper that is not held any more is left as it is: settling twice is settling once.
        """
        with self._database.writing() as connection:
            for new in papers:
                values = {name: value for name, value in asdict(new).items() if name not in STAY}
                waiting = (t.papers.c.id == new.id) & (t.papers.c.state == "held")
                connection.execute(update(t.papers).where(waiting).values(**values, receipted=False))
            found = [connection.execute(select(t.papers).where(t.papers.c.id == new.id)).one() for new in papers]
        return [paper_of(row) for row in found]

    def held(self, client: str | None = None, most: int = 10_000) -> list[Paper]:
        """Papers that are held, oldest first."""
        query = select(t.papers).where(t.papers.c.state == "held").order_by(t.papers.c.id).limit(most)
        if client is not None:
            query = query.where(t.papers.c.client == client)
        with self._database.reading() as connection:
            return [paper_of(row) for row in connection.execute(query)]

    def held_ids(self) -> set[str]:
        """The ids of all that are held."""
        with self._database.reading() as connection:
            return set(connection.execute(select(t.papers.c.id).where(t.papers.c.state == "held")).scalars())

    def decide(self, paper: str, decision: Decision, *, person: str, reason: str) -> Paper:
        """Say what is to become of a held paper; the newest word counts, ingest acts on it. Raises UsageError unless the paper is held."""
        with self._database.writing() as connection:
            row = connection.execute(select(t.papers).where(t.papers.c.id == paper)).one_or_none()
            if row is None or row.state != "held":
                raise UsageError(f"no paper {paper[:40]} is held", "the ids are shown by: nightsafe held list")
            connection.execute(t.decisions.delete().where(t.decisions.c.paper == paper))
            values = {"paper": paper, "decision": decision, "person": person, "reason": reason, "decided_at": datetime.now(UTC)}
            connection.execute(insert(t.decisions).values(**values))
            return paper_of(row)

    def decisions(self) -> dict[str, Decided]:
        """What was decided about the papers that are held still."""
        query = select(t.decisions).join(t.papers, t.papers.c.id == t.decisions.c.paper).where(t.papers.c.state == "held")
        with self._database.reading() as connection:
            return {row.paper: Decided(cast(Decision, row.decision), row.decided_at) for row in connection.execute(query)}

    def ids_from(self, client: str, first_id: str, most: int) -> set[str]:
        """The papers of a client that have `first_id` or a later id, `most` of them: ids begin with the time."""
        found = select(t.papers.c.id).where(t.papers.c.client == client, t.papers.c.id >= first_id).order_by(t.papers.c.id).limit(most)
        with self._database.reading() as connection:
            return set(connection.execute(found).scalars())
