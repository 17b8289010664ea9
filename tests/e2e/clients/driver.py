"""What every client of the matrix is: a few verbs. What a client cannot do at all it does not define."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.sftp_rig import Server

SECONDS = 120


class Driver:
    """One client program. Remote paths are absolute; a failure raises."""

    name = ""
    cannot_carry: frozenset[str] = frozenset()  # characters of names that the client itself refuses

    def __init__(self, server: Server, home: Path) -> None:
        self.server = server
        self.home = home

    def version(self) -> str:
        """What the table says beside the name."""
        raise NotImplementedError

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        """Begin an upload, and break it off the hard way once it `has_begun`."""
        raise NotImplementedError

    def run(self, *command: str, data: str | None = None, environment: dict[str, str] | None = None) -> str:
        """A program's output; AssertionError when it fails."""
        done = subprocess.run(
            command, input=data, capture_output=True, text=True, timeout=SECONDS, check=False, env={**os.environ, **(environment or {})}
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def killed(self, command: list[str], has_begun: Callable[[], bool], data: str = "", environment: dict[str, str] | None = None) -> None:
        """Run a program until `has_begun`, then SIGKILL it with all that it started."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        assert process.stdin is not None
        process.stdin.write(data.encode())
        process.stdin.flush()
        try:
            deadline = time.monotonic() + SECONDS
            while not has_begun():
                assert process.poll() is None and time.monotonic() < deadline, "the upload did not last until it could be broken off"
                time.sleep(0.01)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()
            process.stdin.close()


def quoted(text: str) -> str:
    """A path as one word of a client's own command line."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
