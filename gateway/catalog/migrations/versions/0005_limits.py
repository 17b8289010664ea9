"""Limits of clients: names, stored bytes, profile, speeds, sessions, handles."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; clients that exist have the profile `exchange` and no limits."""
    op.add_column("clients", sa.Column("quota_names", sa.BigInteger(), nullable=True))
    op.add_column("clients", sa.Column("quota_stored_bytes", sa.BigInteger(), nullable=True))
    op.add_column("clients", sa.Column("profile", sa.Text(), nullable=False, server_default="exchange"))
    op.add_column("clients", sa.Column("upload_bytes_per_second", sa.BigInteger(), nullable=True))
    op.add_column("clients", sa.Column("download_bytes_per_second", sa.BigInteger(), nullable=True))
    op.add_column("clients", sa.Column("max_sessions", sa.Integer(), nullable=True))
    op.add_column("clients", sa.Column("max_handles", sa.Integer(), nullable=True))
