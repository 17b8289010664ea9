"""Counts for people who look after the house: papers a day, papers of each client."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import BigInteger, func, select, type_coerce

from gateway.catalog import tables as t
from gateway.catalog.database import Database

DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class ClientFigures:
    """What came from one client: accepted and held papers, their plaintext bytes, and when the last one came."""

    client: str
    papers: int
    size: int
    last: datetime | None


class FigureQueries:
    """The part of the catalog that counts."""

    _database: Database

    def papers_by_day(self, since: datetime, until: datetime) -> dict[date, int]:
        """How many papers were received on each day (UTC) from `since` on and before `until`; days without any are 0."""
        day = type_coerce(t.papers.c.received_at, BigInteger) // DAY
        query = select(day.label("day"), func.count()).where(t.papers.c.received_at >= since, t.papers.c.received_at < until).group_by("day")
        with self._database.reading() as connection:
            found = {t.EPOCH.date() + timedelta(days=int(number)): int(count) for number, count in connection.execute(query)}
        days = (until.date() - since.date()).days + 1
        return {day: found.get(day, 0) for day in (since.date() + timedelta(days=number) for number in range(days))}

    def figures_by_client(self) -> list[ClientFigures]:
        """All clients that have papers, by name."""
        client = (t.papers.c.client + "").label("client")  # no bare column: by its index every row is looked up alone, four times as slow
        columns = (client, func.count(), func.sum(t.papers.c.size), func.max(t.papers.c.received_at))
        query = select(*columns).where(t.papers.c.state.in_(("accepted", "held"))).group_by(client).order_by(client)
        with self._database.reading() as connection:
            return [ClientFigures(client, int(count), int(size), last) for client, count, size, last in connection.execute(query)]
