"""Tells receivers, unattended: one thread reads the log, each receiver has a thread of its own, so that one that is down delays no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from config.errors import NightsafeError
from gateway.notify.collecting import Collector
from gateway.notify.notices import TOGETHER, message
from gateway.notify.outbox import Outbox
from gateway.notify.receivers import Receiver
from gateway.notify.sending import NotTaken, send

FIRST_SECONDS, MOST_SECONDS = 2.0, 300.0  # between attempts at a receiver that takes nothing
Send = Callable[[str, str, str], None]


def deliver(outbox: Outbox, receiver: Receiver, send_to: Send = send) -> int:
    """Send what waits for a receiver; how many notices it took. Raises NotTaken, OutOfReach."""
    taken = 0
    while True:
        notices, dropped = outbox.waiting(receiver.name, TOGETHER + 1)
        if not notices:
            return taken
        if len(notices) > TOGETHER:  # what was dropped came after all that waits
            notices, dropped = notices[:TOGETHER], 0
        title, body = message(notices, dropped)
        try:
            send_to(receiver.url, title, body)
        except NotTaken as error:
            outbox.failed(receiver.name, str(error))
            raise
        outbox.sent(receiver.name, notices[-1].number, dropped, datetime.now(UTC).isoformat(timespec="seconds"))
        taken += len(notices)


class Notifier:
    """Runs in threads from `start` to `stop`. `folder` is the audit log's, `outbox` the path of the outbox."""

    def __init__(self, folder: Path, outbox: Path, receivers: Sequence[Receiver], every_seconds: float, first_seconds: float = FIRST_SECONDS) -> None:
        self._outbox = Outbox(outbox)
        self._outbox.forget(receiver.name for receiver in receivers)
        self._collector = Collector(folder, self._outbox, receivers)
        self._every = every_seconds
        self._first = first_seconds
        self._stop = threading.Event()
        self._bells = {receiver.name: threading.Event() for receiver in receivers}
        self._threads = [threading.Thread(target=self._collect, name="notify-collect", daemon=True)]
        self._threads += [threading.Thread(target=self._tell, args=(receiver,), name="notify-send", daemon=True) for receiver in receivers]
        self._log = structlog.get_logger()

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """End; what is under way has some seconds. What was not sent is sent after the next start."""
        self._stop.set()
        for bell in self._bells.values():
            bell.set()
        for thread in self._threads:
            thread.join(seconds)
        if not any(thread.is_alive() for thread in self._threads):
            self._outbox.close()

    def _collect(self) -> None:
        while not self._stop.is_set():
            try:
                if self._collector.collect():
                    for bell in self._bells.values():
                        bell.set()
            except (NightsafeError, OSError) as error:
                self._log.error("notify.not_collected", error=str(error))
            self._stop.wait(self._every)

    def _tell(self, receiver: Receiver) -> None:
        bell, wait = self._bells[receiver.name], 0.0
        while not self._stop.is_set():
            bell.clear()
            try:
                if taken := deliver(self._outbox, receiver):
                    self._log.info("notify.sent", receiver=receiver.name, notices=taken)
                wait = 0.0
            except (NotTaken, NightsafeError) as error:
                wait = min(wait * 2 or self._first, MOST_SECONDS)
                self._log.warning("notify.not_sent", receiver=receiver.name, error=str(error), wait_seconds=wait)
            if wait:
                self._stop.wait(wait)
            else:
                bell.wait(MOST_SECONDS)
