"""Destructions of clients, and what became of them in each key repository."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "destructions",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("ordered_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("keys", sa.JSON(), nullable=False),
        sa.Column("keys_removed_at", sa.BigInteger(), nullable=True),
        sa.Column("proof", sa.JSON(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["client"], ["clients.name"]),
        sa.PrimaryKeyConstraint("client"),
    )
    op.create_table(
        "shreddings",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("tried_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["client"], ["clients.name"]),
        sa.PrimaryKeyConstraint("client", "repository"),
    )
