"""Child processes that never outlive us: what the restic runner and the embedded S3 server share. Knows neither of them."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.PyDLL(None, use_errno=True)  # PyDLL keeps the GIL: nothing else can run between fork and exec


def own_folder(cache: Path, name: str) -> Path:
    """`cache/NAME`, or one with our number where another user has that: restic closes its cache to others."""
    path = cache / name
    try:
        return path if path.stat().st_uid == os.geteuid() else cache / f"{name}-{os.geteuid()}"
    except FileNotFoundError:
        return path


def tied_to_us(umask: int = 0o077) -> Callable[[], None]:
    """For Popen's `preexec_fn`: the kernel kills the child when the thread that started it dies, `kill -9` of us included.

    The starting thread must therefore live as long as the child: both callers wait for theirs.
    """
    parent = os.getpid()

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)
        os.umask(umask)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold passwords

    return prepare


def stop(process: subprocess.Popen[bytes], first: signal.Signals, grace_seconds: float) -> None:
    """End `process`: the gentle signal, then SIGKILL after the grace; reaped in any case."""
    if process.poll() is None:
        process.send_signal(first)
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


class Tail:
    """The last lines of an output, bounded in lines and in length; control characters are left to whoever prints them."""

    def __init__(self, lines: int = 120, width: int = 2000) -> None:
        self._lines: deque[str] = deque(maxlen=lines)
        self._width = width

    def add(self, line: bytes | str) -> None:
        """Keep one line."""
        text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
        if text.strip():
            self._lines.append(text.rstrip()[: self._width])

    @property
    def text(self) -> str:
        """What was kept, oldest line first."""
        return "\n".join(self._lines)


def memory_file(name: str, data: bytes) -> int:
    """A descriptor whose content lives in memory only. A child that inherits it can open `/dev/fd/N` as often as it likes."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def bytes_moved(pid: int) -> int | None:
    """Bytes that a process has read and written so far, sockets included; None when the kernel does not tell."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
        values = dict(line.split(": ", 1) for line in lines)
        return int(values["rchar"]) + int(values["wchar"])
    except (OSError, ValueError, KeyError):
        return None
