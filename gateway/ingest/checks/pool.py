"""The parent's side of worker processes: start them, feed them, and end one that crashes, hangs or eats memory. Nothing here trusts a worker."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from config.errors import NightsafeError
from gateway.ingest.checks import wire

PIECES_PER_FRAME = wire.MOST_BYTES
JOBS = 500  # after so many papers a worker is replaced: what leaked, or was left behind by a paper, goes with it
START_SECONDS = 30.0  # that a worker may take to be ready, on a busy machine
SERVED_TIMES = 8  # bytes that a worker may ask for, in sizes of the paper: entries are read once, directories a few times
SERVED_LEAST = 16 * 1024 * 1024


class WorkerFailed(Exception):
    """A check did not come to an end. `why` is one of crashed, slow, memory."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class NoWorker(NightsafeError):
    """No process could be started. That is no fault of the paper, which waits in the spool."""


class Readable(Protocol):
    """A paper, as a worker sees it through us."""

    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        """`length` bytes, fewer only at the end."""


class Entries(Protocol):
    """What hears of unlocked entries of an archive."""

    def begin(self, size: int) -> None:
        """An entry of about `size` bytes follows."""

    def piece(self, data: bytes) -> None:
        """A piece of it."""

    def end(self) -> None:
        """It is over."""


@dataclass
class _Process:
    popen: subprocess.Popen[bytes]
    jobs: int = 0

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.popen.kill()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()
        self.popen.wait()


class WorkerPool:
    """Worker processes, started when they are needed; as many at once as there are callers. Thread-safe."""

    def __init__(self, memory_bytes: int, module: str = "gateway.ingest.checks.worker") -> None:
        self._memory_bytes = memory_bytes
        self._module = module
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._closed = False

    def look(self, job: dict[str, Any], paper: Readable, seconds: float, entries: Entries | None = None) -> dict[str, Any]:
        """What a worker found in `paper`. Raises WorkerFailed; the worker has ended then, NoWorker, and whatever `paper` or `entries` raise."""
        process = self._take()
        try:
            result = _converse(process.popen, {**job, "size": paper.size, "seconds": seconds}, paper, time.monotonic() + seconds, entries)
        except BaseException:
            process.kill()
            raise
        if "failed" in result:
            process.kill()
            raise WorkerFailed(str(result["failed"]))
        process.jobs += 1
        self._give_back(process)
        return result

    def close(self) -> None:
        """End all that is idle; what is at work ends when it is given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for process in idle:
            process.kill()

    def _take(self) -> _Process:
        while (idle := self._idle_one()) is not None:
            if idle.popen.poll() is None:
                return idle
            idle.kill()  # somebody ended it meanwhile: the kernel, short of memory
        try:
            return self._started()
        except (OSError, WorkerFailed) as error:
            raise NoWorker(
                "the process that looks into papers cannot be started",
                "its own words are in the journal; is there memory left? was Nightsafe upgraded meanwhile? then restart the role 'ingest'",
            ) from error

    def _idle_one(self) -> _Process | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _started(self) -> _Process:
        process = _Process(_start(self._module, self._memory_bytes))
        try:
            read = _reader(process.popen, time.monotonic() + START_SECONDS)
            kind, _ = _receive(read)
            if kind != wire.RESULT:
                raise WorkerFailed("crashed")
        except BaseException:
            process.kill()
            raise
        return process

    def _give_back(self, process: _Process) -> None:
        with self._lock:
            if not self._closed and process.jobs < JOBS:
                self._idle.append(process)
                return
        process.kill()


def _start(module: str, memory_bytes: int) -> subprocess.Popen[bytes]:
    keep = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", module, str(memory_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env={**keep, "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "2"},
        start_new_session=True,
    )


def _converse(popen: subprocess.Popen[bytes], job: dict[str, Any], paper: Readable, deadline: float, entries: Entries | None) -> dict[str, Any]:
    read = _reader(popen, deadline)
    _send(popen, wire.encode_json(wire.JOB, job), deadline)
    served = 0
    most = max(SERVED_LEAST, SERVED_TIMES * paper.size)
    while True:
        kind, data = _receive(read)
        if kind == wire.READ and len(data) == wire.SPAN.size:
            offset, length = wire.SPAN.unpack(data)
            served += length
            if length > wire.MOST_BYTES or served > most:
                raise WorkerFailed("slow")
            _send(popen, wire.encode(wire.DATA, paper.read_at(offset, length)), deadline)
        elif kind == wire.RESULT:
            try:
                return wire.decode_json(data)
            except wire.Broken:
                raise WorkerFailed("crashed") from None
        elif entries is not None and kind == wire.ENTRY and len(data) == wire.SPAN.size:
            entries.begin(wire.SPAN.unpack(data)[0])
        elif entries is not None and kind == wire.PIECE:
            entries.piece(data)
        elif entries is not None and kind == wire.ENTRY_END:
            entries.end()
        else:
            raise WorkerFailed("crashed")


def _receive(read: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    try:
        return wire.receive(read)
    except wire.Broken:
        raise WorkerFailed("crashed") from None


def _reader(popen: subprocess.Popen[bytes], deadline: float) -> Callable[[int], bytes]:
    assert popen.stdout is not None  # noqa: S101 - it was started with a pipe
    descriptor = popen.stdout.fileno()

    def read(count: int) -> bytes:
        parts = []
        while count:
            _wait(descriptor, select.POLLIN, deadline)
            part = os.read(descriptor, min(count, PIECES_PER_FRAME))
            if not part:
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    return read


def _send(popen: subprocess.Popen[bytes], frame: bytes, deadline: float) -> None:
    assert popen.stdin is not None  # noqa: S101 - it was started with a pipe
    descriptor = popen.stdin.fileno()
    os.set_blocking(descriptor, False)
    view = memoryview(frame)
    while view:
        _wait(descriptor, select.POLLOUT, deadline)
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            continue
        except BrokenPipeError:
            raise WorkerFailed("crashed") from None


def _wait(descriptor: int, event: int, deadline: float) -> None:
    """Until the pipe can be used. Raises WorkerFailed("slow") at the deadline."""
    poll = select.poll()
    poll.register(descriptor, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise WorkerFailed("slow")
