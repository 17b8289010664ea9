"""The role `ingest` as processes of its own, to be looked at and to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from config.roles import instance_name, role_state
from tests.integration.ingest_world import World

SERVE = """
import contextlib, sys
from config.loading import open_installation
from config.logging import set_up_logging
from gateway.ingest.role import serve
@contextlib.contextmanager
def deaf(folder, *bells):
    yield False
set_up_logging("ingest")
serve(open_installation(sys.argv[1]), instance=int(sys.argv[2]), **({"watch": deaf} if sys.argv[3:] == ["deaf"] else {}))
"""
# A process that has imported everything and forks a life of the role for each line: a start costs milliseconds.
LIVES = """
import os, sys
from config.loading import open_installation
from config.logging import set_up_logging
from gateway.ingest.role import serve
set_up_logging("ingest")
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        serve(open_installation(sys.argv[1]), instance=int(sys.argv[2]))
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def wait_for(what: Callable[[], object], seconds: float = 240) -> float:
    """Wait until `what()` is true; the seconds that it took."""
    start = time.monotonic()
    while not what():
        if time.monotonic() - start > seconds:
            raise AssertionError("it did not come")
        time.sleep(0.005)
    return time.monotonic() - start


@contextmanager
def serving(world: World, *options: str, instance: int = 1) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SERVE, str(world.folder.root), str(instance), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: role_state(world.folder, instance_name("ingest", instance)) or process.poll() is not None)
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()


class Lives:
    """One life of the role after the other, each ended by SIGKILL."""

    def __init__(self, world: World, instance: int = 1) -> None:
        self._world = world
        self._name = instance_name("ingest", instance)
        command = [sys.executable, "-c", LIVES, str(world.folder.root), str(instance)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def live_for(self, seconds: float) -> None:
        """Begin a life, and end it so long after it was ready."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(b"live\n")
        self._process.stdin.flush()
        child = int(self._process.stdout.readline())
        wait_for(lambda: role_state(self._world.folder, self._name))
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        assert self._process.stdout.readline() == b"ended\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.communicate(timeout=240)
