"""Tells receivers, unattended: one thread reads the log, each receiver has a thread of its own, so that one that is down delays no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from config.errors import NightsafeError
from config.lasting import LastingFault
from gateway.notify.collecting import Collector
from gateway.notify.notices import TOGETHER, message
from gateway.notify.outbox import Allowance, Outbox
from gateway.notify.receivers import Receiver
from gateway.notify.sending import NotTaken, send

FIRST_SECONDS, MOST_SECONDS = 2.0, 300.0  # between attempts at a receiver that takes nothing
Send = Callable[[str, str, str], None]


class Pace:
    """How many messages a receiver may be sent: `most` at once, and as many an hour. What is left outlives a restart: it is kept in the outbox, with
    what was sent. Used by one thread. `clock` gives seconds since the epoch.

    Whoever uploads a hundred thousand papers that are refused must not have as many mails sent, however often this process dies meanwhile.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.time, kept: Allowance | None = None) -> None:
        self._most = most
        self._clock = clock
        self._left, self._at = (min(most, kept.left), kept.at) if kept else (float(most), clock())

    def left(self) -> int:
        """How many may be sent now."""
        now = self._clock()
        self._left, self._at = min(self._most, self._left + max(0.0, now - self._at) * self._most / 3600), now
        return int(self._left)

    def spend(self) -> Allowance:
        """One was sent: what is to be kept."""
        self._left -= 1
        return Allowance(self._left, self._at)

    def seconds(self) -> float:
        """Until one may be sent; 0 when that is now."""
        return 0.0 if self.left() else (1 - self._left) * 3600 / self._most


def deliver(outbox: Outbox, receiver: Receiver, pace: Pace, send_to: Send = send) -> int:
    """Send what waits for a receiver, as far as `pace` lets it; how many notices it took. The last message that may be sent is a digest of all
    that waits. Raises NotTaken, OutOfReach."""
    taken = 0
    while left := pace.left():
        bundle = outbox.waiting(receiver.name, TOGETHER) if left > 1 else outbox.digest(receiver.name, TOGETHER)
        if bundle.last is None:
            break
        title, body = message(bundle)
        try:
            send_to(receiver.url, title, body)
        except NotTaken as error:
            outbox.failed(receiver.name, str(error))
            raise
        outbox.sent(receiver.name, bundle.last.number, bundle.dropped, datetime.now(UTC).isoformat(timespec="seconds"), pace.spend())
        taken += len(bundle.notices) + bundle.untold
    return taken


class Notifier:
    """Runs in threads from `start` to `stop`. `folder` is the audit log's, `outbox` the path of the outbox."""

    def __init__(
        self,
        folder: Path,
        outbox: Path,
        receivers: Sequence[Receiver],
        *,
        every_seconds: float,
        most_per_hour: int,
        first_seconds: float = FIRST_SECONDS,
    ) -> None:
        self._outbox = Outbox(outbox)
        self._outbox.forget(receiver.name for receiver in receivers)
        self._collector = Collector(folder, self._outbox, receivers)
        self._every = every_seconds
        self._first = first_seconds
        self._most_per_hour = most_per_hour
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
        fault = LastingFault("notify.not_collected")
        while not self._stop.is_set():
            try:
                if self._collector.collect():
                    for bell in self._bells.values():
                        bell.set()
                fault.over()
            except Exception as error:  # noqa: BLE001 - whatever it is: a thread that ended would tell nobody anything any more
                fault.met(error)
            self._stop.wait(self._every)

    def _tell(self, receiver: Receiver) -> None:
        bell, pace, wait = self._bells[receiver.name], Pace(self._most_per_hour), 0.0
        with suppress(NightsafeError):  # an outbox that cannot be read is told of below
            pace = Pace(self._most_per_hour, kept=self._outbox.allowance(receiver.name))
        while not self._stop.is_set():
            bell.clear()
            try:
                if taken := deliver(self._outbox, receiver, pace):
                    self._log.info("notify.sent", receiver=receiver.name, notices=taken)
                wait = 0.0
            except Exception as error:  # noqa: BLE001 - see above; the text of a foreign one may quote the address
                wait = min(wait * 2 or self._first, MOST_SECONDS)
                said = str(error) if isinstance(error, (NotTaken, NightsafeError)) else type(error).__name__
                self._log.warning("notify.not_sent", receiver=receiver.name, error=said, wait_seconds=wait)
            if pause := max(wait, pace.seconds()):
                self._stop.wait(pause)
            else:
                bell.wait(MOST_SECONDS)
