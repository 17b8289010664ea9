"""What checks say of a paper: its class, and the code of its verdict; papers that are held are found without reading the others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns, empty for the papers that are there, and an index."""
    for name in ("class_name", "code"):
        op.add_column("papers", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    op.create_index("papers_held", "papers", ["state", "id"], unique=False, sqlite_where=sa.text("state = 'held'"))
