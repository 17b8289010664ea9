"""Is everything safe? One line for each thing that can be wrong, with what to do.

Green means proven: the embedded S3 server shares this machine, so nothing that depends on it is ever green.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from backup.repositories.places import from_words, recorded_name
from backup.status import premises
from backup.status.backups import NOT_OFFSITE, CopyStatus, backup_status, copies_status
from backup.status.line import Colour, Line, age_words, human_seconds
from backup.upkeep.check import checks_of, coverage, newest_verdict, overdue
from config.loading import Installation
from config.words import counted
from gateway.catalog import Catalog, Run

NEVER_DAYS = 40  # after which a paper should have been in some drill: the full one is monthly
PROVE = "nightsafe drill run --full"
TRY_KIT = "try it: nightsafe kit check FILE…; see docs/how-to/check-the-kit.md"
DRILLS = "docs/how-to/read-the-status.md#a-drill-that-is-not-green"
DAMAGE = "docs/how-to/keep-backups-in-order.md#the-check"
KIT_DAYS = 365  # after which a page in a safe should be tried again


def overview(installation: Installation, now: datetime | None = None) -> list[Line]:
    """All lines, in the order in which a paper travels. Raises CatalogError."""
    now = now or datetime.now(UTC)
    with Catalog.open(installation.folder.catalog) as catalog:
        return [
            premises.roles(installation),
            *premises.papers(catalog, now),
            *premises.held(catalog),
            premises.backlog(installation, now, catalog.held_ids()),
            premises.scan(installation),
            *backup_lines(installation, now),
            *_destructions(catalog),
            premises.keys(installation, catalog, now),
            _kit(catalog, now),
            premises.bans(installation, now),
            premises.disk(installation),
        ]


def backup_lines(installation: Installation, now: datetime) -> list[Line]:
    """The lines about backups and drills alone."""
    found = backup_status(installation, now)
    good: Colour = "green" if found.offsite else "yellow"
    where = "" if found.offsite else ", not offsite"
    newest = f"{found.snapshot[:8]}, {age_words(now - found.saved_at)} ago{where}" if found.snapshot and found.saved_at else "there is none"
    proven = f"proven {age_words(now - found.proven_at)} ago{where}" if found.proven_at else "never proven"
    others = [note for note in found.notes if note != NOT_OFFSITE]
    return [
        _judged("newest backup", good, newest, found.backup_faults, "see what it says: nightsafe backup run"),
        _judged("proven backup", "yellow" if others else good, "; ".join([proven, *others]), found.drill_faults, PROVE, PROVE if others else ""),
        *_last_drill(installation, now),
        _offsite(installation, found.offsite),
        *(_copy(one, now) for one in copies_status(installation, now)),
        *_upkeep(installation, now),
    ]


def _last_drill(installation: Installation, now: datetime) -> Iterator[Line]:
    """What the newest drill of the first repository said, whether it counts or not."""
    with Catalog.open(installation.folder.catalog) as catalog:
        runs = [run for run in catalog.runs("drill", 50) if run.state != "running" and not run.detail.get("copy")]
    run, covered = next(iter(runs), None), _coverage(runs, now)
    if run is None:
        return  # the line before says that nothing is proven
    text = f"number {run.id} ({run.detail.get('kind', 'sample')}) {run.state} {age_words(now - (run.ended_at or run.started_at))} ago"
    if run.detail.get("recovery_seconds") is not None:
        text += f", recovery time {human_seconds(run.detail['recovery_seconds'])}"
    colour: Colour = {"passed": "green", "failed": "red"}.get(run.state, "yellow")  # type: ignore[assignment]
    if covered is not None:
        yield covered
    todo = "" if run.state == "passed" else f"nightsafe drill show {run.id}; then see {DAMAGE if run.state == 'failed' else DRILLS}"
    yield Line("last drill", colour, text, todo)


def _coverage(runs: Sequence[Run], now: datetime) -> Line | None:
    """How many papers drills have proven so far, by the newest drill that counted them."""
    found = next((run.detail["coverage"] for run in runs if run.detail.get("coverage")), None)
    if found is None:
        return None
    oldest = found["oldest_never"]
    late = oldest is not None and now - datetime.fromisoformat(oldest["sealed_at"]) > timedelta(days=NEVER_DAYS)
    return Line("drilled so far", "yellow" if late else "green", found["text"], "nightsafe drill run --full" if late else "")


def _upkeep(installation: Installation, now: datetime) -> Iterator[Line]:
    """Checks and forgetting, for each place."""
    with Catalog.open(installation.folder.catalog) as catalog:
        for copy in ["", *sorted(installation.settings.copies)]:
            repository = catalog.repository(recorded_name("papers", copy))
            if repository is None:
                continue
            suffix, option = f" {copy}" if copy else "", from_words(copy)
            checks = checks_of(catalog, copy)
            covered = coverage(checks, installation.settings.check.parts)
            whole = f"each check reads a part; all at once: nightsafe backup check --whole{option}"
            verdict, limit = newest_verdict(checks), timedelta(days=installation.settings.check.max_age_days)
            if verdict is not None and verdict.state == "failed":
                todo = f"what is damaged is named by: nightsafe backup repair{option}; then see {DAMAGE}"
                yield Line(f"check{suffix}", "red", f"the newest check failed: {verdict.detail.get('cause')}", todo)
            elif overdue(covered, repository.created_at, now, limit):
                what = f"{covered}, longer ago than {counted(limit.days, 'day')}: do checks run?"
                yield Line(f"check{suffix}", "red", what, f"nightsafe backup check --whole{option}")
            else:
                yield Line(f"check{suffix}", "green" if covered.whole else "yellow", str(covered), "" if covered.whole else whole)
            forgets = [run for run in catalog.runs("forget", 200) if run.detail.get("copy", "") == copy and run.state != "running"]
            if forgets and forgets[0].state == "failed":
                todo = f"when you know why: nightsafe backup forget{option} --confirm REASON"
                yield Line(f"forget{suffix}", "yellow", str(forgets[0].detail.get("error")), todo)


def _copy(one: CopyStatus, now: datetime) -> Line:
    saved = f"{age_words(now - one.saved_at)} old" if one.saved_at else "there is none"
    proven = f"proven {age_words(now - one.proven_at)} ago" if one.proven_at else "never proven"
    good: Colour = "green" if one.offsite and one.proven_at else "yellow"
    text = f"{saved}, {proven}" + ("" if one.offsite else ", not offsite")
    faults = (*one.faults, *one.drill_faults)
    if one.faults:
        todo = f"nightsafe backup copy {one.name}"
    elif one.drill_failed:
        todo = f"what is damaged is named by: nightsafe backup repair --from {one.name}; then see {DAMAGE}"
    else:
        todo = "" if one.proven_at and not faults else f"{PROVE} --from {one.name}"
    if faults:
        return Line(f"copy {one.name}", "red", f"{text}: {'; '.join(faults)}", todo)
    return Line(f"copy {one.name}", good, text, todo)


def _judged(name: str, good: Colour, text: str, faults: Sequence[str], todo: str, else_todo: str = "") -> Line:
    return Line(name, "red", f"{text}: {'; '.join(faults)}", todo) if faults else Line(name, good, text, else_todo)


def _destructions(catalog: Catalog) -> Iterator[Line]:
    """Clients whose destruction is not proven everywhere yet."""
    for one in catalog.destructions():
        if one.state == "done":
            continue
        todo = f"nightsafe client destroy {one.client}"
        if one.proof.get("holds") is False:
            yield Line("destruction", "red", f"{one.client}: the proof failed, a copy of a key is left", todo)
            continue
        waiting = [f"{repository.repository}: {repository.cause}" for repository in one.repositories if repository.state == "pending"]
        yield Line("destruction", "yellow", f"{one.client}: pending; {'; '.join(waiting) or 'the proof is not made yet'}", todo)


def _offsite(installation: Installation, offsite: bool) -> Line:
    s3 = installation.settings.s3
    if offsite:
        return Line("offsite", "green", f"{s3.endpoint}, bucket {s3.bucket}")
    which = "the embedded S3 server is on this machine" if s3.is_embedded else f"{s3.endpoint} is on this machine, or beside it"
    return Line("offsite", "yellow", f"not offsite: {which}", "see docs/how-to/use-your-own-s3.md")


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
        return Line(
            "recovery kit",
            "yellow",
            f"{' and '.join(bad)} did not open what is kept, when last tried",
            TRY_KIT,
        )
    text = ", ".join(f"{name} {f'tried {age_words(now - tried[part][1])} ago' if part in tried else 'never tried'}" for part, name in words.items())
    old = len(tried) < len(words) or any(now - at > timedelta(days=KIT_DAYS) for _, at in tried.values())
    return Line("recovery kit", "yellow" if old else "green", text, TRY_KIT if old else "")
