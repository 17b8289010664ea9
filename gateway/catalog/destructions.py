"""Destroyed clients in the catalog: begun once, never taken back, ended when every key repository is proven clean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from config.errors import UsageError
from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.people import unknown_client
from gateway.catalog.rows import Destruction, Shredding, ShreddingState


class DestructionQueries:
    """The part of the catalog that remembers what was destroyed."""

    _database: Database

    def begin_destruction(self, client: str, *, ordered_by: str, reason: str, keys: Sequence[Mapping[str, Any]]) -> Destruction:
        """The point of no return, in one transaction: no hold may be active, nobody of the client may log in from now on. `keys` says which
        files are to go. One that has begun is returned as it is.

        Raises UsageError: unknown client, legal hold, no reason or name.
        """
        with self._database.writing() as connection:
            if (found := _destruction(connection, client)) is not None:
                return found
            if connection.execute(select(t.clients.c.name).where(t.clients.c.name == client)).one_or_none() is None:
                raise unknown_client(client)
            held = connection.execute(select(t.holds).where(t.holds.c.client == client, t.holds.c.released_at.is_(None)).limit(1)).one_or_none()
            if held is not None:
                raise UsageError(
                    f"{client} is under legal hold {held.id}, ordered by {held.ordered_by}: {held.reason}",
                    f"nothing was destroyed; see: nightsafe hold list {client}",
                )
            if not ordered_by.strip() or not reason.strip():
                raise UsageError("a destruction needs a reason and the name of who ordered it", "give --reason TEXT and --by NAME")
            connection.execute(
                insert(t.destructions).values(
                    client=client,
                    state="begun",
                    ordered_by=ordered_by,
                    reason=reason,
                    begun_at=datetime.now(UTC),
                    keys=[dict(key) for key in keys],
                    proof={},
                    certificate="",
                )
            )
            connection.execute(update(t.clients).where(t.clients.c.name == client).values(active=False))
            return _known(connection, client)

    def destruction(self, client: str) -> Destruction | None:
        """The client's destruction, or None: then it was not destroyed."""
        with self._database.reading() as connection:
            return _destruction(connection, client)

    def destructions(self) -> list[Destruction]:
        """All of them, by client."""
        with self._database.reading() as connection:
            names = connection.execute(select(t.destructions.c.client).order_by(t.destructions.c.client)).scalars().all()
            return [found for name in names if (found := _destruction(connection, name))]

    def update_destruction(self, client: str, **values: Any) -> Destruction:
        """Write down how far it is: `state`, `keys_removed_at`, `proof`, `ended_at`, `certificate`."""
        with self._database.writing() as connection:
            connection.execute(update(t.destructions).where(t.destructions.c.client == client).values(**values))
            return _known(connection, client)

    def note_shredding(self, client: str, repository: str, place: str, state: ShreddingState, cause: str = "") -> None:
        """What became of the client's keys in a key repository."""
        with self._database.writing() as connection:
            connection.execute(delete(t.shreddings).where(t.shreddings.c.client == client, t.shreddings.c.repository == repository))
            row = {"client": client, "repository": repository, "place": place, "state": state, "cause": cause, "tried_at": datetime.now(UTC)}
            connection.execute(insert(t.shreddings).values(**row))

    def replace_keys_snapshots(self, gone: Sequence[str], instead: str) -> int:
        """Runs whose snapshot of the keys was forgotten point to another one from now on; how many. A drill would look for the old ones."""
        with self._database.writing() as connection:
            rows = connection.execute(select(t.runs.c.id, t.runs.c.keys_snapshot).where(t.runs.c.keys_snapshot.is_not(None))).all()
            runs = [row.id for row in rows if any(snapshot.startswith(row.keys_snapshot) for snapshot in gone)]  # older restics tell short ids
            for start in range(0, len(runs), 500):
                connection.execute(update(t.runs).where(t.runs.c.id.in_(runs[start : start + 500])).values(keys_snapshot=instead))
        return len(runs)

    def check_not_destroyed(self, client: str) -> None:
        """Raises UsageError for a destroyed client."""
        with self._database.reading() as connection:
            refuse_destroyed(connection, client)


def refuse_destroyed(connection: Connection, client: str) -> None:
    """Raises UsageError for a client whose destruction has begun."""
    row = connection.execute(select(t.destructions).where(t.destructions.c.client == client)).one_or_none()
    if row is not None:
        where = f"the certificate is {row.certificate} in the data folder" if row.certificate else "it is not finished yet: see nightsafe status"
        raise UsageError(f"the client '{client}' was destroyed on {row.begun_at:%Y-%m-%d}: nobody can open its papers any more", where)


def _known(connection: Connection, client: str) -> Destruction:
    found = _destruction(connection, client)
    if found is None:
        raise UsageError(f"the client '{client}' is not being destroyed")
    return found


def _destruction(connection: Connection, client: str) -> Destruction | None:
    row = connection.execute(select(t.destructions).where(t.destructions.c.client == client)).one_or_none()
    if row is None:
        return None
    shreddings = connection.execute(select(t.shreddings).where(t.shreddings.c.client == client).order_by(t.shreddings.c.repository))
    return Destruction(
        client=row.client,
        state=row.state,
        ordered_by=row.ordered_by,
        reason=row.reason,
        begun_at=row.begun_at,
        keys=tuple(row.keys),
        keys_removed_at=row.keys_removed_at,
        proof=row.proof,
        ended_at=row.ended_at,
        certificate=row.certificate,
        repositories=tuple(Shredding(one.repository, one.place, one.state, one.cause, one.tried_at) for one in shreddings),
    )
