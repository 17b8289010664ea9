"""The only place that starts restic.

One call is one process: started with an environment of its own, fed its password through a memory file, read line by line, watched for total
time and for standing still, stopped by SIGINT (which lets it remove its lock) before SIGKILL, and always reaped. If this process dies, the
kernel kills the child.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backup.processes import Tail, bytes_moved, memory_file, stop, tied_to_us
from backup.restic.errors import DiskFull, Interrupted, TimedOut
from backup.restic.messages import MAX_LINE_BYTES
from config.errors import OutOfReach
from config.words import counted

_INHERITED = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ")
_LOOK_SECONDS = 0.5  # how often limits are checked
_GRACE_SECONDS = 5.0  # between SIGINT and SIGKILL: removing a lock takes a request or two, or cannot be done
_NOTICEABLE_BYTES = 64 * 1024  # of traffic; retries against a dead endpoint move less
_FULL_CACHE = re.compile(
    rb"returned error, retrying after [^:]*: .*(?:write|open|mkdir) /.*: (?:no space left on device|disk quota exceeded)", re.IGNORECASE
)
_FULL_CACHE_TRIES = 4  # some five seconds; restic itself would try for a quarter of an hour


@dataclass(frozen=True)
class Limits:
    """Seconds a call may take in all, and may stand still (no progress, no traffic) before it counts as unreachable."""

    total_seconds: float = 6 * 3600.0
    stall_seconds: float = 300.0


@dataclass(frozen=True)
class Secrets:
    """What the child is given. Its `repr` shows nothing. `new_password` is for `key add` alone."""

    password: bytes = field(repr=False)
    environment: Mapping[str, str] = field(repr=False, default_factory=dict)
    new_password: bytes | None = field(repr=False, default=None)


@dataclass(frozen=True)
class Finished:
    """How a call ended: exit code and the end of standard error."""

    code: int
    stderr: str


PASSWORD_FILE = "{password-file}"  # noqa: S105 - these stand in arguments where the runner puts /dev/fd/N
NEW_PASSWORD_FILE = "{new-password-file}"  # noqa: S105

Line = Callable[[bytes], bool | None]


class Runner:
    """Starts one restic program with the same limits each time."""

    def __init__(self, program: str, scratch: Path, limits: Limits | None = None, cancel: threading.Event | None = None) -> None:
        """`scratch` takes restic's temporary files (ciphertext) and is made when missing; `cancel`, once set, stops whatever runs."""
        self.program = program
        self.limits = limits or Limits()
        self._scratch = scratch
        self._cancel = cancel or threading.Event()

    def run(
        self,
        arguments: Sequence[str],
        secrets: Secrets,
        on_line: Line,
        *,
        on_complaint: Line | None = None,
        cwd: Path | None = None,
        doing: str = "restic",
    ) -> Finished:
        """Run to the end. `on_line` gets each line of standard output and returns True when it shows progress; `on_complaint` each of standard error.

        Raises OutOfReach (no such program), TimedOut, Interrupted. Any exit code is returned.
        """
        path = self._find()
        descriptors = [memory_file("password", secrets.password)]
        try:
            if secrets.new_password is not None:
                descriptors.append(memory_file("new-password", secrets.new_password))
            names = dict(zip((PASSWORD_FILE, NEW_PASSWORD_FILE), (f"/dev/fd/{number}" for number in descriptors), strict=False))
            words = [path, *(names.get(word, word) for word in arguments)]
            process = self._start(words, secrets, descriptors, cwd)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        try:
            return _Watch(process, on_line, on_complaint, self.limits, self._cancel, doing).until_the_end()
        finally:
            stop(process, signal.SIGINT, _GRACE_SECONDS)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def _start(self, words: list[str], secrets: Secrets, descriptors: list[int], cwd: Path | None) -> subprocess.Popen[bytes]:
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment = {**inherited, "PATH": os.defpath, "LC_ALL": "C.UTF-8", "TMPDIR": str(self._scratch), "RESTIC_PROGRESS_FPS": "2"}
        try:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env={**environment, **secrets.environment},
                pass_fds=descriptors,
                start_new_session=True,  # a Ctrl-C at the terminal reaches us, and we tell restic
                preexec_fn=tied_to_us(),
            )
        except OSError as error:
            raise OutOfReach(f"restic cannot be started: {error.strerror or error}", "check backup.restic in the settings") from error

    def _find(self) -> str:
        path = shutil.which(self.program)
        if path is None:
            raise OutOfReach(
                f"the program '{self.program}' is missing",
                "install restic 0.14 or newer (Debian: apt install restic), or set backup.restic to its path",
            )
        return path


