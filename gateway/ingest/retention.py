"""Expiry by the clock, beside the work on papers: ingest is the role that may write the vault."""

from __future__ import annotations

import threading

import structlog

from config.errors import Busy, NightsafeError
from config.loading import Installation
from gateway.ingest.parts import Parts
from gateway.retention.expiry import expire

FIRST_SECONDS = 60.0  # after the start: nothing waits for it then
BUSY_SECONDS = 60.0  # while a backup runs


def expire_by_the_clock(installation: Installation, parts: Parts, stop: threading.Event) -> None:
    """Let papers expire every `retention.every_hours`, until `stop` is set. Returns at once when the settings let nothing expire."""
    settings = installation.settings.retention
    if not settings.days or not settings.every_hours:
        return
    log = structlog.get_logger()
    wait = FIRST_SECONDS
    while not stop.wait(wait):
        wait = settings.every_hours * 3600
        try:
            done = expire(installation.folder, parts.catalog, parts.audit, settings, person="ingest", now=parts.now, stopping=stop.is_set)
        except Busy:
            wait = BUSY_SECONDS
        except (NightsafeError, OSError) as error:
            log.error("retention.failed", error=str(error))  # noqa: TRY400 - the next time comes
        else:
            log.info("retention.done", expired=len(done.papers), kept=done.kept)
