"""Is everything safe? One line for each thing that can be wrong, with what to do.

Green means proven: the embedded S3 server shares this machine, so nothing that depends on it is ever green.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from backup.check import checks_of, coverage
from backup.places import recorded_name
from backup.status import NOT_OFFSITE, Colour, CopyStatus, backup_status, copies_status
from config.console import human_bytes
from config.loading import Installation
from config.roles import role_state
from gateway.catalog import Catalog

BACKLOG_MINUTES = 10
KIT_DAYS = 365  # after which a page in a safe should be tried again
SCAN_STATE = "scan.json"  # in run/, written by ingest


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
            *_held(catalog),
            _backlog(installation, now, catalog.held_ids()),
            _scan(installation),
            *backup_lines(installation, now),
            *_destructions(catalog),
            _kit(catalog, now),
            _disk(installation),
        ]


def backup_lines(installation: Installation, now: datetime) -> list[Line]:
    """The lines about backups and drills alone."""
    found = backup_status(installation, now)
    good: Colour = "green" if found.offsite else "yellow"
    newest = f"{found.snapshot[:8]}, {_hours(now - found.saved_at)} ago" if found.snapshot and found.saved_at else "there is none"
    proven = f"proven {_hours(now - found.proven_at)} ago" if found.proven_at else "never proven"
    others = [note for note in found.notes if note != NOT_OFFSITE]
    return [
        _judged("newest backup", good, newest, found.backup_faults, "look at the scheduler's log lines, then: nightsafe backup run"),
        _judged("proven backup", "yellow" if others else good, "; ".join([proven, *others]), found.drill_faults, "nightsafe drill run --full"),
        _offsite(installation, found.offsite),
        *(_copy(one, now) for one in copies_status(installation, now)),
        *_upkeep(installation),
    ]


def _upkeep(installation: Installation) -> Iterator[Line]:
    """Checks and forgetting, for each place."""
    with Catalog.open(installation.folder.catalog) as catalog:
        for copy in ["", *sorted(installation.settings.copies)]:
            if catalog.repository(recorded_name("papers", copy)) is None:
                continue
            suffix, option = (f" {copy}", f" --from {copy}") if copy else ("", "")
            checks = checks_of(catalog, copy)
            covered = coverage(checks, installation.settings.check.parts)
            if checks and checks[0].state == "failed":
                todo = f"nightsafe drill run --full{option}"
                yield Line(f"check{suffix}", "red", f"the newest check failed: {checks[0].detail.get('cause')}", todo)
            else:
                yield Line(f"check{suffix}", "green" if covered.whole else "yellow", str(covered), "" if covered.whole else "each check reads a part")
            forgets = [run for run in catalog.runs("forget", 200) if run.detail.get("copy", "") == copy and run.state != "running"]
            if forgets and forgets[0].state == "failed":
                todo = f"look into it, then: nightsafe backup forget{option} --confirm 'REASON'"
                yield Line(f"forget{suffix}", "yellow", str(forgets[0].detail.get("error")), todo)


def _copy(one: CopyStatus, now: datetime) -> Line:
    saved = f"{_hours(now - one.saved_at)} old" if one.saved_at else "there is none"
    proven = f"proven {_hours(now - one.proven_at)} ago" if one.proven_at else "never proven"
    good: Colour = "green" if one.offsite and one.proven_at else "yellow"
    text = f"{saved}, {proven}" + ("" if one.offsite else ", not offsite")
    todo = f"nightsafe backup copy {one.name}" if one.faults else f"nightsafe drill run --full --from {one.name}" if not one.proven_at else ""
    if one.faults:
        return Line(f"copy {one.name}", "red", f"{text}: {'; '.join(one.faults)}", todo)
    return Line(f"copy {one.name}", good, text, todo)


def _judged(name: str, good: Colour, text: str, faults: Sequence[str], todo: str) -> Line:
    return Line(name, "red", f"{text}: {'; '.join(faults)}", todo) if faults else Line(name, good, text)


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
        yield Line("refused", "yellow", f"{refused} papers were refused", "look at them: nightsafe quarantine list")


def _destructions(catalog: Catalog) -> Iterator[Line]:
    """Clients whose destruction is not proven everywhere yet."""
    for one in catalog.destructions():
        if one.state == "done":
            continue
        todo = f"nightsafe client destroy {one.client}"
        if one.proof.get("holds") is False:
            yield Line("destruction", "red", f"{one.client}: the proof failed, a copy of a key is left", todo)
            continue
        waiting = [f"{repository.repository}: {repository.cause}" for repository in one.repositories if repository.state != "clean"]
        yield Line("destruction", "yellow", f"{one.client}: pending; {'; '.join(waiting) or 'the proof is not made yet'}", todo)


def _held(catalog: Catalog) -> Iterator[Line]:
    """Papers that a check holds, by what they wait for."""
    codes: dict[str, int] = {}
    for paper in catalog.held():
        codes[paper.code] = codes.get(paper.code, 0) + 1
    if codes:
        counted = ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))
        yield Line("held", "yellow", f"{sum(codes.values())} papers wait for a check: {counted}", "look at them: nightsafe held list")


def _scan(installation: Installation) -> Line:
    """Whether papers are scanned, by what ingest wrote when that changed last."""
    if installation.settings.scan.scanner == "off":
        return Line("virus scan", "yellow", "off", "switch it on: docs/how-to/scan-for-viruses.md")
    try:
        state = json.loads((installation.folder.run / SCAN_STATE).read_bytes())
        ready, fault, notes, engine = bool(state["ready"]), str(state["fault"]), [str(note) for note in state["notes"]], str(state["engine"])
    except (OSError, ValueError, KeyError, TypeError):
        return Line("virus scan", "red", "nothing is known of the scanner", "does ingest run? look at its log lines")
    if not ready:
        then = {"hold": "papers are held", "accept": "papers are accepted unscanned", "refuse": "papers are refused"}
        return Line("virus scan", "red", f"{fault}; {then[installation.settings.scan.unavailable]}", "mend the scanner; held papers then go on")
    return Line("virus scan", "yellow" if notes else "green", "; ".join([engine, *notes]))


def _backlog(installation: Installation, now: datetime, held: set[str]) -> Line:
    oldest: float | None = None
    count = 0
    with os.scandir(installation.folder.spool_landed) as entries:
        for entry in entries:
            if entry.name in held:
                continue
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


def _offsite(installation: Installation, offsite: bool) -> Line:
    s3 = installation.settings.s3
    if offsite:
        return Line("offsite", "green", f"{s3.endpoint}, bucket {s3.bucket}")
    which = "the embedded S3 server" if s3.is_embedded else s3.endpoint
    return Line("offsite", "yellow", f"not offsite: {which} is on this machine", "name another endpoint in nightsafe.toml, [s3]")


def _kit(catalog: Catalog, now: datetime) -> Line:
    """When somebody last tried the recovery kit: each part for itself, because they are kept apart."""
    tried: dict[str, tuple[bool, datetime]] = {}
    for run in catalog.runs("kit", 50):
        for part in ("identity", "access"):
            if part not in tried and run.detail.get(part) is not None:
                tried[part] = bool(run.detail[part]), run.started_at
    words = {"identity": "part A", "access": "part B"}
    bad = [name for part, name in words.items() if part in tried and not tried[part][0]]
    if bad:
        return Line("recovery kit", "yellow", f"{' and '.join(bad)} did not open what is kept, when last tried", "nightsafe kit check FILE…")
    text = ", ".join(f"{name} {f'tried {_hours(now - tried[part][1])} ago' if part in tried else 'never tried'}" for part, name in words.items())
    old = len(tried) < len(words) or any(now - at > timedelta(days=KIT_DAYS) for _, at in tried.values())
    return Line("recovery kit", "yellow" if old else "green", text, "try it: nightsafe kit check FILE…" if old else "")


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
