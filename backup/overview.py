"""Is everything safe? One line for each thing that can be wrong, with what to do.

Green means proven: the embedded S3 server shares this machine, so nothing that depends on it is ever green.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from config.console import human_bytes
from config.loading import Installation
from config.roles import role_state
from gateway.catalog import Catalog, Run

Colour = Literal["green", "yellow", "red"]
BACKLOG_MINUTES = 10


@dataclass(frozen=True)
class Line:
    """One thing: how it is, and what to do when it is not green."""

    name: str
    colour: Colour
    text: str
    todo: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def overview(installation: Installation, now: datetime | None = None) -> list[Line]:
    """All lines, in the order in which a paper travels. Raises CatalogError."""
    now = now or datetime.now(UTC)
    with Catalog.open(installation.folder.catalog) as catalog:
        return [
            _roles(installation),
            *_papers(catalog),
            _backlog(installation, now),
            Line("virus scan", "yellow", "off", "scanning by clamd is not part of this version"),
            *backup_lines(installation, catalog, now),
            _disk(installation),
        ]


def backup_lines(installation: Installation, catalog: Catalog, now: datetime) -> list[Line]:
    """The lines about backups and drills alone."""
    backups, drills = catalog.runs("backup"), catalog.runs("drill")
    return [_newest_backup(installation, backups, now), _proven(installation, drills, now), _last_drill(drills), _offsite(installation)]


def worst(lines: list[Line]) -> Colour:
    """The colour of the whole."""
    colours = {line.colour for line in lines}
    return "red" if "red" in colours else "yellow" if "yellow" in colours else "green"


def _roles(installation: Installation) -> Line:
    wanted = ["gateway", "keyd", "ingest", "scheduler", *(["s3"] if installation.settings.s3.is_embedded else [])]
    missing = [role for role in wanted if role_state(installation.folder, role) is None]
    if missing:
        return Line("roles", "red", f"not running: {', '.join(missing)}", "start them: nightsafe up")
    return Line("roles", "green", f"running: {', '.join(wanted)}")


def _papers(catalog: Catalog) -> Iterator[Line]:
    count, size = catalog.count_papers(state="accepted")
    yield Line("papers", "green", f"{count} sealed, {human_bytes(size)}")
    refused, _ = catalog.count_papers(state="refused")
    if refused:
        yield Line("refused", "yellow", f"{refused} papers were refused", "look at them: nightsafe audit show --event paper.refused")


def _backlog(installation: Installation, now: datetime) -> Line:
    oldest: float | None = None
    count = 0
    with os.scandir(installation.folder.spool_landed) as entries:
        for entry in entries:
            count += 1
            with suppress(FileNotFoundError):
                oldest = min(oldest or now.timestamp(), entry.stat(follow_symlinks=False).st_mtime)
    if not count:
        return Line("backlog", "green", "every landed paper is sealed")
    age = timedelta(seconds=max(0.0, now.timestamp() - (oldest or now.timestamp())))
    text = f"{count} papers wait to be sealed, the oldest for {_hours(age)}"
    if age > timedelta(minutes=BACKLOG_MINUTES):
        return Line("backlog", "red", text, "does ingest run? look at its log lines")
    return Line("backlog", "green", text)


def _newest_backup(installation: Installation, backups: list[Run], now: datetime) -> Line:
    settings = installation.settings
    good = next((run for run in backups if run.state == "passed"), None)
    if good is None:
        return Line("newest backup", "red", "there is none", "make one: nightsafe backup run")
    age = now - (good.ended_at or good.started_at)
    text = f"{(good.snapshot or '')[:8]}, {_hours(age)} ago, {good.detail.get('papers', '?')} papers"
    if age > timedelta(hours=settings.backup.max_age_hours):
        return Line("newest backup", "red", f"{text}: stale", "look at the scheduler's log lines, then: nightsafe backup run")
    last = next((run for run in backups if run.state != "running"), good)
    if last.state != "passed":
        return Line("newest backup", "yellow", f"{text}; a later one {last.state}: {last.detail.get('error', '')}", "nightsafe backup run")
    return Line("newest backup", "yellow" if settings.s3.is_embedded else "green", text)


def _proven(installation: Installation, drills: list[Run], now: datetime) -> Line:
    settings = installation.settings
    passed = next((run for run in drills if run.state == "passed"), None)
    if passed is None:
        return Line("proven backup", "red", "no backup was ever proven by a drill", "prove one: nightsafe drill run --full")
    age = now - (passed.ended_at or passed.started_at)
    text = f"{(passed.snapshot or '')[:8]}, proven {_hours(age)} ago ({passed.detail.get('drawn', '?')} of {passed.detail.get('of', '?')} papers)"
    if age > timedelta(hours=settings.drill.max_age_hours):
        return Line("proven backup", "red", f"{text}: too long ago", "nightsafe drill run")
    return Line("proven backup", "yellow" if settings.s3.is_embedded else "green", text)


def _last_drill(drills: list[Run]) -> Line:
    last = next((run for run in drills if run.state != "running"), None)
    if last is None:
        return Line("last drill", "red", "there was none", "nightsafe drill run --full")
    text = f"number {last.id} ({last.detail.get('kind')}) {last.state}"
    if last.state == "passed":
        return Line("last drill", "green", f"{text}, recovery time {last.detail.get('recovery_seconds')} s")
    colour: Colour = "red" if last.state == "failed" else "yellow"
    return Line("last drill", colour, f"{text}: {last.detail.get('cause', '')}", f"nightsafe drill show {last.id}")


def _offsite(installation: Installation) -> Line:
    s3 = installation.settings.s3
    if s3.is_embedded:
        return Line("offsite", "yellow", "not offsite: the embedded S3 server is on this machine", "name another endpoint in nightsafe.toml, [s3]")
    return Line("offsite", "green", f"{s3.endpoint}, bucket {s3.bucket}")


def _disk(installation: Installation) -> Line:
    space = os.statvfs(installation.folder.root)
    free, reserve = space.f_bavail * space.f_frsize, installation.settings.gateway.reserve_bytes
    text = f"{human_bytes(free)} free"
    if free < reserve:
        return Line("disk", "red", f"{text}, less than the reserve of {human_bytes(reserve)}: uploads are refused", "free some space")
    return Line("disk", "yellow" if free < 4 * reserve else "green", text)


def _hours(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    if seconds < 120:
        return f"{seconds} seconds"
    if seconds < 7200:
        return f"{seconds // 60} minutes"
    return f"{seconds // 3600} hours" if seconds < 172_800 else f"{seconds // 86_400} days"
