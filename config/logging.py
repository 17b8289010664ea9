"""Structured logging of the roles: readable on a terminal, JSON lines elsewhere; secrets never, and no line without end.

What strangers choose can neither break a line nor steer a terminal. Of each event AT_ONCE lines are written, then EACH_SECOND; the others are
counted by the next one that is: a disk that fails does not fill the next one.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from config.hiding import hide_secrets
from config.printable import json_line, printable

AT_ONCE, EACH_SECOND = 200, 1.0  # lines of one event
WITH_BOUNDS_OF_THEIR_OWN = frozenset({"login.failed"})  # fail2ban counts them


@contextmanager
def _absent(module: str) -> Iterator[None]:
    """Meanwhile nobody finds a module that is not loaded yet."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # so the import system is told
    try:
        yield
    finally:
        del sys.modules[module]


with _absent("rich"):  # structlog would colour tracebacks with it, which no service prints: that takes time at each start, and 4 MB
    import structlog


def _said_by(role: str) -> structlog.typing.Processor:
    """Every line names its role, whichever thread it comes from; context variables would stay behind in the main one."""

    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("role", role)
        return event

    return add


class Calm:
    """Bounds how often one event is written, by this process. For structlog; thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float, int]] = {}  # by event: lines that may be written, when that was so, and those left out since

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The event, with the number of those that were left out before it. Raises structlog.DropEvent."""
        name, now = str(event.get("event")), self._clock()
        if name in WITH_BOUNDS_OF_THEIR_OWN:
            return event
        with self._lock:
            left, at, out = self._left.get(name, (float(AT_ONCE), now, 0))
            left = min(float(AT_ONCE), left + (now - at) * EACH_SECOND)
            if left < 1:
                self._left[name] = left, now, out + 1
                raise structlog.DropEvent
            self._left[name] = left - 1, now, 0
        if out:
            event["left_out"] = out
        return event


def _for_a_terminal(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Texts as they can be shown; a traceback keeps its lines."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = "\n".join(map(printable, value.split("\n"))) if name == "exception" else printable(value)
    return event


def set_up_logging(role: str, level: str = "info", json_lines: bool = False) -> None:
    """Configure structlog for this process. Events go to standard error, one a line."""
    as_json = json_lines or not sys.stderr.isatty()
    structlog.configure(
        processors=[
            Calm(),
            _said_by(role),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            hide_secrets,
            structlog.processors.format_exc_info,
            *((structlog.processors.JSONRenderer(json_line),) if as_json else (_for_a_terminal, structlog.dev.ConsoleRenderer())),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s %(levelname)s %(message)s", force=True)
