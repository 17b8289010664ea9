"""Clients and people in the catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from config.errors import UsageError
from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.limits import Limits, limits_of
from gateway.catalog.names import check_name
from gateway.catalog.rows import Client, ClientKey, Custody, Person, PublicKey, Role

# Whatever decides whether somebody may log in belongs here: live sessions end by it.
ACCESS_TABLES = (t.clients, t.people, t.public_keys, t.assignments, t.revocations)


class PeopleQueries:
    """The part of the catalog that knows who may log in, and whose papers they see."""

    _database: Database

    def add_client(
        self,
        name: str,
        *,
        custody: Custody = "managed",
        recipient: str,
        generation: int = 1,
        quota_bytes: int | None = None,
        besides: Mapping[int, str] | None = None,
    ) -> Client:
        """Add a client with its first key, and those `besides` (generation → recipient). Raises UsageError when the name is taken or cannot be
        one."""
        check_name(name)
        now = datetime.now(UTC)
        keys = tuple(ClientKey(number, key, now) for number, key in sorted({generation: recipient, **(besides or {})}.items()))
        with self._database.writing() as connection:
            if _client(connection, name):
                raise UsageError(f"there is a client '{name}' already", "choose another name, or look at: nightsafe client list")
            connection.execute(insert(t.clients).values(name=name, custody=custody, quota_bytes=quota_bytes, active=True, created_at=now))
            for key in keys:
                connection.execute(insert(t.client_keys).values(client=name, generation=key.generation, recipient=key.recipient, created_at=now))
        return Client(name, custody, quota_bytes, True, now, keys, Limits(bytes=quota_bytes))

    def add_client_key(self, client: str, *, recipient: str, generation: int) -> None:
        """Remember another generation of a client's key; one that is known is left as it is. Raises UsageError for an unknown client."""
        with self._database.writing() as connection:
            known = _client(connection, client)
            if known is None:
                raise unknown_client(client)
            if all(key.generation != generation for key in known.keys):
                connection.execute(
                    insert(t.client_keys).values(client=client, generation=generation, recipient=recipient, created_at=datetime.now(UTC))
                )

    def client(self, name: str) -> Client | None:
        """The client, or None."""
        with self._database.reading() as connection:
            return _client(connection, name)

    def clients(self) -> list[Client]:
        """All clients by name."""
        with self._database.reading() as connection:
            names = connection.execute(select(t.clients.c.name).order_by(t.clients.c.name)).scalars()
            return [client for name in names.all() if (client := _client(connection, name))]

    def limits(self) -> dict[str, Limits]:
        """The limits of every client by name, in one look."""
        with self._database.reading() as connection:
            return {row.name: limits_of(row) for row in connection.execute(select(t.clients))}

    def edit_client(self, name: str, **values: Any) -> Client:
        """Change columns of a client: `active`, those of its limits. Raises UsageError when there is none of that name."""
        with self._database.writing() as connection:
            before = _client(connection, name)
            if before is None:
                raise unknown_client(name)
            if connection.execute(select(t.destructions.c.client).where(t.destructions.c.client == name)).one_or_none() is not None:
                raise UsageError(f"the client '{name}' was destroyed", "there is nothing left to change; a new client takes another name")
            connection.execute(update(t.clients).where(t.clients.c.name == name).values(**values))
            return _client(connection, name) or before

    def add_person(
        self,
        name: str,
        *,
        role: Role = "client",
        client: str | None = None,
        clients: Sequence[str] = (),
        keys: Sequence[PublicKey] = (),
        expires_at: datetime | None = None,
        **values: Any,
    ) -> Person:
        """Add a person with their public keys. Raises UsageError when the name is taken, or a client unknown."""
        check_name(name)
        now = datetime.now(UTC)
        row = {"name": name, "role": role, "client": client, "active": True, "totp": False, "created_at": now, "expires_at": expires_at}
        with self._database.writing() as connection:
            if _person(connection, name):
                raise UsageError(f"there is a person '{name}' already", "choose another login name")
            if client is not None and _client(connection, client) is None:
                raise unknown_client(client)
            connection.execute(insert(t.people).values(**row | column_values(values)))
            for key in {key.fingerprint: key for key in keys}.values():
                connection.execute(insert(t.public_keys).values(person=name, added_at=now, **key_values(key)))
            assign(connection, name, clients)
            added = _person(connection, name)
        if added is None:
            raise UsageError(f"the person '{name}' was not kept", "try again")
        return added

    def person(self, name: str) -> Person | None:
        """The person with their keys, or None. Cheap: every login asks."""
        with self._database.reading() as connection:
            return _person(connection, name)

    def existing_person(self, name: str) -> Person:
        """The person. Raises UsageError when there is none."""
        with self._database.reading() as connection:
            return existing_person(connection, name)

    def people(self) -> list[Person]:
        """All people by name."""
        with self._database.reading() as connection:
            names = connection.execute(select(t.people.c.name).order_by(t.people.c.name)).scalars()
            return [person for name in names.all() if (person := _person(connection, name))]

    def access_mark(self) -> bytes:
        """A digest over all that logins depend on: while it stays the same, nobody gained or lost anything by a change of the catalog."""
        digest = hashlib.sha256()
        with self._database.reading() as connection:
            for table in ACCESS_TABLES:
                for row in connection.execute(select(table).order_by(*table.primary_key)):
                    digest.update(repr(tuple(row)).encode())
        return digest.digest()