class _Watch:
    """Reads both outputs of one process until it ends, a limit is reached, or we are asked to stop."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        on_line: Line,
        on_complaint: Line | None,
        limits: Limits,
        cancel: threading.Event,
        doing: str,
    ) -> None:
        self._process = process
        self._on_line = on_line
        self._on_complaint = on_complaint
        self._limits = limits
        self._cancel = cancel
        self._doing = doing
        self._tail = Tail()
        self._started = self._moved_at = time.monotonic()
        self._moved = 0
        self._refused = 0  # tries in a row that failed for want of space in the cache
        self._heard = 0  # what it wrote to us: talking is not moving

    def until_the_end(self) -> Finished:
        assert self._process.stdout is not None and self._process.stderr is not None  # noqa: S101 - both are pipes
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ, _Lines(self._line))
            selector.register(self._process.stderr, selectors.EVENT_READ, _Lines(self._complaint))
            while selector.get_map():
                for key, _ in selector.select(_LOOK_SECONDS):
                    file = key.fileobj
                    data = os.read(key.fd, 256 * 1024)
                    self._heard += len(data)
                    key.data.feed(data)
                    if not data:
                        selector.unregister(file)
                self._check_limits()
        while True:
            try:
                return Finished(self._process.wait(_LOOK_SECONDS), self._tail.text)
            except subprocess.TimeoutExpired:
                self._check_limits()

    def _line(self, line: bytes) -> None:
        if self._on_line(line):
            self._moved_at = time.monotonic()
            self._refused = 0

    def _complaint(self, line: bytes) -> None:
        self._tail.add(line)
        if self._on_complaint is not None:
            self._on_complaint(line)
        if _FULL_CACHE.search(line):
            self._refused += 1
        if self._refused >= _FULL_CACHE_TRIES:
            raise DiskFull(f"{self._doing}: the disk of restic's cache is full", "make space there, then try again", self._tail.text)

    def _check_limits(self) -> None:
        now = time.monotonic()
        if self._cancel.is_set():
            raise Interrupted(f"{self._doing}: stopped, because this program was asked to stop", "", self._tail.text)
        if now - self._started > self._limits.total_seconds:
            raise TimedOut(
                f"{self._doing}: restic was stopped after {counted(round(self._limits.total_seconds), 'second')}",
                "raise backup.timeout_seconds, or look at what is slow",
                self._tail.text,
            )
        moved = bytes_moved(self._process.pid)
        if moved is None or moved - self._heard - self._moved >= _NOTICEABLE_BYTES:
            self._moved, self._moved_at = (moved or 0) - self._heard, now
        if now - self._moved_at > self._limits.stall_seconds:
            raise TimedOut(
                f"{self._doing}: nothing moved for {counted(round(self._limits.stall_seconds), 'second')}; the S3 service does not answer",
                "check the endpoint in the settings and the network, then try again",
                self._tail.text,
            )


class _Lines:
    """Cuts what comes into lines; a line beyond the bound is dropped whole."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._rest = bytearray()
        self._dropping = False

    def feed(self, data: bytes) -> None:
        """`data` is empty at the end of the output."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = bytes(self._rest) + line
            self._rest.clear()
            if not self._dropping:
                self._on_line(whole)
            self._dropping = False
        self._rest += rest
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest.clear()
            self._dropping = True
        if not data and self._rest and not self._dropping:
            self._on_line(bytes(self._rest))
            self._rest.clear()
