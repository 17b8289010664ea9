"""People in full: addresses, required factors, passwords, second factors, staff; options of keys; certificates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and tables; what is there stays as it is."""
    for column in ("allow_from", "require", "password_hash"):
        op.add_column("people", sa.Column(column, sa.Text(), nullable=True))
    op.add_column("people", sa.Column("totp", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("people", sa.Column("off_boarded_at", sa.BigInteger(), nullable=True))
    op.add_column("public_keys", sa.Column("allow_from", sa.Text(), nullable=True))
    op.add_column("public_keys", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "assignments",
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["people.name"]),
        sa.ForeignKeyConstraint(["client"], ["clients.name"]),
        sa.PrimaryKeyConstraint("person", "client"),
    )
    op.create_table(
        "certificates",
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("source_address", sa.Text(), nullable=True),
        sa.Column("valid_after", sa.BigInteger(), nullable=False),
        sa.Column("valid_before", sa.BigInteger(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["people.name"]),
        sa.PrimaryKeyConstraint("serial"),
    )
    op.create_table(
        "revocations",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "value"),
    )
