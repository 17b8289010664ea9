"""What is known here of each snapshot in a repository: by which backup it was made, whether that was whole, and what drills of it showed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from backup.drill.lineage import fault_of, same_snapshot
from backup.repositories.access import RepositoryName
from backup.repositories.places import of_this_repository
from backup.repositories.trust import backup_of, known_backups
from backup.restic import Snapshot
from config.loading import Installation
from config.words import counted
from gateway.catalog import Catalog, Run

DRILLS = 1000  # the newest, that are looked through


@dataclass(frozen=True)
class Mark:
    """`doubt` says why a snapshot is not to be trusted, or not whole; '' when nothing speaks against it. `drill` is the newest that looked at it and
    came to a verdict."""

    doubt: str
    drill: Run | None = None

    @property
    def text(self) -> str:
        """In a few words."""
        shown = "not proven"
        if self.drill is not None:
            which = f"drill {self.drill.id} ({self.drill.detail.get('kind')})"
            shown = f"proven by {which}" if self.drill.state == "passed" else f"bad by {which}: {self.drill.detail.get('cause')}"
        return "; ".join(part for part in (self.doubt, shown) if part)

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        drill = None if self.drill is None else {"run": self.drill.id, "kind": self.drill.detail.get("kind"), "verdict": self.drill.state}
        return {"doubt": self.doubt, "drill": drill}


def marked(
    installation: Installation, found: Sequence[tuple[RepositoryName, Snapshot]], copy: str = ""
) -> list[tuple[RepositoryName, Snapshot, Mark]]:
    """Snapshots of a place with their marks. Raises CatalogError."""
    now = datetime.now(UTC)
    with Catalog.open(installation.folder.catalog) as live:
        drills = [run for run in of_this_repository(live, live.runs("drill", DRILLS), copy) if run.detail.get("copy", "") == copy]
        look_up, known = partial(backup_of, live, copy=copy), bool(known_backups(live, copy))
        return [(name, one, mark(one, name, look_up, drills, now, known=known)) for name, one in found]


def mark(
    snapshot: Snapshot, repository: RepositoryName, look_up: Callable[[int], Run | None], drills: Sequence[Run], now: datetime, *, known: bool
) -> Mark:
    """The mark of one snapshot. Pure. `look_up` gives a backup to this place by its number; `drills` are of this place, newest first; `known`: this
    machine knows of backups to it at all."""
    return Mark(_doubt(snapshot, repository, look_up, now) if known else "not known here", _judged(snapshot, repository, drills))


def _doubt(snapshot: Snapshot, repository: RepositoryName, look_up: Callable[[int], Run | None], now: datetime) -> str:
    if repository == "keys" and "destruction" in snapshot.tags:
        return ""
    number = snapshot.tag("run") or ""
    run = look_up(int(number)) if number.isdecimal() and len(number) < 16 else None
    recorded = (run.snapshot if repository == "papers" else run.keys_snapshot) if run else None
    if run is None or not recorded or not same_snapshot(snapshot, recorded):
        if run and repository == "keys" and run.started_at <= snapshot.time <= (run.ended_at or now):
            return "made before the keys changed: the same backup saved them once more"
        return f"doubtful: {why}" if (why := fault_of(snapshot, run, now)) else "of a backup that did not end"
    unread = run.detail.get("unread")
    return f"partial: {counted(unread, 'file') if unread else 'some files'} could not be read" if run.state == "partial" else ""


def _judged(snapshot: Snapshot, repository: RepositoryName, drills: Sequence[Run]) -> Run | None:
    for drill in drills:
        seen = drill.snapshot if repository == "papers" else drill.keys_snapshot
        if seen and drill.state in ("passed", "failed") and same_snapshot(snapshot, seen):
            return drill
    return None
