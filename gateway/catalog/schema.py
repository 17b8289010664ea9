"""The version of the tables: made and raised by Alembic, forward only."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from config.errors import SettingsError

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010")  # oldest first; a test compares it with the files
HEAD = REVISIONS[-1]


def revision_of(connection: Connection) -> str | None:
    """The revision that the database has; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def migrate(connection: Connection) -> None:
    """Bring the database to HEAD. Refuses a database from a newer program (SettingsError)."""
    check_known(revision_of(connection))
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def check_current(connection: Connection) -> None:
    """Raises SettingsError unless the database is at HEAD."""
    revision = revision_of(connection)
    check_is_one(revision)
    if revision != HEAD:
        raise SettingsError(f"the catalog has revision {revision}; this program needs {HEAD}", "bring it along: nightsafe catalog upgrade")


def check_is_one(revision: str | None) -> None:
    """Raises SettingsError for a database that is no catalog, or a newer program's."""
    check_known(revision)
    if revision is None:
        raise SettingsError("the file of the catalog holds no catalog", "restore it from a backup; no new one is made in its place")


def check_known(revision: str | None) -> None:
    """Raises SettingsError for a revision that a newer program made."""
    if revision is not None and revision not in REVISIONS:
        raise SettingsError(
            f"the catalog was written by a newer Nightsafe (revision {revision[:40]}; this one knows up to {HEAD})",
            "use that newer version; nothing was changed",
        )
