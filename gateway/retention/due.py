"""Which papers are due, and what keeps them nevertheless. Pure.

A paper is due when more days have passed since its receipt than its class is kept (`retention.days`; a class that is not named there is kept for
ever, `other` stands for all that are not named). The newest `retention.keep_versions` versions of a name stay however old they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from config.settings import RetentionSettings
from config.words import counted
from gateway.catalog import Paper
from gateway.catalog.rows import Hold

OTHER = "other"
TIME_DIGITS = 12  # of a paper's id: hex milliseconds since the epoch, never later than its receipt

Versions = Callable[[str, str], list[Paper]]  # of a client and a path, oldest first


@dataclass(frozen=True)
class Due:
    """A paper whose time has passed at `since`. `holds` forbid its end; `newest` says that the settings keep it as one of the newest versions."""

    paper: Paper
    since: datetime
    days: int
    holds: tuple[Hold, ...]
    newest: bool

    @property
    def expires(self) -> bool:
        """Whether nothing keeps it."""
        return not self.holds and not self.newest

    @property
    def why(self) -> str:
        """What keeps it, or how long its class is kept."""
        if self.holds:
            return "; ".join(f"legal hold {hold.id}: {hold.reason}" for hold in self.holds)
        if self.newest:
            return "one of the newest versions"
        return f"{counted(self.days, 'day')} for {f'class {self.paper.class_name}' if self.paper.class_name else 'papers without a class'}"


def days_of(class_name: str, settings: RetentionSettings) -> int | None:
    """How long a class is kept; None for ever."""
    return _of(settings.days, class_name)


def due_papers(papers: Iterable[Paper], settings: RetentionSettings, holds: Iterable[Hold], versions: Versions, now: datetime) -> Iterator[Due]:
    """Those of `papers` (accepted ones, by id) that are due at `now`, oldest first. Stops reading where all others are too young."""
    if not settings.days:
        return
    active = tuple(holds)
    youngest = _time_of(now - timedelta(days=min(settings.days.values())))
    for paper in papers:
        if paper.id[:TIME_DIGITS] > youngest:
            return
        days = days_of(paper.class_name, settings)
        if days is None or paper.received_at + timedelta(days=days) > now:
            continue
        keeping = tuple(hold for hold in active if hold.covers(paper))
        yield Due(paper, paper.received_at + timedelta(days=days), days, keeping, _is_newest(paper, settings, versions))


def _is_newest(paper: Paper, settings: RetentionSettings, versions: Versions) -> bool:
    kept = _of(settings.keep_versions, paper.class_name)
    if not kept:
        return False
    accepted = [version.id for version in versions(paper.client, paper.path) if version.state == "accepted"]
    return paper.id in accepted[-kept:]


def _of(by_class: Mapping[str, int], class_name: str) -> int | None:
    return by_class.get(class_name, by_class.get(OTHER)) if class_name else by_class.get(OTHER)


def _time_of(moment: datetime) -> str:
    """The first digits of the ids of papers that began at `moment`."""
    return f"{max(0, int(moment.astimezone(UTC).timestamp() * 1000)):012x}"
