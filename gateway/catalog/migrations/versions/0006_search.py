"""Finding papers: an index of the pieces of names, kept by triggers, and indexes by time and by class."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes, and fill that of names from what is there."""
    op.create_index("papers_by_time", "papers", ["received_at", "id"])
    op.create_index("papers_by_class", "papers", ["class_name", "id"])
    op.execute("CREATE VIRTUAL TABLE paper_names USING fts5(path, paper UNINDEXED, tokenize='trigram', detail=full)")
    op.execute("INSERT INTO paper_names (path, paper) SELECT path, id FROM papers ORDER BY id")
    op.execute("CREATE TRIGGER papers_named AFTER INSERT ON papers BEGIN INSERT INTO paper_names (path, paper) VALUES (new.path, new.id); END")
