"""Follows the audit log in a thread, feeds the detector, records what is odd, and suspends where the settings say so. Nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import structlog

from config.lasting import LastingFault
from config.loading import Installation
from gateway.audit.events import Event
from gateway.audit.follow import NewLine, Places, ends, new_lines
from gateway.audit.log import AuditLog
from gateway.audit.read import Filter, read
from gateway.catalog import Catalog
from gateway.watch.detector import MOST_PEOPLE, WATCHED, Anomaly, Detector
from gateway.watch.store import Store

NAME = "watch"
BATCH = 2000  # lines that are put into the order of time together, and kept together
LEARNT_DAYS = 90  # of the log, at the first start
SUSPENDS_HOURS = 24  # what is older, because nothing watched for a while, is told and suspends nobody


class Watcher:
    """Made and used by one thread, or by `watch_by_the_clock`. Raises OutOfReach, CatalogError, AuditUnavailable."""

    def __init__(self, installation: Installation, store: Store, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._folder = installation.folder
        self._settings = installation.settings.watch
        self._store = store
        self._clock = clock
        self._detector = Detector(self._settings, ZoneInfo(installation.settings.backup.timezone))
        for person, habits in store.habits(MOST_PEOPLE):
            self._detector.load(person, habits)
        self._places: Places = store.places()

    def learn(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """At the first start: learn habits from the log as it is, and tell of nothing. Broken off, it begins anew the next time."""
        if self._places:
            return
        places = ends(self._folder.audit)
        now = self._clock()
        for record in read(self._folder.audit, Filter(since=now - timedelta(days=LEARNT_DAYS), until=now), only=WATCHED):
            if stopping():
                return
            self._detector.take(record)
        self._keep(places)

    def watch(self) -> list[Anomaly]:
        """Look at all new lines; what was odd, which is recorded."""
        found = []
        for lines in _batches(new_lines(self._folder.audit, dict(self._places))):
            records = sorted((line.record for line in lines if line.record is not None), key=lambda record: str(record["time"]))
            odd = [one for record in records for one in self._detector.take(record)]
            if odd:
                self._tell(odd)
            self._keep({line.segment: line.place for line in lines})
            found += odd
        return found

    def _keep(self, places: Places) -> None:
        dirty = {person: habits for person in self._detector.dirty if (habits := self._detector.habits(person)) is not None}
        self._store.keep(dirty, places)
        self._detector.dirty.clear()
        self._places |= places

    def _tell(self, odd: Sequence[Anomaly]) -> None:
        with AuditLog(self._folder.audit, NAME) as log:
            for one in odd:
                suspended = one.kind in self._settings.suspend and self._is_recent(one) and self._suspend(one.person, log)
                facts = {"client": one.client, "address": one.address, "count": one.count, "usual": one.usual, "seen_at": one.at}
                log.append(Event.ANOMALY_FOUND, durable=False, kind=one.kind, person=one.person, reason=one.reason, suspended=suspended, **facts)
                structlog.get_logger().warning("watch.anomaly", kind=one.kind, person=one.person, reason=one.reason, suspended=suspended)
            log.sync()  # once for all: a flood of them must not hold up the watch

    def _is_recent(self, one: Anomaly) -> bool:
        return self._clock() - datetime.fromisoformat(one.at) <= timedelta(hours=SUSPENDS_HOURS)

    def _suspend(self, person: str, log: AuditLog) -> bool:
        """Let a person in no more; False when there is nobody of that name, or they are out already."""
        with Catalog.open(self._folder.catalog) as catalog:
            known = catalog.person(person)
            if known is None or not known.active:
                return False
            catalog.edit_person(person, active=False)
        log.append(Event.PERSON_SUSPENDED, durable=True, person=person, client=known.client, by=NAME)
        return True


def watch_by_the_clock(installation: Installation, stop: threading.Event) -> None:
    """Watch until `stop` is set. What fails is logged, and tried again."""
    settings = installation.settings.watch
    watcher: Watcher | None = None
    fault = LastingFault("watch.failed")
    while not stop.is_set():
        try:
            watcher = watcher or Watcher(installation, Store(installation.folder.watch))
            watcher.learn(stop.is_set)
            watcher.watch()
            fault.over()
        except Exception as error:  # noqa: BLE001 - the next time comes; a defect here must not end backups
            fault.met(error)
        stop.wait(settings.every_seconds)


def _batches(lines: Iterator[NewLine]) -> Iterator[list[NewLine]]:
    while batch := list(islice(lines, BATCH)):
        yield batch
