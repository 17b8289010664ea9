"""`/metrics` for Prometheus and `/healthz` for a watchdog, on loopback, served by the scheduler.

Numbers are read from the catalog when they are asked for, and kept for some seconds: a scraper gone wild costs nothing. No name of a client or of a
paper is among them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import structlog
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from backup.status.line import worst
from backup.status.overview import backup_lines
from backup.upkeep.check import checks_of, coverage
from config.errors import NightsafeError
from config.loading import Installation
from gateway.catalog import Catalog, Run

HOST = "127.0.0.1"
KEPT_SECONDS = 5.0
COLOURS = {"green": 0, "yellow": 1, "red": 2}
log = structlog.get_logger()


def metrics(installation: Installation, now: datetime | None = None) -> bytes:
    """The text that Prometheus reads. Ages are in seconds; what never happened has none. Raises CatalogError."""
    now = now or datetime.now(UTC)
    registry = CollectorRegistry()
    gauges = _Gauges(registry)
    with Catalog.open(installation.folder.catalog) as catalog:
        papers, size = catalog.count_papers(state="accepted")
        gauges.set("papers", "Sealed papers.", papers)
        gauges.set("papers_bytes", "Their plaintext bytes.", size)
        pending = sum(one.state != "done" for one in catalog.destructions())
        gauges.set("destructions_pending", "Clients whose destruction is not proven everywhere.", pending)
        for copy in ["", *sorted(installation.settings.copies)]:
            _place(gauges, catalog, installation, copy, now)
    for line in backup_lines(installation, now):
        gauges.set("status", "A line of 'nightsafe status': 0 green, 1 yellow, 2 red.", COLOURS[line.colour], line=line.name)
    return generate_latest(registry)


def health(installation: Installation) -> tuple[bool, bytes]:
    """Whether no line about backups is red, and these lines as JSON. Raises CatalogError."""
    lines = backup_lines(installation, datetime.now(UTC))
    found = worst(lines)
    return found != "red", json.dumps({"colour": found, "lines": [line.as_dict() for line in lines]}, ensure_ascii=False).encode()


def _place(gauges: _Gauges, catalog: Catalog, installation: Installation, copy: str, now: datetime) -> None:
    place = copy or "first"
    backups = _ended(catalog, "copy" if copy else "backup", copy)
    drills, checks, forgets = (_ended(catalog, kind, copy) for kind in ("drill", "check", "forget"))
    good = next((run for run in backups if run.state == "passed"), None)
    proven = next((run for run in drills if run.state == "passed" and run.detail.get("kind") != "escrow"), None)  # that looks at a few papers
    gauges.age("backup_newest_age_seconds", "Age of the newest good snapshot.", good, now, place)
    gauges.age("backup_proven_age_seconds", "Age of the newest passed drill.", proven, now, place)
    for kind, runs in (("backup", backups), ("drill", drills), ("check", checks), ("forget", forgets)):
        newest = next(iter(runs), None)
        gauges.age("run_age_seconds", "Age of the newest run of a kind, whatever came of it.", newest, now, place, kind=kind)
        if newest is not None:
            gauges.set("run_passed", "Whether it passed.", int(newest.state == "passed"), place=place, kind=kind)
    covered = coverage(checks_of(catalog, copy), installation.settings.check.parts)
    gauges.set("check_coverage_ratio", "Part of all packs that was read.", covered.read / covered.parts, place=place)
    if good is not None:
        gauges.set("backup_bytes", "Bytes of the newest good backup.", good.detail.get("bytes", 0), place=place)
        gauges.set("backup_added_bytes", "Bytes that were new in it: the growth.", good.detail.get("added_bytes", 0), place=place)
    if proven is not None:
        seconds = proven.detail.get("recovery_seconds") or 0
        gauges.set("drill_recovery_seconds", "Recovery time that the newest passed drill measured.", seconds, place=place)


def _ended(catalog: Catalog, kind: str, copy: str) -> list[Run]:
    runs = catalog.runs(kind, 200)  # type: ignore[arg-type]
    return [run for run in runs if run.state != "running" and run.detail.get("copy", "") == copy]


class _Gauges:
    """Gauges of one registry, made when they are first set."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._made: dict[str, Gauge] = {}

    def set(self, name: str, what: str, value: float, **labels: str) -> None:
        """Set one value."""
        if name not in self._made:
            self._made[name] = Gauge(f"nightsafe_{name}", what, sorted(labels), registry=self._registry)
        gauge = self._made[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def age(self, name: str, what: str, run: Run | None, now: datetime, place: str, **labels: str) -> None:
        """The age of a run; nothing when there is none."""
        if run is not None:
            self.set(name, what, (now - run.started_at).total_seconds(), place=place, **labels)


class _Kept:
    """The last answers, for some seconds."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[float, int, str, bytes]] = {}

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """(status, content type, body) for a path."""
        if path not in ("/metrics", "/healthz"):
            return 404, "text/plain", b"there are /metrics and /healthz\n"
        with self._lock:
            kept = self._answers.get(path)
            if kept is None or time.monotonic() - kept[0] > KEPT_SECONDS:
                kept = self._answers[path] = (time.monotonic(), *self._fresh(path))
            return kept[1:]

    def _fresh(self, path: str) -> tuple[int, str, bytes]:
        try:
            if path == "/metrics":
                return 200, "text/plain; version=0.0.4; charset=utf-8", metrics(self._installation)
            good, body = health(self._installation)
            return (200 if good else 503), "application/json", body
        except NightsafeError as error:
            return 503, "application/json", json.dumps({"colour": "red", "error": error.message}).encode()


@contextmanager
def serving(installation: Installation) -> Iterator[int]:
    """Serve while the block lasts; the port, 0 when none is set. A port that is taken is logged, and stops no backup."""
    port = installation.settings.metrics.port
    kept = _Kept(installation)

    class Handler(BaseHTTPRequestHandler):
        timeout: ClassVar[float] = 5.0  # seconds that a silent connection is kept

        def do_GET(self) -> None:
            status, kind, body = kept.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Scrapes are not worth a line."""

    if not port:
        yield 0
        return
    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        log.error("metrics.unavailable", port=port, error=error.strerror)  # noqa: TRY400 - no traceback for what was foreseen
        yield 0
        return
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="metrics", daemon=True)
    thread.start()
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
