"""Whether the scanner can be relied on now. One thread asks it, now and then while all is well, with growing waits while it is not.

Papers that were held meanwhile go on by themselves: `epoch` grows with each change, and whoever is told of it looks at them again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import structlog

from config.files import write_whole
from gateway.ingest.backoff import Backoff
from gateway.ingest.checks.scanner import Readiness, Scanner, Session

CALM_SECONDS = 60.0  # between two questions while all is well
FIRST_SECONDS = 5.0  # that the first paper waits for the first answer
UNKNOWN = Readiness(False, "the scanner has not answered yet")


class Standby:
    """The newest readiness of a scanner. Thread-safe. `changed` is called, by the asking thread, whenever it began or ceased to be ready."""

    def __init__(self, scanner: Scanner, changed: Callable[[Readiness], None] = lambda _: None, *, longest_seconds: float = 30.0) -> None:
        self.scanner = scanner
        self._changed = changed
        self._known = UNKNOWN
        self._first = threading.Event()
        self._doubt = threading.Event()
        self._stop = threading.Event()
        self._ask = threading.Lock()
        self._pause = Backoff(0.5, longest_seconds)
        self._thread = threading.Thread(target=self._run, name="ingest-scanner", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()
        self._doubt.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def readiness(self) -> Readiness:
        """The newest answer; waits a moment for the first one."""
        self._first.wait(FIRST_SECONDS)
        return self._known

    def begin(self) -> Session | None:
        """A session with a scanner that can be relied on; None when there is none. One that was started anew is asked first."""
        for _ in range(2):
            if not self.readiness().ready:
                break
            session = self.scanner.begin()
            if session.is_with_asked:
                return session
            session.close()
            self.ask()
        return None

    def ask(self) -> Readiness:
        """Ask now: after a session that gave no verdict."""
        with self._ask:
            found = self._probe()
            before, self._known = self._known, found
            self._first.set()
            if before.ready != found.ready or before is UNKNOWN:
                self._changed(found)
        if not found.ready:
            self._doubt.set()
        return found

    def _probe(self) -> Readiness:
        try:
            return self.scanner.probe()
        except Exception as error:  # noqa: BLE001 - a thread that ended would leave every paper unscanned for good
            structlog.get_logger().error("scanner.not_asked", exc_info=error)
            return Readiness(False, f"the scanner could not be asked ({type(error).__name__}): look at the journal of the role 'ingest'")

    def _run(self) -> None:
        while not self._stop.is_set():
            ready = self.ask().ready
            self._pause = self._pause.next(failed=not ready) if not ready else Backoff(self._pause.first_seconds, self._pause.most_seconds)
            self._doubt.clear()
            if ready:
                self._doubt.wait(CALM_SECONDS)
            else:
                self._stop.wait(self._pause.seconds)


def write_state(path: Path, scanner: str, readiness: Readiness) -> None:
    """For `nightsafe status`. Worthless once the role has ended."""
    try:
        write_whole(path, json.dumps({"scanner": scanner, **asdict(readiness)}).encode())
    except OSError as error:
        structlog.get_logger().warning("ingest.scan_state_unwritten", error=error.strerror)
