"""Papers and their versions in the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, Select, and_, bindparam, false, func, insert, or_, select, type_coerce, update

from config.errors import UsageError
from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.holds import holds_in
from gateway.catalog.rows import NewPaper, Paper, Verdict

EXPIRING = "expiring"  # code of a paper whose file may still be in the vault
PAGE = 1000  # rows read at once: memory stays bounded over millions of papers
IDS = 500  # in one statement
FIELDS = tuple(field.name for field in fields(Paper))

# One statement for a whole batch: each row is numbered when it goes in, so that two versions in one batch follow each other.
_SAME_NAME = t.papers.alias("same_name")
_NEXT_VERSION = (
    select(func.coalesce(func.max(_SAME_NAME.c.version), 0) + 1)
    .where(_SAME_NAME.c.client == bindparam("client"), _SAME_NAME.c.path == bindparam("path"))
    .scalar_subquery()
)
_ADD = insert(t.papers).values({**{field.name: bindparam(field.name) for field in fields(NewPaper)}, "version": _NEXT_VERSION, "receipted": false()})
_MARK = (
    update(t.papers)
    .where(
        t.papers.c.id == bindparam("of"),
        or_(  # that a paper expired changes nothing of its receipt
            t.papers.c.state == "expired",
            and_(t.papers.c.state == bindparam("was"), t.papers.c.code == bindparam("said"), t.papers.c.reason == bindparam("why")),
        ),
    )
    .values(receipted=True)
)


class PaperQueries:
    """The part of the catalog that knows every paper that ever arrived."""

    _database: Database

    def record(self, arrivals: Sequence[NewPaper]) -> list[Paper]:
        """Record papers in one durable transaction, in order, and number their versions from 1 for each client and path.

        A paper that is recorded already is left as it is: recording twice is recording once.
        """
        with self._database.writing() as connection:
            known = _known(connection, [new.id for new in arrivals])
            fresh = {new.id: new for new in arrivals if new.id not in known}
            if fresh:
                connection.execute(_ADD, [vars(new) for new in fresh.values()])
                versions = _versions(connection, list(fresh))
                known |= {new.id: Paper(**vars(new), version=versions[new.id], receipted=False) for new in fresh.values()}
        return [known[new.id] for new in arrivals]

    def paper(self, paper: str) -> Paper | None:
        """The paper with this id, or None."""
        return self.known([paper]).get(paper)

    def known(self, papers: Iterable[str]) -> dict[str, Paper]:
        """Those of `papers` (ids) that are recorded."""
        with self._database.reading() as connection:
            return _known(connection, list(papers))

    def papers(self, client: str | None = None, state: Verdict | None = None) -> Iterator[Paper]:
        """All papers by id, which is by time of arrival; read page by page, so that no transaction stays open."""
        query = select(t.papers)
        if client is not None:
            query = query.where(t.papers.c.client == client)
        if state is not None:
            query = query.where(t.papers.c.state == state)
        return self._paged(query)

    def received_between(self, since: datetime, until: datetime) -> Iterator[Paper]:
        """Papers received from `since` on and before `until`, by id; read page by page."""
        return self._paged(select(t.papers).where(t.papers.c.received_at >= since, t.papers.c.received_at < until))

    def standing_between(self, since: datetime, until: datetime) -> tuple[tuple[Any, ...], ...]:
        """Another value whenever a paper received from `since` on and before `until` was added or got another verdict; cheaper than all of them."""
        papers = t.papers.c
        moments = func.sum(type_coerce(papers.received_at, BigInteger) - (since - t.EPOCH) // timedelta(microseconds=1))
        query = select(papers.client, papers.state, func.count(), func.sum(papers.size), moments)
        query = query.where(papers.received_at >= since, papers.received_at < until).group_by(papers.client, papers.state)
        with self._database.reading() as connection:
            return tuple(sorted(tuple(row) for row in connection.execute(query)))

    def versions(self, client: str, path: str) -> list[Paper]:
        """Every version that ever had this name, oldest first."""
        query = select(t.papers).where(t.papers.c.client == client, t.papers.c.path == path).order_by(t.papers.c.version)
        with self._database.reading() as connection:
            return [paper_of(row) for row in connection.execute(query)]

    def count_papers(self, client: str | None = None, state: Verdict | None = None, without_code: str | None = None) -> tuple[int, int]:
        """How many papers there are, but for those whose verdict has the code `without_code`, and their plaintext bytes."""
        query = select(func.count(), func.coalesce(func.sum(t.papers.c.size), 0)).select_from(t.papers)
        if client is not None:
            query = query.where(t.papers.c.client == client)
        if state is not None:
            query = query.where(t.papers.c.state == state)
        if without_code is not None:
            query = query.where(t.papers.c.code != without_code)
        with self._database.reading() as connection:
            count, size = connection.execute(query).one()
        return int(count), int(size)

    def arrivals(self, since: datetime) -> tuple[int, datetime | None]:
        """How many papers were received from `since` on, and when the last of them was."""
        query = select(func.count(), func.max(t.papers.c.received_at)).where(t.papers.c.received_at >= since)
        with self._database.reading() as connection:
            count, last = connection.execute(query).one()
        return int(count), last

    def count_by_key(self) -> dict[tuple[str, int], int]:
        """How many papers are sealed to each client's key, by (client, generation)."""
        query = select(t.papers.c.client, t.papers.c.generation, func.count()).where(t.papers.c.sealed_size > 0)
        with self._database.reading() as connection:
            rows = connection.execute(query.group_by(t.papers.c.client, t.papers.c.generation)).all()
        return {(client, generation): count for client, generation, count in rows}

    def mark_receipted(self, papers: Iterable[NewPaper], manifests: Mapping[str, Mapping[str, int]] = MappingProxyType({})) -> None:
        """Remember that receipts lie in the jails that say of `papers` what they say here, and of `manifests` (by paper) how many lines are in which
        state. A paper that has another verdict by now, or a manifest that compares otherwise, keeps its receipt due."""
        with self._database.writing() as connection:
            told = [paper for paper in papers if paper.id not in manifests or count_states(connection, paper.id) == manifests[paper.id]]
            if told:
                connection.execute(_MARK, [{"of": paper.id, "was": paper.state, "said": paper.code, "why": paper.reason} for paper in told])

    def change_verdict(self, paper: str, state: Verdict, reason: str, code: str) -> Paper:
        """Another verdict on a paper that is recorded; its receipt is due anew. One that is accepted only now counts as sealed now: no backup
        from before has it in the vault. Raises UsageError for one that is not recorded."""
        with self._database.writing() as connection:
            values: dict[str, Any] = {"state": state, "reason": reason, "code": code, "receipted": False}
            if state == "accepted":
                values["sealed_at"] = datetime.now(UTC)
            connection.execute(update(t.papers).where(t.papers.c.id == paper).values(**values))
            changed = _known(connection, [paper]).get(paper)
        if changed is None:
            raise UsageError(f"the catalog has no paper {paper[:40]}")
        return changed

    def expire(self, papers: Sequence[tuple[str, str]]) -> list[Paper]:
        """Of accepted papers (id, reason), those that are expired from now on; what an active legal hold covers is left out."""
        reasons = dict(papers)
        with self._database.writing() as connection:
            holds = holds_in(connection)
            found = _known(connection, list(reasons)).values()
            leaving = [paper.id for paper in found if paper.state == "accepted" and not any(hold.covers(paper) for hold in holds)]
            for paper in leaving:
                values = {"state": "expired", "code": EXPIRING, "reason": reasons[paper]}
                connection.execute(update(t.papers).where(t.papers.c.id == paper).values(**values))
            return list(_known(connection, leaving).values())

    def expiring(self) -> list[Paper]:
        """Papers whose expiry was begun and not finished."""
        query = select(t.papers).where(t.papers.c.state == "expired", t.papers.c.code == EXPIRING)
        with self._database.reading() as connection:
            return [paper_of(row) for row in connection.execute(query)]

    def mark_expired(self, papers: Sequence[str]) -> None:
        """Their files are gone."""
        with self._database.writing() as connection:
            for some in _portions(list(papers)):
                connection.execute(update(t.papers).where(t.papers.c.id.in_(some)).values(code="expired"))

    def unreceipted(self) -> list[Paper]:
        """Papers whose receipt may not have been written yet, oldest first, at most 10,000."""
        destroyed = select(t.destructions.c.client)  # these have no jail any more
        query = select(t.papers).where(~t.papers.c.receipted, t.papers.c.client.not_in(destroyed)).order_by(t.papers.c.id).limit(10_000)
        with self._database.reading() as connection:
            return [paper_of(row) for row in connection.execute(query)]

    def _paged(self, query: Select[Any]) -> Iterator[Paper]:
        last = ""
        while True:
            with self._database.reading() as connection:
                page = [paper_of(row) for row in connection.execute(query.where(t.papers.c.id > last).order_by(t.papers.c.id).limit(PAGE))]
            yield from page
            if len(page) < PAGE:
                return
            last = page[-1].id


def _known(connection: Connection, papers: list[str]) -> dict[str, Paper]:
    found = (connection.execute(select(t.papers).where(t.papers.c.id.in_(some))) for some in _portions(papers))
    return {row.id: paper_of(row) for rows in found for row in rows}


def _versions(connection: Connection, papers: list[str]) -> dict[str, int]:
    found = (connection.execute(select(t.papers.c.id, t.papers.c.version).where(t.papers.c.id.in_(some))) for some in _portions(papers))
    return {row.id: row.version for rows in found for row in rows}


def _portions(papers: list[str]) -> Iterator[list[str]]:
    return (papers[start : start + IDS] for start in range(0, len(papers), IDS))


def paper_of(row: Row[Any]) -> Paper:
    """A row of `papers` as a value."""
    return Paper(**{name: getattr(row, name) for name in FIELDS})


def count_states(connection: Connection, manifest: str) -> dict[str, int]:
    """How many lines of a manifest match, differ and are missing; states without a line are left out."""
    lines = t.manifest_lines.c
    found = connection.execute(select(lines.state, func.count()).where(lines.manifest == manifest).group_by(lines.state))
    return {row[0]: row[1] for row in found}
