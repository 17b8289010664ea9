"""Is yesterday safe? One answer, from what the catalog knows: no bucket is asked, so it is quick and works while S3 is away.

Green means proven, and elsewhere: the newest backup passed and is young enough, a drill passed and is young enough, and the bucket is not on
this machine. Red means that something must be done. Yellow is the rest: good as far as it goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from backup.repositories.access import is_offsite
from backup.repositories.places import of_this_repository, recorded_name
from backup.status.line import Colour
from config.loading import Installation
from config.settings import CopySettings
from config.words import counted
from gateway.catalog import Catalog, Run

NOT_OFFSITE = "not offsite: the bucket is on this machine, so its loss takes the backups along"


@dataclass(frozen=True)
class BackupStatus:
    """What `judge` found. `snapshot`, `saved_at` are of the newest good backup; `proven_at` is the end of the newest passed drill."""

    backup_faults: tuple[str, ...]
    drill_faults: tuple[str, ...]
    notes: tuple[str, ...]  # what keeps it from green without being wrong
    offsite: bool
    snapshot: str | None
    saved_at: datetime | None
    proven_at: datetime | None
    newest: Run | None

    @property
    def reasons(self) -> tuple[str, ...]:
        """All that is wrong, then all that is worth a note."""
        return (*self.backup_faults, *self.drill_faults, *self.notes)

    @property
    def colour(self) -> Colour:
        """Of the whole."""
        return "red" if self.backup_faults or self.drill_faults else "yellow" if self.notes else "green"

    @property
    def green(self) -> bool:
        return self.colour == "green"

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        newest = self.newest
        return {
            "colour": self.colour,
            "green": self.green,
            "reasons": list(self.reasons),
            "offsite": self.offsite,
            "snapshot": self.snapshot,
            "saved_at": _iso(self.saved_at),
            "proven_at": _iso(self.proven_at),
            "newest_run": None if newest is None else {"run": newest.id, "state": newest.state, "started_at": _iso(newest.started_at)},
        }

    def lines(self) -> dict[str, object]:
        """For people."""
        return {
            "backup": self.colour + (": " + "; ".join(self.reasons) if self.reasons else ""),
            "newest good snapshot": "none yet" if self.snapshot is None else f"{self.snapshot[:8]} of {_iso(self.saved_at)}",
            "last proven": _iso(self.proven_at) or "never",
            "offsite": "yes" if self.offsite else "no",
        }


def backup_status(installation: Installation, now: datetime | None = None) -> BackupStatus:
    """The state of backups and drills now. Raises SettingsError, CatalogError."""
    settings = installation.settings
    with Catalog.open(installation.folder.catalog) as catalog:
        backups = of_this_repository(catalog, catalog.runs("backup", 200))
        drills = of_this_repository(catalog, (run for run in catalog.runs("drill", 200) if not run.detail.get("copy")))
    return judge(
        backups,
        drills,
        now or datetime.now(UTC),
        backup_limit=timedelta(hours=settings.backup.max_age_hours),
        drill_limit=timedelta(hours=settings.drill.max_age_hours),
        offsite=not settings.s3.is_embedded and is_offsite(settings.s3.endpoint),
    )


def judge(
    backups: Sequence[Run], drills: Sequence[Run], now: datetime, *, backup_limit: timedelta, drill_limit: timedelta, offsite: bool
) -> BackupStatus:
    """The verdict over runs, newest first. Pure."""
    ended_backups, ended_drills = _ended(backups), _ended(drills)
    saved = next((run for run in ended_backups if run.state == "passed" and run.snapshot and run.detail.get("files")), None)
    proven = next((run for run in ended_drills if run.state == "passed" and run.detail.get("kind") != "escrow"), None)  # that looks at a few papers
    notes = [] if offsite else [NOT_OFFSITE]
    if proven is not None and not proven.detail.get("drawn"):
        notes.append("the last passed drill had no papers to compare: it proves little")
    if proven is not None and ended_drills[0].state == "inconclusive":
        notes.append(f"the newest drill was inconclusive: {ended_drills[0].detail.get('cause', 'cause unknown')}")
    return BackupStatus(
        tuple(_backup_faults(ended_backups, saved, now, backup_limit)),
        tuple(_drill_faults(ended_drills, proven, now, drill_limit)),
        tuple(notes),
        offsite,
        saved.snapshot if saved else None,
        saved.started_at if saved else None,
        (proven.ended_at or proven.started_at) if proven else None,
        next(iter(backups), None),
    )


def _ended(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.state != "running"]


def _backup_faults(ended: list[Run], saved: Run | None, now: datetime, limit: timedelta) -> list[str]:
    faults = []
    if ended and ended[0].state != "passed":
        how = "failed" if ended[0].state == "failed" else f"ended {ended[0].state}"
        faults.append(f"the newest backup {how}: {ended[0].detail.get('error', 'cause unknown')}")
    if saved is None:
        faults.append("there is no backup yet")
    elif now - saved.started_at > limit:
        faults.append(f"the newest good backup is {_age(now - saved.started_at)} old; the limit is {_age(limit)}")
    elif saved.started_at - now > timedelta(minutes=5):
        faults.append("the newest backup lies in the future: was the clock set back?")
    return faults


def _drill_faults(ended: list[Run], proven: Run | None, now: datetime, limit: timedelta) -> list[str]:
    faults = []
    if ended and ended[0].state == "failed":
        faults.append(f"the newest drill failed: {ended[0].detail.get('cause', 'cause unknown')}")
    if proven is None:
        faults.append("no drill has passed yet: nothing proves that the backup can be restored")
    elif now - proven.started_at > limit:
        faults.append(f"the last passed drill is {_age(now - proven.started_at)} old; the limit is {_age(limit)}")
    return faults


@dataclass(frozen=True)
class CopyStatus:
    """How the copy `name` is. `saved_at` is of its newest good run, `proven_at` of its newest passed drill."""

    name: str
    url: str
    offsite: bool
    faults: tuple[str, ...]
    drill_faults: tuple[str, ...]
    drill_failed: bool  # the newest one
    saved_at: datetime | None
    proven_at: datetime | None


def copies_status(installation: Installation, now: datetime | None = None) -> list[CopyStatus]:
    """All copies in the settings, by name. Raises CatalogError."""
    now = now or datetime.now(UTC)
    with Catalog.open(installation.folder.catalog) as catalog:
        runs, drills = catalog.runs("copy", 500), catalog.runs("drill", 500)
        return [_copy_status(catalog, name, settings, runs, drills, now) for name, settings in sorted(installation.settings.copies.items())]


def _copy_status(catalog: Catalog, name: str, settings: CopySettings, runs: Sequence[Run], drills: Sequence[Run], now: datetime) -> CopyStatus:
    """`runs` and `drills` are those of all copies."""
    own, drilled = (_ended(of_this_repository(catalog, (r for r in some if r.detail.get("copy") == name), name)) for some in (runs, drills))
    saved = next((run for run in own if run.state == "passed" and run.snapshot), None)
    proven = next((run for run in drilled if run.state == "passed" and run.detail.get("kind") != "escrow"), None)
    faults = _backup_faults(own, saved, now, timedelta(hours=settings.max_age_hours))
    drill_faults = [f"its newest drill failed: {run.detail.get('cause', 'cause unknown')}" for run in drilled[:1] if run.state == "failed"]
    failed = bool(drill_faults)
    repository, limit = catalog.repository(recorded_name("papers", name)), timedelta(hours=settings.drill_max_age_hours)
    since = proven.started_at if proven else repository.created_at if repository else now
    if settings.drill_schedule and now - since > limit:
        what = "its last passed drill is" if proven else "no drill has passed on it, and it is"
        drill_faults.append(f"{what} {_age(now - since)} old; the limit is {_age(limit)}")
    at = (proven.ended_at or proven.started_at) if proven else None
    offsite = copy_is_offsite(settings)
    return CopyStatus(name, settings.url, offsite, tuple(faults), tuple(drill_faults), failed, saved.started_at if saved else None, at)


def copy_is_offsite(settings: CopySettings) -> bool:
    """As a person said, else as far as the url tells."""
    if settings.offsite is not None:
        return settings.offsite
    kind, _, rest = settings.url.partition(":")
    return kind in ("s3", "rest") and is_offsite(rest)


def _age(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return counted(round(hours), "hour") if hours < 72 else counted(round(hours / 24), "day")


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
