"""Where the gateway's processor time for a small paper goes: py-spy looks at its main thread while papers come in, and each look is put down to
the first of the steps below that stands in its stack.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benches.frame import Table
from benches.servers import Bench, Server

LOOKS_PER_SECOND = 200
Frame = tuple[str, str]  # function and file
STEPS: dict[str, tuple[Frame, ...]] = {  # the first one that stands in a stack has it
    "OPEN: rights, quota, a look at the name": (("_open", "operations.py"),),
    "WRITE": (("_write", "operations.py"),),
    "CLOSE: key, seal, spool file and name, four syncs": (("_close", "operations.py"),),
    "landing, after the settle time": (("_land", "publish.py"),),
    "encrypting and sending replies": (("_uncork", "fastpath.py"), ("send_data", "fastpath.py")),
    "receiving, decrypting, reading SFTP": (("buffer_updated", "fastpath.py"), ("_pump", "session.py")),
}
REST = "the event loop, and what is left"
AUDIT = "of all this, the two audit lines"
AUDIT_FRAMES = (("record", "recording.py"),)
WAITING = "select (selectors.py"
NOTE = (
    "The gateway's main thread, while {count:,} small papers of one session come in, by py-spy, without what it waits for. A reply that is sent "
    "wakes the client, which the kernel often lets run first: the step of replies holds that time, too. Below these steps hardly a function has "
    "more than 3 %: it is Python between system calls of a microsecond or two, no thread and no SQL. Counted by perf, on a busy machine, three "
    "fifths of the processor time are the interpreter's, with what is built into it, a good quarter is the kernel's, and the rest OpenSSL's, its "
    "bindings' and libc's. A request is one wait, one receive and one send, and wakes no thread. So a ratio that small papers miss cannot be mended "
    "in one place. Compiled by mypyc (SFTP, sessions, papers, spool, jail and audit lines; the connection cannot be, as it extends asyncssh's), "
    "what lies between the packet and its reply took an eighth to a fifth less, and a whole paper no less that could be measured. It would take "
    "another language for the whole way, connection and event loop included, or to promise less at CLOSE."
)


def whither(bench: Bench, server: Server, work: Callable[[], object], count: int) -> Table:
    """Shares of the steps. The program ends where py-spy is missing or may not look."""
    looks = _looks(bench.home / "looks", server, work)
    shares = Counter(_step(stack) for stack in looks.elements())
    total = shares.total()
    table = Table("Where the time of a small paper goes", ("step", "share"), note=NOTE.format(count=count))
    for step in (*STEPS, REST):
        table.add(step, f"{shares[step] / total:.0%}")
    table.add(AUDIT, f"{sum(number for stack, number in looks.items() if _has(stack, AUDIT_FRAMES)) / total:.0%}")
    return table


def _looks(found: Path, server: Server, work: Callable[[], object]) -> Counter[tuple[str, ...]]:
    """How often each stack of the main thread was seen at work, outermost frame first."""
    program = shutil.which("py-spy") or sys.exit("py-spy is missing: scripts/setup bench")
    options = ["--format", "raw", "--threads", "--rate", str(LOOKS_PER_SECOND), "--duration", "600", "--output", str(found)]
    spy = subprocess.Popen([program, "record", "--pid", str(server.pids()[0]), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    work()
    spy.send_signal(signal.SIGINT)
    spy.wait(60)
    looks: Counter[tuple[str, ...]] = Counter()
    for line in found.read_text().splitlines() if found.exists() else ():
        frames, _, number = line.rpartition(" ")
        stack = tuple(frames.split(";"))
        if "MainThread" in stack[0] and WAITING not in stack[-1]:
            looks[stack] += int(number)
    if not looks:
        sys.exit("py-spy saw nothing: it may look at processes that are no children of its own only as root")
    return looks


def _step(stack: tuple[str, ...]) -> str:
    return next((step for step, frames in STEPS.items() if _has(stack, frames)), REST)


def _has(stack: tuple[str, ...], frames: tuple[Frame, ...]) -> bool:
    """Whether one of `frames` stands in a stack, each of whose lines is `Class.function (file.py:line)`."""
    seen = {(one.partition(" ")[0].rpartition(".")[2], one.partition("(")[2].partition(":")[0].rpartition("/")[2]) for one in stack}
    return not seen.isdisjoint(frames)
