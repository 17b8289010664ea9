"""Tells a watchdog outside, in the manner of healthchecks.io, that a job begins, went well, or failed: silence is then an alarm, too.

URL/start, URL, URL/fail and URL/log, by POST with a line or two as body, and the number `rid` that ties the end to its start. Not through the
outbox of notices: a start that comes an hour late says something wrong. So a ping has some seconds and a few tries, and is dropped then; whoever
tells never waits. The address is a password of a kind: it is not logged.
"""

from __future__ import annotations

import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Literal
from uuid import uuid4

import structlog

What = Literal["start", "success", "fail", "log"]
SUFFIX: Mapping[What, str] = {"start": "/start", "success": "", "fail": "/fail", "log": "/log"}
TRIES = 3
WAITING = 100  # pings for one address; what comes on top is dropped
MAX_BODY = 1000  # characters
FLUSH_SECONDS = 3.0  # at the end

log = structlog.get_logger()


class Pinger:
    """Pings for jobs that have an address in `urls`; each address has a thread of its own, so that one that is down delays no other."""

    def __init__(self, urls: Mapping[str, str], seconds: float, pause_seconds: float = 2.0) -> None:
        """`seconds` is what the other side may take for each step of an exchange; `pause_seconds` lie between tries."""
        self._seconds = seconds
        self._pause = pause_seconds
        self._stop = threading.Event()
        self._queues: dict[str, queue.Queue[tuple[What, str, str] | None]] = {job: queue.Queue(WAITING) for job in urls}
        self._rids: dict[str, str] = {}
        self._threads = [threading.Thread(target=self._work, args=(job, url), name="ping", daemon=True) for job, url in urls.items()]
        for thread in self._threads:
            thread.start()

    def tell(self, job: str, what: What, body: str = "") -> None:
        """Queue a ping; returns at once. A job without an address is not told of."""
        waiting = self._queues.get(job)
        if waiting is None:
            return
        if what == "start" or job not in self._rids:
            self._rids[job] = str(uuid4())
        try:
            waiting.put_nowait((what, self._rids[job], body))
        except queue.Full:
            log.warning("ping.dropped", job=job, what=what)

    def stop(self) -> None:
        """Send what waits, if that takes a moment only; drop it otherwise."""
        for waiting in self._queues.values():
            try:
                waiting.put_nowait(None)
            except queue.Full:
                self._stop.set()
        for thread in self._threads:
            thread.join(FLUSH_SECONDS / len(self._threads))
        self._stop.set()

    def _work(self, job: str, url: str) -> None:
        while not self._stop.is_set():
            one = self._queues[job].get()
            if one is None:
                return
            what, rid, body = one
            for left in reversed(range(TRIES)):
                cause = self._send(f"{url.rstrip('/')}{SUFFIX[what]}?rid={rid}", body)
                if not cause:
                    break
                if not left or self._stop.wait(self._pause):
                    log.warning("ping.not_sent", job=job, what=what, cause=cause)
                    break

    def _send(self, url: str, body: str) -> str:
        """'' when it was taken, else why not, without the address."""
        request = urllib.request.Request(url, body[:MAX_BODY].encode("utf-8", "replace"), {"User-Agent": "nightsafe"}, method="POST")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=self._seconds):  # noqa: S310 - the settings take http and https alone
                return ""
        except urllib.error.HTTPError as error:
            error.close()
            return f"status {error.code}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the thread, and its text may quote the address
            return type(error).__name__
