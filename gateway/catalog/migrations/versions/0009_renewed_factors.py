"""When a second factor was given: sessions that an earlier one opened end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Of the second factors that are there it is not known."""
    op.add_column("people", sa.Column("totp_since", sa.BigInteger()))
