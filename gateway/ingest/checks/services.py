"""What all inspections share: the settings, the scanner, the worker processes, and what the catalog and the keys know."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from config.checks import ArchiveSettings, ChecksSettings, ScanSettings
from gateway.ingest.checks.pool import WorkerPool
from gateway.ingest.checks.rules import Rules
from gateway.ingest.checks.standby import Standby
from gateway.ingest.verdicts import PASSING

BLAMED = 3  # times that the scanner broke down over a paper, after which it was the paper

Way = Literal["quick", "thorough"]
Decision = Literal["release", "refuse", "again"]


class Slow(Exception):
    """The checks of the paper take longer than others should wait: it belongs on the thorough way."""


class Blame:
    """How often the scanner broke down over which paper. Thread-safe; forgotten at a restart."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, paper: str) -> bool:
        """Once more; whether it is enough now."""
        with self._lock:
            self._times[paper] = self._times.get(paper, 0) + 1
            return self._times[paper] >= BLAMED

    def is_on(self, paper: str) -> bool:
        """Whether it ever did."""
        return paper in self._times

    def clear(self, paper: str) -> None:
        """It came to an end."""
        with self._lock:
            self._times.pop(paper, None)


@dataclass(frozen=True)
class Checks:
    """Thread-safe. `standby` is None while scanning is off, `pool` while no rule looks into content.

    `over_the_day` tells whether a client's paper is beyond so many of its day, `decided` gives what a person decided about a held paper,
    `password` the agreed password of a client's archives.
    """

    settings: ChecksSettings = field(default_factory=ChecksSettings)
    scan: ScanSettings = field(default_factory=ScanSettings)
    archives: ArchiveSettings = field(default_factory=ArchiveSettings)
    standby: Standby | None = None
    pool: WorkerPool | None = None
    over_the_day: Callable[[str, str, int], bool] = lambda _client, _paper, _most: False
    decided: Callable[[str], Decision | None] = lambda _paper: None
    password: Callable[[str], str | None] = lambda _client: None
    blame: Blame = field(default_factory=Blame)
    rules: Rules = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", Rules(self.settings))

    @property
    def ask_names(self) -> bool:
        """Whether anything but a manifest depends on what a paper is called."""
        return bool(self.settings.rules or self.settings.classes)

    def may_go_on(self, paper: str, code: str) -> bool:
        """Whether to look again at a paper that is held for `code`. Cheap: asked of each of them, again and again."""
        if self.decided(paper) is not None:
            return True
        return code in PASSING and (self.standby is None or self.standby.readiness().ready)


def needs_worker(settings: ChecksSettings, scan: ScanSettings) -> bool:
    """Whether these settings make anybody look into content in a process of its own."""
    return (
        scan.scanner != "off" or any(rule.match_type or rule.archives for rule in settings.rules) or any(one.type != "*" for one in settings.classes)
    )
