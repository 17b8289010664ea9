"""Workforce: several processes that do the gateway's work, forked from one that only watches them. One that dies is started again.

The watcher opens no store, starts no thread and speaks to nobody; so a fork of it is a clean beginning at any time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from config.errors import Exit, NightsafeError, OutOfReach

log = structlog.get_logger()

READY_SECONDS = 60.0
STOP_SECONDS = 45.0  # that a worker takes to stop, beside the time that it gives its transfers
FIRST_WAIT, LONGEST_WAIT, CALM_SECONDS = 0.1, 5.0, 10.0
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15

Ready = Callable[[], None]
Work = Callable[[int, Ready], None]


class WorkerFailed(NightsafeError):
    """A worker ended before it was ready; its own message stands in the log above."""

    def __init__(self, number: int, code: int) -> None:
        super().__init__(f"worker {number} of the gateway ended before it was ready", "its own message above says why")
        self.exit_code = Exit(code) if code in set(Exit) and code != Exit.DONE else Exit.BAD


@dataclass
class _Worker:
    number: int
    pid: int = 0
    started: float = 0.0
    wait: float = FIRST_WAIT
    not_before: float = 0.0
    is_ready: int = -1  # the reading end of a pipe; a byte comes when it is
    code: int = field(default=0)


class Workforce:
    """`work(number, ready)` is what a worker does until SIGTERM; `gone(number)` is called here when one has died."""

    def __init__(self, count: int, work: Work, gone: Callable[[int], None], transfer_seconds: float) -> None:
        self._work = work
        self._gone = gone
        self._stop_seconds = STOP_SECONDS + transfer_seconds
        self._hurried = False
        self._workers = [_Worker(number) for number in range(count)]

    def start(self, stop: threading.Event) -> None:
        """Return when all are ready, or `stop` came. Raises WorkerFailed, OutOfReach."""
        for worker in self._workers:
            self._fork(worker)
        deadline = time.monotonic() + READY_SECONDS
        for worker in self._workers:
            while not stop.is_set() and not self._has_said_ready(worker):
                if self._has_died(worker):
                    raise WorkerFailed(worker.number, worker.code)
                if time.monotonic() > deadline:
                    raise OutOfReach(
                        f"worker {worker.number} of the gateway was not ready after {READY_SECONDS:.0f} seconds", "look at its log lines"
                    )

    def watch(self, wait: Callable[[float], bool]) -> None:
        """Start again what dies, until `wait` (for so many seconds) says that it is the end: at once when it had worked for a while, with growing
        waits when it keeps dying."""
        while not wait(0.1):
            now = time.monotonic()
            for worker in self._workers:
                if worker.pid and self._has_died(worker):
                    log.warning("worker.died", worker=worker.number, code=worker.code)
                    worker.wait = FIRST_WAIT if now - worker.started > CALM_SECONDS else min(worker.wait * 2, LONGEST_WAIT)
                    worker.not_before = now + worker.wait
                if not worker.pid and now >= worker.not_before:
                    self._fork(worker)

    def signal(self, number: int) -> None:
        """Pass a signal on to all."""
        for worker in self._workers:
            _signal(worker.pid, number)

    def end(self, hurry: threading.Event) -> None:
        """Ask all to stop, in order, and wait; ask again on `hurry`. Those that do not stop are killed."""
        self.signal(signal.SIGTERM)
        until = time.monotonic() + self._stop_seconds
        for worker in self._workers:
            while worker.pid and not self._has_died(worker):
                if hurry.is_set() and not self._hurried:
                    self._hurried = True
                    self.signal(signal.SIGTERM)
                if time.monotonic() > until:
                    log.warning("worker.killed", worker=worker.number)
                    _signal(worker.pid, signal.SIGKILL)
                time.sleep(0.02)

    def _fork(self, worker: _Worker) -> None:
        reader, writer = os.pipe()
        watcher = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _live(worker.number, lambda: self._work(worker.number, lambda: _say_ready(writer)), watcher)
        os.close(writer)
        worker.pid, worker.started = pid, time.monotonic()
        if worker.is_ready >= 0:
            os.close(worker.is_ready)
        worker.is_ready = reader

    def _has_said_ready(self, worker: _Worker) -> bool:
        there, _, _ = select.select([worker.is_ready], [], [], 0.05)
        return bool(there) and os.read(worker.is_ready, 1) == b"+"

    def _has_died(self, worker: _Worker) -> bool:
        pid, status = os.waitpid(worker.pid, os.WNOHANG)
        if pid == 0:
            return False
        worker.pid, worker.code = 0, os.waitstatus_to_exitcode(status)
        self._gone(worker.number)
        return True


def _live(number: int, work: Callable[[], None], watcher: int) -> None:
    """The life of a worker, which never returns: what stands above it on the stack is the watcher's."""
    code = int(Exit.BAD)
    try:
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        libc.prctl(_PR_SET_NAME, f"gateway-{number}".encode())  # what ps and top show
        for stopping in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stopping, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if os.getppid() == watcher:
            work()
            code = int(Exit.DONE)
    except NightsafeError as error:
        log.error("worker.failed", error=error.message, hint=error.hint)  # noqa: TRY400 - it says what is wrong; a traceback does not
        code = int(error.exit_code)
    except BaseException as error:
        log.exception("worker.crashed", exc_info=error)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _say_ready(writer: int) -> None:
    with contextlib.suppress(OSError):
        os.write(writer, b"+")
    os.close(writer)


def _signal(pid: int, number: int) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
