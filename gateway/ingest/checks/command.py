"""Any other scanner: a program that reads the paper from its standard input, and ends with 0 when it is clean and with 1 when it is not.

The first line that it prints names what was found. It is asked for the test virus like every other scanner.
"""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress

from config.checks import ScanSettings
from gateway.ingest.checks.scanner import Readiness, ScanResult, finds_probe

SAID_BYTES = 4096
PROBE_SECONDS = 30.0
CLEAN, FOUND = 0, 1


class CommandScanner:
    """A program, started for each paper, without our environment."""

    def __init__(self, settings: ScanSettings) -> None:
        self._settings = settings

    def begin(self) -> CommandSession:
        """Start the program."""
        return CommandSession(self._settings.command, self._settings.seconds)

    def probe(self) -> Readiness:
        """It must find the test virus, and nothing in a harmless text. Never raises."""
        found = finds_probe(self, time.monotonic, PROBE_SECONDS)
        if found.outcome != "found":
            return Readiness(False, f"the scanner does not find the test virus ({found.detail or found.outcome})")
        session = self.begin()
        try:
            session.send(b"a harmless text\n")
            harmless = session.finish(time.monotonic() + PROBE_SECONDS)
        finally:
            session.close()
        if harmless.outcome != "clean":
            return Readiness(False, f"the scanner does not call a harmless text clean ({harmless.detail or harmless.outcome})")
        return Readiness(True, engine=self._settings.command[0])


class CommandSession:
    """One run of the program."""

    def __init__(self, command: Sequence[str], seconds: float) -> None:
        self.is_with_asked = True
        self._seconds = seconds
        self._trouble = ""
        self._said = b""
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
                cwd=tempfile.gettempdir() if os.access(tempfile.gettempdir(), os.X_OK) else "/",
                start_new_session=True,
            )
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None  # noqa: S101 - both are pipes
                os.set_blocking(pipe.fileno(), False)
        except OSError as error:
            self._trouble = f"the scanner cannot be started ({error.strerror})"

    def send(self, data: bytes | memoryview) -> None:
        """Each piece may take the time of the settings. A program that has read enough may close its input."""
        process = self._process
        if process is None or process.stdin is None or process.stdin.closed or self._trouble:
            return
        view, until = memoryview(data), time.monotonic() + self._seconds
        try:
            while view:
                if not self._wait(until, writing=True):
                    self._trouble = "the scanner did not take the next piece in time"
                    return
                with suppress(BlockingIOError):
                    view = view[os.write(process.stdin.fileno(), view) :]
        except BrokenPipeError:
            process.stdin.close()

    def finish(self, until: float) -> ScanResult:
        """By the exit code; any but 0 and 1 is no verdict."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None or self._trouble:
            return ScanResult("unavailable", self._trouble)
        process.stdin.close()
        while self._wait(until, writing=False):
            if not self._listen():
                break
        try:
            code = process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return ScanResult("slow", "the scanner did not end in time")
        first = self._said.decode("utf-8", "replace").strip().splitlines()[:1]
        if code == FOUND:
            return ScanResult("found", first[0][:200] if first else "")
        return ScanResult("clean") if code == CLEAN else ScanResult("unavailable", f"the scanner ended with {code}")

    def close(self) -> None:
        """End the program, and what it started."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        process.wait()

    def _wait(self, until: float, *, writing: bool) -> bool:
        """Until the program reads (when `writing`) or has said something; False when that takes too long. What it says is read meanwhile."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None  # noqa: S101 - callers looked
        while (left := until - time.monotonic()) > 0:
            poll = select.poll()
            poll.register(process.stdout.fileno(), select.POLLIN)
            if writing:
                poll.register(process.stdin.fileno(), select.POLLOUT)
            ready = [descriptor for descriptor, _ in poll.poll(left * 1000)]
            if not writing:
                return bool(ready)
            if process.stdin.fileno() in ready:
                return True
            if ready and not self._listen():
                return True  # it has closed its output; writing will tell the rest
        return False

    def _listen(self) -> bool:
        """Read what it says, keeping the beginning; False at the end."""
        assert self._process is not None and self._process.stdout is not None  # noqa: S101 - callers looked
        try:
            part = os.read(self._process.stdout.fileno(), SAID_BYTES)
        except BlockingIOError:
            return True
        self._said += part[: SAID_BYTES - len(self._said)]
        return bool(part)
