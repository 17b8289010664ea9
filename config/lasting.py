"""A fault that lasts, in work that is tried again and again: told when it begins, once a minute while it goes on, and when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

from config.errors import NightsafeError

log = structlog.get_logger()

TELL_SECONDS = 60.0


class LastingFault:
    """One kind of fault, told under the name of `event`. Not thread-safe. One that comes and goes is told once a minute, too."""

    def __init__(self, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._event = event
        self._clock = clock
        self._since: float | None = None  # when it was told to have begun
        self._told_at = float("-inf")
        self._untold = 0

    def met(self, error: Exception | str, **facts: Any) -> None:
        """The work failed; `facts` are told beside the error."""
        now = self._clock()
        if now - self._told_at < TELL_SECONDS:
            self._untold += 1
            return
        if self._untold:
            facts["times_more"] = self._untold
        self._since = now if self._since is None else self._since
        self._told_at, self._untold = now, 0
        foreseen = isinstance(error, (str, NightsafeError, OSError))
        log.warning(self._event, error=str(error), exc_info=None if foreseen else error, **facts)

    def over(self) -> None:
        """The work succeeded."""
        if self._since is not None:
            log.info("fault.over", fault=self._event, seconds=round(self._clock() - self._since), times_more=self._untold)
            self._since, self._untold = None, 0
