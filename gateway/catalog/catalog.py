"""The only door to the catalog's database."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from config.errors import SettingsError
from config.files import FILE_MODE, fsync_folder
from gateway.catalog import schema
from gateway.catalog.access import AccessQueries
from gateway.catalog.checked import CheckQueries
from gateway.catalog.database import Changes, Database
from gateway.catalog.destructions import DestructionQueries
from gateway.catalog.figures import FigureQueries
from gateway.catalog.holds import HoldQueries
from gateway.catalog.manifests import ManifestQueries
from gateway.catalog.papers import PaperQueries
from gateway.catalog.people import PeopleQueries
from gateway.catalog.rebuilt import RebuildQueries
from gateway.catalog.runs import RunQueries
from gateway.catalog.search import SearchQueries
from gateway.catalog.standing import StandingQueries


class Catalog(
    PeopleQueries,
    AccessQueries,
    PaperQueries,
    CheckQueries,
    ManifestQueries,
    RunQueries,
    StandingQueries,
    HoldQueries,
    SearchQueries,
    DestructionQueries,
    RebuildQueries,
    FigureQueries,
):
    """Clients, people, papers, versions, repositories and runs. Thread-safe. Every method raises CatalogError when the database cannot be used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def create(cls, path: Path) -> Self:
        """Open the catalog, made or migrated to the newest revision first. Raises SettingsError when a newer program wrote it."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        database = Database(path)
        with database.writing() as connection:
            schema.migrate(connection)
        fsync_folder(path.parent)
        return cls(database)

    @classmethod
    def upgrade(cls, path: Path) -> Path | None:
        """Bring a catalog that is there to this program's revision; one of an older program is copied first, beside it. The copy; None when all was
        as it should be. Forward only. Raises SettingsError when it is missing, is none, or a newer program wrote it; CatalogError."""
        if not path.exists() or not path.stat().st_size:
            state = "is empty" if path.exists() else "is missing"
            raise SettingsError(f"the catalog {path} {state}", "restore it from a backup; no new one is made in its place")
        with closing(Database(path)) as database:
            with database.reading() as connection:
                revision = schema.revision_of(connection)
            schema.check_is_one(revision)
            if revision == schema.HEAD:
                return None
            copy = path.with_name(f"{path.stem}.before-{schema.HEAD}{path.suffix}")
            with database.writing() as connection:
                if schema.revision_of(connection) == schema.HEAD:  # by another one meanwhile, whose copy is to stay
                    return None
                cls(database).dump(copy)  # anew if it is there: an upgrade that was cut off changed nothing; that of one that was taken back is old
                schema.migrate(connection)
        return copy

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a catalog that is there. Raises SettingsError when it is missing, or of another revision than this program's."""
        if not path.exists():
            raise SettingsError(f"the catalog {path} is missing", "restore it from a backup; no new one is made in its place")
        database = Database(path)
        with database.reading() as connection:
            schema.check_current(connection)
        return cls(database)

    @classmethod
    def adopt(cls, path: Path) -> Self:
        """Open a copy that came back from a backup; one that an older program wrote is migrated. Raises SettingsError when it is no catalog."""
        database = Database(path)
        with database.reading() as connection:
            revision = schema.revision_of(connection)
        if revision is None:
            raise SettingsError("it holds no catalog", "take an older snapshot")
        if revision != schema.HEAD:
            with database.writing() as connection:
                schema.migrate(connection)
        return cls(database)

    @property
    def path(self) -> Path:
        """The database's file: for who copies from it by SQL while this holds it open."""
        return self._database.path

    def changes(self) -> Changes:
        """A watch on commits; the caller closes it."""
        return Changes(self._database.path)

    def dump(self, target: Path) -> None:
        """A consistent copy of the catalog in `target`, whole or not at all, durable. Raises CatalogError."""
        temporary = target.with_name(target.name + ".new")
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
        try:
            self._database.dump(temporary)
            descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_folder(target.parent)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
