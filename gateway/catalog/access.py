"""What decides whether a person is let in, and its changes: keys, addresses, passwords, second factors, assignments, certificates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from config.errors import UsageError
from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.people import assign, column_values, existing_person, joined, key_values, split
from gateway.catalog.rows import Certificate, Person, PublicKey

RevocationKind = Literal["serial", "key-id", "key"]
FIRST_SERIAL = 1


class AccessQueries:
    """The part of the catalog that changes how people log in. What a live session may be ended for is in `people.ACCESS_TABLES`."""

    _database: Database

    def edit_person(
        self, name: str, *, add_keys: Sequence[PublicKey] = (), remove_keys: Sequence[str] = (), clients: Sequence[str] | None = None, **values: Any
    ) -> Person:
        """Change a person: columns by name, keys by fingerprint, the clients of somebody of the staff. Raises UsageError when there is none."""
        with self._database.writing() as connection:
            existing_person(connection, name)
            if values:
                connection.execute(update(t.people).where(t.people.c.name == name).values(**column_values(values)))
            for fingerprint in remove_keys:
                gone = connection.execute(delete(t.public_keys).where(t.public_keys.c.person == name, t.public_keys.c.fingerprint == fingerprint))
                if not gone.rowcount:
                    raise UsageError(f"'{name}' has no key {fingerprint[:60]}", f"see them with: nightsafe person show {name}")
            for key in add_keys:
                connection.execute(delete(t.public_keys).where(t.public_keys.c.person == name, t.public_keys.c.fingerprint == key.fingerprint))
                connection.execute(insert(t.public_keys).values(person=name, added_at=datetime.now(UTC), **key_values(key)))
            if clients is not None:
                connection.execute(delete(t.assignments).where(t.assignments.c.person == name))
                assign(connection, name, clients)
            return existing_person(connection, name)

    def off_board(self, name: str) -> Person:
        """Take everything away that lets a person in; the name stays taken, because papers and the audit log speak of it. As they were before."""
        with self._database.writing() as connection:
            before = existing_person(connection, name)
            for table in (t.public_keys, t.assignments):
                connection.execute(delete(table).where(table.c.person == name))
            now = datetime.now(UTC)
            gone = {"active": False, "password_hash": None, "totp": False, "totp_since": None, "off_boarded_at": before.off_boarded_at or now}
            connection.execute(update(t.people).where(t.people.c.name == name).values(**gone))
            for serial in connection.execute(select(t.certificates.c.serial).where(t.certificates.c.person == name)).scalars().all():
                _revoke(connection, "serial", str(serial))
        return before

    def keys_added(self) -> dict[tuple[str, str], datetime]:
        """When each key came, by (person, fingerprint)."""
        with self._database.reading() as connection:
            rows = connection.execute(select(t.public_keys.c.person, t.public_keys.c.fingerprint, t.public_keys.c.added_at))
            return {(row.person, row.fingerprint): row.added_at for row in rows}

    def any_password(self) -> bool:
        """Whether anybody has a password: whether passwords are asked for at all. Cheap."""
        with self._database.reading() as connection:
            found = select(t.people.c.name).where(t.people.c.password_hash.is_not(None)).limit(1)
            return connection.execute(found).first() is not None

    # certificates

    def issue_certificate(
        self, person: str, *, key_id: str, fingerprint: str, source_address: Sequence[str], valid_after: datetime, valid_before: datetime
    ) -> Certificate:
        """Take the next serial number for a certificate, before it is signed. Raises UsageError for an unknown person."""
        with self._database.writing() as connection:
            existing_person(connection, person)
            highest = connection.execute(select(func.max(t.certificates.c.serial))).scalar_one_or_none()
            serial = (highest or FIRST_SERIAL - 1) + 1
            while _is_in(connection, "serial", str(serial)):  # given out before the catalog was rebuilt
                serial += 1
            issued = Certificate(serial, person, key_id, fingerprint, tuple(source_address), valid_after, valid_before, datetime.now(UTC))
            connection.execute(
                insert(t.certificates).values(
                    serial=issued.serial,
                    person=person,
                    key_id=key_id,
                    fingerprint=fingerprint,
                    source_address=joined(source_address),
                    valid_after=valid_after,
                    valid_before=valid_before,
                    issued_at=issued.issued_at,
                )
            )
        return issued

    def certificates(self, person: str | None = None) -> list[Certificate]:
        """What our CA has issued, oldest first."""
        wanted = select(t.certificates).order_by(t.certificates.c.serial)
        with self._database.reading() as connection:
            rows = connection.execute(wanted if person is None else wanted.where(t.certificates.c.person == person)).all()
            revoked = {(row.kind, row.value) for row in connection.execute(select(t.revocations))}
        return [
            Certificate(
                row.serial,
                row.person,
                row.key_id,
                row.fingerprint,
                split(row.source_address),
                row.valid_after,
                row.valid_before,
                row.issued_at,
                bool(revoked & set(revocation_names(row.serial, row.key_id, row.fingerprint))),
            )
            for row in rows
        ]

    def revoke_certificate(self, kind: RevocationKind, value: str) -> bool:
        """Let no certificate of this serial number, key id or key (fingerprint) in from now on. False when it was revoked already."""
        with self._database.writing() as connection:
            return _revoke(connection, kind, value)

    def is_revoked(self, serial: int, key_id: str, fingerprint: str) -> bool:
        """Whether a certificate was revoked by one of its three names."""
        names = revocation_names(serial, key_id, fingerprint)
        with self._database.reading() as connection:
            return any(_is_in(connection, kind, value) for kind, value in names)


def revocation_names(serial: int, key_id: str, fingerprint: str) -> tuple[tuple[RevocationKind, str], ...]:
    """The names by which a certificate can be revoked."""
    return ("serial", str(serial)), ("key-id", key_id), ("key", fingerprint)


def _is_in(connection: Connection, kind: str, value: str) -> bool:
    wanted = select(t.revocations.c.kind).where(t.revocations.c.kind == kind, t.revocations.c.value == value)
    return connection.execute(wanted).first() is not None


def _revoke(connection: Connection, kind: RevocationKind, value: str) -> bool:
    if _is_in(connection, kind, value):
        return False
    connection.execute(insert(t.revocations).values(kind=kind, value=value, revoked_at=datetime.now(UTC)))
    return True
