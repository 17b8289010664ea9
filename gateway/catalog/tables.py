"""The tables, as SQLAlchemy Core sees them. Their history is in `migrations/`; a test holds the two together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Dialect, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint, false
from sqlalchemy.types import TypeDecorator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Moment(TypeDecorator[datetime]):
    """An aware UTC datetime, stored as whole microseconds since the epoch: sorts and compares the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's shape
        """Refuses a naive datetime: its meaning would depend on the machine."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime cannot be stored")
        return (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's shape
        """The moment in UTC."""
        return None if value is None else EPOCH + timedelta(microseconds=value)


metadata = MetaData()

clients = Table(
    "clients",
    metadata,
    Column("name", Text, primary_key=True),
    Column("custody", Text, nullable=False),
    Column("quota_bytes", BigInteger),
    Column("active", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("quota_names", BigInteger),
    Column("quota_stored_bytes", BigInteger),
    Column("profile", Text, nullable=False, server_default="exchange"),
    Column("upload_bytes_per_second", BigInteger),
    Column("download_bytes_per_second", BigInteger),
    Column("max_sessions", Integer),
    Column("max_handles", Integer),
)

client_keys = Table(
    "client_keys",
    metadata,
    Column("client", Text, ForeignKey("clients.name"), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("recipient", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
)

people = Table(
    "people",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("client", Text, ForeignKey("clients.name")),
    Column("active", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("allow_from", Text),
    Column("require", Text),
    Column("password_hash", Text),
    Column("totp", Boolean, nullable=False, server_default=false()),
    Column("off_boarded_at", Moment),
    Column("totp_since", Moment),
)

assignments = Table(
    "assignments",
    metadata,
    Column("person", Text, ForeignKey("people.name"), primary_key=True),
    Column("client", Text, ForeignKey("clients.name"), primary_key=True),
)

public_keys = Table(
    "public_keys",
    metadata,
    Column("person", Text, ForeignKey("people.name"), primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("line", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("added_at", Moment, nullable=False),
    Column("allow_from", Text),
    Column("expires_at", Moment),
)

certificates = Table(
    "certificates",
    metadata,
    Column("serial", BigInteger, primary_key=True, autoincrement=False),
    Column("person", Text, ForeignKey("people.name"), nullable=False),
    Column("key_id", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("source_address", Text),
    Column("valid_after", Moment, nullable=False),
    Column("valid_before", Moment, nullable=False),
    Column("issued_at", Moment, nullable=False),
)

revocations = Table(
    "revocations",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("revoked_at", Moment, nullable=False),
)

papers = Table(
    "papers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("client", Text, ForeignKey("clients.name"), nullable=False),
    Column("path", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("person", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("sealed_at", Moment, nullable=False),
    Column("modified_at", Moment),
    Column("generation", Integer, nullable=False),
    Column("header_mac", Text, nullable=False),
    Column("sealed_sha256", Text, nullable=False),
    Column("sealed_size", BigInteger, nullable=False),
    Column("session", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("class_name", Text, nullable=False, server_default=""),
    Column("code", Text, nullable=False, server_default=""),
    Column("receipted", Boolean, nullable=False),
    UniqueConstraint("client", "path", "version", name="papers_versions"),
)
Index("papers_by_hash", papers.c.sha256)
Index("papers_by_client", papers.c.client, papers.c.id)
Index("papers_without_receipt", papers.c.receipted, papers.c.id, sqlite_where=~papers.c.receipted)
Index("papers_by_time", papers.c.received_at, papers.c.id)
Index("papers_by_class", papers.c.class_name, papers.c.id)
Index("papers_held", papers.c.state, papers.c.id, sqlite_where=papers.c.state == "held")

holds = Table(
    "holds",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("client", Text, ForeignKey("clients.name"), nullable=False),
    Column("path", Text),
    Column("paper", Text),
    Column("reason", Text, nullable=False),
    Column("ordered_by", Text, nullable=False),
    Column("set_at", Moment, nullable=False),
    Column("released_at", Moment),
    Column("released_by", Text),
    Column("release_reason", Text),
)
Index("holds_by_client", holds.c.client, holds.c.id)

destructions = Table(
    "destructions",
    metadata,
    Column("client", Text, ForeignKey("clients.name"), primary_key=True),
    Column("state", Text, nullable=False),
    Column("ordered_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("begun_at", Moment, nullable=False),
    Column("keys", JSON, nullable=False),
    Column("keys_removed_at", Moment),
    Column("proof", JSON, nullable=False),
    Column("ended_at", Moment),
    Column("certificate", Text, nullable=False),
)

shreddings = Table(
    "shreddings",
    metadata,
    Column("client", Text, ForeignKey("clients.name"), primary_key=True),
    Column("repository", Text, primary_key=True),
    Column("place", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("tried_at", Moment, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("paper", Text, ForeignKey("papers.id"), primary_key=True),
    Column("decision", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_at", Moment, nullable=False),
)

manifests = Table(
    "manifests",
    metadata,
    Column("paper", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("unread", Integer, nullable=False),
    Column("fault", Text, nullable=False),
)

manifest_lines = Table(
    "manifest_lines",
    metadata,
    Column("manifest", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("state", Text, nullable=False),
)
Index("manifest_lines_open", manifest_lines.c.client, manifest_lines.c.path, sqlite_where=manifest_lines.c.state != "matches")

repositories = Table(
    "repositories",
    metadata,
    Column("name", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("restic_id", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("snapshot", Text),
    Column("keys_snapshot", Text),
    Column("detail", JSON, nullable=False),
)
Index("runs_by_kind", runs.c.kind, runs.c.id)
