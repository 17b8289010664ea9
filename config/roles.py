"""How a running role makes itself known: one instance a data folder, a state file while it runs, an orderly end.

The state file `run/ROLE.json` is written once the role does its work, and removed at the end; the kernel lock on `run/ROLE.lock` dies with
the process, so a state file without a lock is a leftover.
"""

from __future__ import annotations

import _thread
import fcntl
import json
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

from config.acl import get_acl
from config.errors import Busy
from config.files import make_folder, open_shared, write_whole
from config.folder import DataFolder
from config.manager import beat_seconds, tell, tell_alive

SCHEDULERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"backup": ("backup", "copy"), "drill": ("drill", "check"), "prune": ("forget",)}
)  # the parts of the scheduler that run by themselves, each under its own user, and their kinds of jobs

_ALL_ADDRESSES: Mapping[str, str] = MappingProxyType({"0.0.0.0": "127.0.0.1", "::": "::1"})  # and the one of them that is this machine


def scheduler_name(part: str | None) -> str:
    """The role as it makes itself known."""
    return f"scheduler-{part}" if part else "scheduler"


def missing_schedulers(folder: DataFolder) -> list[str]:
    """What does not run of the scheduler: it alone, or its parts."""
    missing = [name for part in SCHEDULERS if role_state(folder, name := scheduler_name(part)) is None]
    if role_state(folder, "scheduler") is not None:
        return []
    return ["scheduler"] if len(missing) == len(SCHEDULERS) else missing


def has_users(folder: DataFolder) -> bool:
    """Whether each role has a user of its own here, which the folder's rights show."""
    rights = get_acl(folder.root)
    return rights is not None and bool(rights.users)


def starter(folder: DataFolder) -> str:
    """What starts the roles here. Where each has a user of its own, one process of root must not take their place."""
    return "systemctl start nightsafe.target (or docker compose up -d)" if has_users(folder) else "nightsafe up"


class RunningRole:
    """A role of this process. `announce` when ready; `wait` for the end. Both are told to the service manager, if there is one."""

    def __init__(self, folder: DataFolder, name: str) -> None:
        self.name = name
        self.stop = threading.Event()
        self._state = _state_file(folder, name)
        self._beat_at = 0.0

    def announce(self, **facts: Any) -> None:
        """Say that the role is ready; `facts` are JSON values such as host and port."""
        write_whole(self._state, json.dumps({"role": self.name, "pid": os.getpid(), "machine": socket.gethostname(), **facts}).encode())
        tell("READY=1")

    def wait(self, seconds: float = math.inf) -> bool:
        """Wait for `stop`, for so long at the most; whether it is set. To be called again and again, or for ever, by the main thread."""
        until, beat = time.monotonic() + seconds, beat_seconds() or math.inf
        while not self.stop.wait(_timeout(min(until - time.monotonic(), beat))):
            now = time.monotonic()
            if beat < math.inf and now >= self._beat_at:
                tell_alive()
                self._beat_at = now + beat / 2
            if now >= until:
                return False
        tell("STOPPING=1")
        return True

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT set `stop` (main thread only; asyncio roles use their loop's handlers)."""
        set_on_signals(self.stop)

    def withdraw(self) -> None:
        """Take the announcement back."""
        self._state.unlink(missing_ok=True)


def _timeout(seconds: float) -> float | None:
    return None if seconds == math.inf else max(0.0, seconds)


def set_on_signals(event: threading.Event) -> None:
    """SIGTERM and SIGINT set `event`. Main thread only."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        # Not here: a handler runs in the main thread, which may be inside event.wait() and hold the event's own lock.
        _thread.start_new_thread(event.set, ())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


@contextmanager
def running_role(folder: DataFolder, name: str) -> Iterator[RunningRole]:
    """Hold the role's lock. Raises Busy when the role runs already on this data folder."""
    with exclusive(folder, name, f"the role '{name}' already runs on {folder.root}", "stop it first, or look at: nightsafe status"):
        role = RunningRole(folder, name)
        role.withdraw()
        try:
            yield role
        finally:
            role.withdraw()


@contextmanager
def exclusive(folder: DataFolder, name: str, message: str, hint: str = "") -> Iterator[None]:
    """Hold the kernel lock `run/NAME.lock`; it dies with the process. Raises Busy at once when another process holds it."""
    with _locked(folder, name, fcntl.LOCK_EX, message, hint):
        yield


@contextmanager
def together(folder: DataFolder, name: str, message: str, hint: str = "") -> Iterator[None]:
    """Hold `run/NAME.lock` beside others who do so too. Raises Busy at once when somebody holds it alone."""
    with _locked(folder, name, fcntl.LOCK_SH, message, hint):
        yield


@contextmanager
def _locked(folder: DataFolder, name: str, kind: int, message: str, hint: str) -> Iterator[None]:
    make_folder(folder.run)
    descriptor = open_shared(_lock_file(folder, name))
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(message, hint) from None
        yield
    finally:
        os.close(descriptor)


def instance_name(role: str, number: int) -> str:
    """What the process of this number (from 1 on) is called where several of a role run: `ingest`, `ingest-2`, …"""
    return role if number == 1 else f"{role}-{number}"


def instance_names(folder: DataFolder, role: str) -> list[str]:
    """The names of all processes of a role that ever ran on this data folder, and of the first."""
    return [role, *sorted(lock.stem for lock in folder.run.glob(f"{role}-[0-9]*.lock"))]


def role_state(folder: DataFolder, name: str) -> dict[str, Any] | None:
    """What a running role announced; None when it does not run or is not ready yet."""
    try:
        descriptor = os.open(_lock_file(folder, name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        return None  # nobody holds it: what the file says is of the past
    finally:
        os.close(descriptor)
    try:
        state = json.loads(_state_file(folder, name).read_bytes())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def is_here(state: Mapping[str, Any]) -> bool:
    """Whether a role runs on this machine and in this container: only then does its process number mean anything here."""
    return str(state.get("machine") or "") in ("", socket.gethostname())


def reached_at(state: Mapping[str, Any]) -> str:
    """The address at which a command reaches a role that listens. Where it listens to all of them: this machine's own, or the name of the container
    that the role has for itself, which a network of containers knows."""
    host = str(state.get("host") or "0.0.0.0")
    if host not in _ALL_ADDRESSES:
        return host
    return _ALL_ADDRESSES[host] if is_here(state) else str(state["machine"])


def _lock_file(folder: DataFolder, name: str) -> Path:
    return folder.run / f"{name}.lock"


def _state_file(folder: DataFolder, name: str) -> Path:
    return folder.run / f"{name}.json"
