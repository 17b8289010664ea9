"""Finding papers among millions: an index of the words of names, kept by the same trigger. It has no text of its own, its rows are `paper_names`'."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index, fill it from the names that are there, and keep it."""
    op.execute("CREATE VIRTUAL TABLE paper_words USING fts5(path, content='', tokenize='unicode61', detail=none, columnsize=0)")
    op.execute("INSERT INTO paper_words (rowid, path) SELECT rowid, path FROM paper_names ORDER BY rowid")
    op.execute("DROP TRIGGER papers_named")
    op.execute(
        "CREATE TRIGGER papers_named AFTER INSERT ON papers BEGIN "
        "INSERT INTO paper_names (path, paper) VALUES (new.path, new.id); "
        "INSERT INTO paper_words (rowid, path) VALUES (last_insert_rowid(), new.path); END"
    )
