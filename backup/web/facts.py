"""What the pages show, read anew for each request. Nothing here writes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from backup.report.trends import Chart, charts, history
from backup.status.line import Line, worst
from backup.status.overview import overview
from backup.web.months import Month, by_month
from config.loading import Installation
from gateway.catalog import Catalog, Paper, Run
from gateway.catalog.rows import DELETED, RunKind
from gateway.catalog.search import Search
from gateway.sftp.workers.control import ask_all

DAYS = 30  # in the chart of papers
MOST_RUNS = 60
RUNS: tuple[RunKind, RunKind] = ("backup", "drill")
MOST_COUNTED, MOST_MONTHS = 3000, 24  # runs of a kind, for the months
MOST_QUARANTINED = 500
EVIDENCE = re.compile(r"[0-9]{4}/[0-9]{1,12}\.(?:html|json|json\.sig)")


@dataclass(frozen=True)
class Overview:
    """The status, and the papers of the last days. `most` is the highest count, at least 1."""

    lines: list[Line]
    colour: str
    days: dict[date, int]
    most: int


def read_overview(installation: Installation) -> Overview:
    """Raises CatalogError."""
    now = datetime.now(UTC)
    lines = overview(installation, now)
    with Catalog.open(installation.folder.catalog) as catalog:
        days = catalog.papers_by_day((now - timedelta(days=DAYS - 1)).replace(hour=0, minute=0, second=0, microsecond=0), now)
    return Overview(lines, worst(lines), days, max(1, *days.values()))


@dataclass(frozen=True)
class ClientRow:
    """A client on the page."""

    name: str
    custody: str
    active: bool
    people: int
    papers: int
    size: int
    last: datetime | None


def read_clients(installation: Installation) -> list[ClientRow]:
    """All clients, by name. Raises CatalogError."""
    with Catalog.open(installation.folder.catalog) as catalog:
        figures = {one.client: one for one in catalog.figures_by_client()}
        people: dict[str, int] = {}
        for person in catalog.people():
            for name in (person.client,) if person.client else person.clients:
                people[name] = people.get(name, 0) + (person.off_boarded_at is None)
        found = []
        for client in catalog.clients():
            one = figures.get(client.name)
            papers, size, last = (one.papers, one.size, one.last) if one else (0, 0, None)
            found.append(ClientRow(client.name, client.custody, client.active, people.get(client.name, 0), papers, size, last))
        return found


@dataclass(frozen=True)
class Backups:
    """Runs, newest first, the plots of drills, by title, and what the months were like."""

    runs: list[Run]
    charts: list[tuple[str, Chart]]
    months: list[Month]


def read_backups(installation: Installation) -> Backups:
    """Raises CatalogError."""
    settings = installation.settings.drill
    with Catalog.open(installation.folder.catalog) as catalog:
        backups, drills = (catalog.runs(kind, MOST_COUNTED) for kind in RUNS)
        runs = catalog.runs(None, MOST_RUNS)
    drawn = charts(history(drills, ""), settings.objective_recovery_time_hours * 3600, settings.objective_recovery_point_hours * 3600)
    return Backups(runs, drawn, list(by_month([*backups, *drills]))[:MOST_MONTHS])


@dataclass(frozen=True)
class Refused:
    """The newest refused papers that nobody has decided about, and how many there are in all."""

    papers: list[Paper]
    count: int


def read_quarantine(installation: Installation) -> Refused:
    """Raises CatalogError."""
    with Catalog.open(installation.folder.catalog) as catalog:
        count, _ = catalog.count_papers(state="refused", without_code=DELETED)
        return Refused(catalog.find(Search(state="refused", without_code=DELETED), MOST_QUARANTINED) if count else [], count)


def read_sessions(installation: Installation) -> list[dict[str, Any]] | None:
    """Who is logged in now, oldest first; None when no gateway answers."""
    answers = ask_all(installation.folder.run, {"op": "list"})
    if not answers:
        return None
    return sorted((one for answer in answers for one in answer.get("logins", [])), key=lambda one: str(one.get("since", "")))


def evidence_file(installation: Installation, name: str) -> BinaryIO | None:
    """A file of evidence by its name below the folder, as in `2026/12.html`, open; None when there is none, or when it is no such name."""
    if not EVIDENCE.fullmatch(name):
        return None
    try:
        descriptor = os.open(installation.folder.evidence / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    return open(descriptor, "rb")


def evidence_names(run: Run) -> Iterator[str]:
    """The names of a run's evidence: the page first."""
    path = run.detail.get("evidence")
    if isinstance(path, str):
        name = "/".join(Path(path).parts[-2:])
        yield from (name.removesuffix(".json") + end for end in (".html", ".json", ".json.sig"))
