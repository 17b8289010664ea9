"""Jobs that run by the clock, one after another in each lane. A lane is a thread, so that what takes hours in one does not delay the other.

Whatever a job raises ends here: it is logged (its own run records it, and the audit log), and the next slot comes. After an outage, and when
somebody else holds the lock, the same slot is tried again; see `backup.clock.agenda`.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from backup.clock.agenda import Agenda, Outcome
from backup.clock.pings import Pinger
from backup.restic import Interrupted
from config.errors import Away, Busy, NightsafeError
from config.words import counted
from gateway.catalog import Run
from gateway.catalog.rows import RunKind

TICK_SECONDS = 15.0  # a sleeping machine's clocks stand still: look at the time this often after it wakes
FULL = "full"  # the name of the full drill's job

log = structlog.get_logger()


@dataclass(frozen=True)
class Job:
    """Something that runs by the clock: a `rule` as in the settings. `lane` names what it must not run beside of."""

    kind: RunKind
    rule: str
    run: Callable[[], Run]
    name: str = ""  # which of several of a kind
    lane: str = ""  # of the first place

    @property
    def label(self) -> str:
        """For the log, for the settings of pings, and for the offset."""
        return f"{self.kind}:{self.name}" if self.name else self.kind

    def is_mine(self, run: Run) -> bool:
        """Whether a run did this job, whoever began it."""
        if (self.kind, self.name) == ("drill", FULL):
            return run.detail.get("kind") == FULL and not run.detail.get("copy")
        return bool(run.detail.get("copy", "") == self.name)


class Lane(threading.Thread):
    """Runs its jobs until `stop` is set; a job that is under way then has to end by itself (it was given the same event)."""

    def __init__(
        self, name: str, jobs: Sequence[tuple[Job, Agenda]], stop: threading.Event, pinger: Pinger, after: Sequence[threading.Event] = ()
    ) -> None:
        """`after` are events to wait for before the first look: what others catch up first."""
        super().__init__(name=f"lane-{name}", daemon=True)
        self.caught_up = threading.Event()
        self._jobs = jobs
        self._halt = stop
        self._pinger = pinger
        self._after = after

    def run(self) -> None:
        """Look, run what is due, sleep."""
        try:
            for event in self._after:
                while not event.wait(0.5) and not self._halt.is_set():
                    pass
            while not self._halt.is_set():
                self.look()
                self.caught_up.set()
                self._halt.wait(min((agenda.seconds_left(_now(), time.monotonic(), TICK_SECONDS) for _, agenda in self._jobs), default=TICK_SECONDS))
        finally:
            self.caught_up.set()

    def look(self) -> None:
        """Run every job that is due, in their order, once."""
        for job, agenda in self._jobs:
            if self._halt.is_set():
                return
            if agenda.is_due(_now(), time.monotonic()):
                self._turn(job, agenda)

    def _turn(self, job: Job, agenda: Agenda) -> None:
        if agenda.begin(_now(), time.monotonic()):
            self._pinger.tell(job.label, "start")
        outcome, said, good = attempt(job)
        wait = agenda.end(outcome, time.monotonic())
        if wait is not None and not self._halt.is_set():
            log.warning("job.tried_again", job=job.label, seconds=wait, tries=agenda.tries)
        self._pinger.tell(job.label, "success" if good else "log" if wait is not None or self._halt.is_set() else "fail", said)


def attempt(job: Job) -> tuple[Outcome, str, bool]:
    """Run a job once: what came of it, in words for a watchdog (no names of papers), and whether it was good."""
    try:
        done = job.run()
    except Busy as error:
        log.warning("job.skipped", job=job.label, reason=error.message)
        return "busy", error.message, False
    except Interrupted:
        log.info("job.stopped", job=job.label)
        return "ended", "stopped", False
    except NightsafeError as error:
        log.error("job.failed", job=job.label, error=error.message, hint=error.hint)  # noqa: TRY400 - no traceback for what was foreseen
        return "away" if isinstance(error, Away) else "ended", error.message, False
    except Exception as error:  # noqa: BLE001 - a defect in a job must not end the others
        trace = traceback.format_exc()  # as text: some renderers print local variables, and among ours are secrets
        log.error("job.failed", job=job.label, error=type(error).__name__, trace=trace)  # noqa: TRY400
        return "ended", type(error).__name__, False
    tell = log.info if done.state == "passed" else log.error
    cause = done.detail.get("error", done.detail.get("cause"))
    tell("job.finished", job=job.label, run=done.id, state=done.state, snapshot=done.snapshot, cause=cause)
    told = f"{counted(done.detail['unread'], 'file')} could not be read" if "unread" in done.detail else str(cause or "")
    said = f"run {done.id}: {done.state}" + (f": {told}" if told else "")
    return "away" if done.state == "inconclusive" else "ended", said, done.state == "passed"


def _now() -> datetime:
    return datetime.now(UTC)
