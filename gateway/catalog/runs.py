"""Repositories and runs (backups, drills, restores) in the catalog."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from config.errors import UsageError
from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.rows import Repository, Run, RunKind, RunState

GIVEN_UP = " given up "


class RunQueries:
    """The part of the catalog that remembers what was backed up, and what was proven."""

    _database: Database

    def repository(self, name: str) -> Repository | None:
        """The repository that was initialised under this name, or None: then none ever was."""
        with self._database.reading() as connection:
            row = connection.execute(select(t.repositories).where(t.repositories.c.name == name)).one_or_none()
        return None if row is None else Repository(row.name, row.url, row.restic_id, row.created_at)

    def repositories(self) -> list[Repository]:
        """All that are in use, by name; `papers@NAME` and `keys@NAME` are those of copies."""
        return [one for one in self._all_repositories() if GIVEN_UP not in one.name]

    def repositories_given_up(self) -> list[Repository]:
        """Those that were lost and given up, each under the name that it had, GIVEN_UP, a day and the beginning of its id."""
        return [one for one in self._all_repositories() if GIVEN_UP in one.name]

    def _all_repositories(self) -> list[Repository]:
        with self._database.reading() as connection:
            rows = connection.execute(select(t.repositories).order_by(t.repositories.c.name))
            return [Repository(row.name, row.url, row.restic_id, row.created_at) for row in rows]

    def add_repository(self, name: str, url: str, restic_id: str) -> Repository:
        """Remember a repository that was just initialised. Raises CatalogError when the name is taken."""
        now = datetime.now(UTC)
        with self._database.writing() as connection:
            connection.execute(insert(t.repositories).values(name=name, url=url, restic_id=restic_id, created_at=now))
        return Repository(name, url, restic_id, now)

    def give_up_repository(self, name: str) -> None:
        """A repository is lost, and another is to be made in its place. Destructions that are not done remember that nobody can look into it."""
        with self._database.writing() as connection:
            row = connection.execute(select(t.repositories).where(t.repositories.c.name == name)).one()
            past = f"{name}{GIVEN_UP}{datetime.now(UTC):%Y-%m-%d} {row.restic_id[:8]}"
            connection.execute(update(t.repositories).where(t.repositories.c.name == name).values(name=past))
            going_on = select(t.destructions.c.client).where(t.destructions.c.state != "done")
            theirs = (t.shreddings.c.repository == name) & t.shreddings.c.client.in_(going_on)
            lost = {"state": "lost", "cause": "given up as lost, and never proven clean"}
            connection.execute(update(t.shreddings).where(theirs, t.shreddings.c.state != "clean").values(**lost))
            connection.execute(update(t.shreddings).where(theirs).values(repository=past))

    def start_run(self, kind: RunKind, detail: Mapping[str, Any] | None = None) -> int:
        """Begin a run of this process; the id counts up."""
        row = {"kind": kind, "state": "running", "pid": os.getpid(), "started_at": datetime.now(UTC), "detail": dict(detail or {})}
        with self._database.writing() as connection:
            result = connection.execute(insert(t.runs).values(**row))
        key = result.inserted_primary_key
        if key is None:
            raise UsageError("the run was not recorded", "try again")
        return int(key[0])

    def finish_run(
        self, run: int, state: RunState, *, snapshot: str | None = None, keys_snapshot: str | None = None, detail: Mapping[str, Any] | None = None
    ) -> Run:
        """End a run; `detail` replaces what was there."""
        values: dict[str, Any] = {"state": state, "ended_at": datetime.now(UTC), "snapshot": snapshot, "keys_snapshot": keys_snapshot}
        if detail is not None:
            values["detail"] = dict(detail)
        with self._database.writing() as connection:
            connection.execute(update(t.runs).where(t.runs.c.id == run).values(**values))
        return self.run(run)

    def run(self, run: int) -> Run:
        """Raises UsageError when there is no such run."""
        with self._database.reading() as connection:
            row = connection.execute(select(t.runs).where(t.runs.c.id == run)).one_or_none()
        if row is None:
            raise UsageError(f"there is no run {run}", "see the runs with: nightsafe drill list, nightsafe backup status")
        return _run(row)

    def runs(self, kind: RunKind | None = None, limit: int = 50) -> list[Run]:
        """The newest runs first."""
        query = select(t.runs).order_by(t.runs.c.id.desc()).limit(limit)
        if kind is not None:
            query = query.where(t.runs.c.kind == kind)
        with self._database.reading() as connection:
            return [_run(row) for row in connection.execute(query)]

    def reconcile_runs(self, kind: RunKind | None = None, copy: str | None = None) -> int:
        """Runs that are 'running' though they cannot be become 'interrupted'; how many.

        With a `kind`, the caller holds that kind's lock, so that every such run is over; with `copy` its lock at that place ('' is the first).
        Without a kind, a run is over when its process is gone.
        """

        def is_over(row: Row[Any]) -> bool:
            here = copy is None or row.detail.get("copy", "") == copy
            return bool(row.kind == kind and here) if kind else not _alive(row.pid)

        with self._database.writing() as connection:
            running = connection.execute(select(t.runs).where(t.runs.c.state == "running")).all()
            gone = [row.id for row in running if is_over(row)]
            if gone:
                connection.execute(update(t.runs).where(t.runs.c.id.in_(gone)).values(state="interrupted", ended_at=datetime.now(UTC)))
        return len(gone)


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _run(row: Row[Any]) -> Run:
    return Run(row.id, row.kind, row.state, row.started_at, row.ended_at, row.snapshot, row.keys_snapshot, row.detail)
