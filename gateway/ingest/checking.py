"""Puts the checks together for the role: the scanner and who watches it, the worker processes, what the catalog and the keys know."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import structlog

from config.checks import ScanSettings
from config.errors import NightsafeError
from config.lasting import LastingFault
from config.loading import Installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.catalog.checked import Decided
from gateway.ingest.checks.clamd import Clamd
from gateway.ingest.checks.command import CommandScanner
from gateway.ingest.checks.pool import WorkerPool
from gateway.ingest.checks.scanner import Readiness, Scanner
from gateway.ingest.checks.services import Checks, Decision, needs_worker
from gateway.ingest.checks.standby import Standby, write_state
from gateway.ingest.rows import TIME_DIGITS

DECISIONS_SECONDS = 2.0  # until a person's word about a held paper is heard
RECOUNT_SECONDS = 10.0  # until papers that another process recorded count for the day
ID_DIGITS = 32
SCAN_STATE = "scan.json"  # in run/


class Changes:
    """Counts what lets held papers go on, and rings whoever handles them. Thread-safe."""

    def __init__(self) -> None:
        self._epoch = 0
        self.bells: list[threading.Event] = []

    def epoch(self) -> int:
        """Grows with each change."""
        return self._epoch

    def happened(self) -> None:
        """Something changed."""
        self._epoch += 1
        for bell in self.bells:
            bell.set()


class Decisions:
    """What people decided about held papers, read from the catalog now and then by a thread of its own."""

    def __init__(self, catalog: Catalog, changed: Callable[[], None]) -> None:
        self._catalog = catalog
        self._changed = changed
        self._known: dict[str, Decided] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest-decisions", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._stop.set()
        self._thread.join(5.0)

    def of(self, paper: str) -> Decision | None:
        """The newest word about a paper."""
        decided = self._known.get(paper)
        return decided and decided.decision

    def look(self) -> None:
        """Read them now."""
        known = self._catalog.decisions()
        if known != self._known:
            fresh = known.items() - self._known.items()
            self._known = known
            if fresh:
                self._changed()

    def _run(self) -> None:
        fault = LastingFault("ingest.decisions_unread")
        while True:
            try:
                self.look()
                fault.over()
            except NightsafeError as error:
                fault.met(error)
            if self._stop.wait(DECISIONS_SECONDS):
                return


class DayCount:
    """How many papers a client has sent today (UTC), by the time in their ids: those in the catalog and those that were asked about here."""

    def __init__(self, catalog: Catalog, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._catalog = catalog
        self._now = now
        self._lock = threading.Lock()
        self._day = ""
        self._read_at: dict[str, datetime] = {}
        self._papers: dict[str, set[str]] = {}

    def is_over(self, client: str, paper: str, most: int) -> bool:
        """Whether `paper` is beyond the first `most` of its client's day. One of an earlier day, found late, never is."""
        now = self._now()
        first = f"{int(now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000):0{TIME_DIGITS}x}".ljust(ID_DIGITS, "0")
        if paper < first:
            return False
        with self._lock:
            if first != self._day:
                self._day, self._read_at, self._papers = first, {}, {}
            papers = self._papers.setdefault(client, set())
            read_at = self._read_at.get(client)
            if read_at is None or (now - read_at).total_seconds() > RECOUNT_SECONDS:
                papers |= self._catalog.ids_from(client, first, most + 1)
                self._read_at[client] = now
            if paper not in papers and len(papers) <= most:
                papers.add(paper)
                return len(papers) > most
            return sum(one < paper for one in papers) >= most


@contextmanager
def opened_checks(
    installation: Installation, catalog: Catalog, audit: AuditLog, password: Callable[[str], str | None]
) -> Iterator[tuple[Checks, Changes]]:
    """The checks of the role, with their threads and processes ended at the end; and what tells of changes."""
    settings, changes = installation.settings, Changes()

    def scanner_changed(readiness: Readiness) -> None:
        write_state(installation.folder.run / SCAN_STATE, settings.scan.scanner, readiness)
        try:
            _tell(audit, settings.scan.scanner, readiness)
        except NightsafeError as error:
            structlog.get_logger().error("ingest.unrecorded", error=error.message)
        changes.happened()

    def safe_password(client: str) -> str | None:
        try:
            return password(client)
        except NightsafeError as error:  # the archive is then locked to us, which has a verdict of its own
            structlog.get_logger().error("ingest.archive_password", client=client, error=error.message, do=error.hint)
            return None

    with ExitStack() as stack:
        standby = pool = None
        scanner = scanner_of(settings.scan)
        if scanner is not None:
            standby = Standby(scanner, scanner_changed)
            stack.callback(standby.stop)
            standby.start()
        if needs_worker(settings.checks, settings.scan):
            pool = WorkerPool(settings.checks.memory_bytes)
            stack.callback(pool.close)
        decisions = Decisions(catalog, changes.happened)
        decisions.look()
        decisions.start()
        stack.callback(decisions.stop)
        yield (
            Checks(
                settings=settings.checks,
                scan=settings.scan,
                archives=settings.archives,
                standby=standby,
                pool=pool,
                over_the_day=DayCount(catalog).is_over,
                decided=decisions.of,
                password=safe_password,
            ),
            changes,
        )


def scanner_of(settings: ScanSettings) -> Scanner | None:
    """The scanner that the settings name; None while scanning is off."""
    match settings.scanner:
        case "clamd":
            return Clamd(settings)
        case "command":
            return CommandScanner(settings)
    return None


def _tell(audit: AuditLog, scanner: str, readiness: Readiness) -> None:
    log = structlog.get_logger()
    if readiness.ready:
        log.info("scanner.ready", engine=readiness.engine, notes=list(readiness.notes))
        audit.append(Event.SCANNER_READY, scanner=scanner, engine=readiness.engine)
    else:
        log.error("scanner.lost", fault=readiness.fault)
        audit.append(Event.SCANNER_LOST, scanner=scanner, fault=readiness.fault)