def assign(connection: Connection, person: str, clients: Sequence[str]) -> None:
    """Give somebody of the staff their clients. Raises UsageError for an unknown one."""
    for client in dict.fromkeys(clients):
        if _client(connection, client) is None:
            raise unknown_client(client)
        connection.execute(insert(t.assignments).values(person=person, client=client))


def column_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` as the table of people keeps them: lists are joined, and a second factor that is given is a new one from now on."""
    columns = {name: joined(value) if name in ("allow_from", "require") else value for name, value in values.items()}
    if "totp" in columns:
        columns["totp_since"] = datetime.now(UTC) if columns["totp"] else None
    return columns


def key_values(key: PublicKey) -> dict[str, Any]:
    """A public key as its table keeps it."""
    facts = {"fingerprint": key.fingerprint, "line": key.line, "comment": key.comment}
    return {**facts, "allow_from": joined(key.allow_from), "expires_at": key.expires_at}


def joined(items: Sequence[str]) -> str | None:
    """A list as a column holds it."""
    return ",".join(items) or None


def split(text: str | None) -> tuple[str, ...]:
    """A list that a column holds."""
    return tuple(text.split(",")) if text else ()


def existing_person(connection: Connection, name: str) -> Person:
    """The person. Raises UsageError when there is none."""
    found = _person(connection, name)
    if found is None:
        shown = name[:40].encode("unicode_escape").decode()
        raise UsageError(f"there is no person '{shown}'", "see the names with: nightsafe person list")
    return found


def unknown_client(name: str) -> UsageError:
    """What is said when a client is named that does not exist."""
    shown = name[:40].encode("unicode_escape").decode()
    return UsageError(f"there is no client '{shown}'", "see the names with: nightsafe client list")


def _client(connection: Connection, name: str) -> Client | None:
    row = connection.execute(select(t.clients).where(t.clients.c.name == name)).one_or_none()
    if row is None:
        return None
    keys = connection.execute(select(t.client_keys).where(t.client_keys.c.client == name).order_by(t.client_keys.c.generation))
    known = tuple(ClientKey(k.generation, k.recipient, k.created_at) for k in keys)
    return Client(row.name, row.custody, row.quota_bytes, row.active, row.created_at, known, limits_of(row))


def _person(connection: Connection, name: str) -> Person | None:
    row: Row[Any] | None = connection.execute(select(t.people).where(t.people.c.name == name)).one_or_none()
    if row is None:
        return None
    keys = connection.execute(select(t.public_keys).where(t.public_keys.c.person == name).order_by(t.public_keys.c.fingerprint))
    clients = connection.execute(select(t.assignments.c.client).where(t.assignments.c.person == name).order_by(t.assignments.c.client)).scalars()
    return Person(
        row.name,
        row.role,
        row.client,
        row.active,
        row.created_at,
        row.expires_at,
        tuple(PublicKey(key.line, key.fingerprint, key.comment, split(key.allow_from), key.expires_at) for key in keys),
        clients=tuple(clients),
        allow_from=split(row.allow_from),
        require=split(row.require),
        password_hash=row.password_hash,
        totp=row.totp,
        off_boarded_at=row.off_boarded_at,
        totp_since=row.totp_since,
    )
