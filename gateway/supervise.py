"""Runs the roles as processes of one user: starts them in order, restarts one that dies, ends them in order.

`nightsafe up` is this. In production each role is a service of its own (`config/systemd/`) and nothing here runs.

A role gets the secrets of its row in DESIGN's table, and no others, through an inherited pipe (`NIGHTSAFE_SECRETS_FD`): never in arguments
or the environment. It dies with the supervisor (PR_SET_PDEATHSIG), so that a killed `up` leaves nothing behind that nobody watches.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from config.errors import Exit, NightsafeError, OutOfReach
from config.folder import DataFolder
from config.manager import without_manager
from config.roles import instance_name, role_state
from gateway.keys.secrets import encode_secrets

READY_SECONDS = 60.0
STOP_SECONDS = 15.0
RELOADING = frozenset({"gateway"})  # roles that take SIGHUP
FIRST_WAIT, LONGEST_WAIT, LONGEST_WAIT_ONCE_READY, CALM_SECONDS = 0.2, 30.0, 1.0, 10.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class RoleFailed(NightsafeError):
    """A role ended before it was ready; its own message stands above on standard error."""

    def __init__(self, role: str, code: int) -> None:
        super().__init__(f"the role '{role}' ended before it was ready", "its own message above says why")
        self.exit_code = Exit(code) if code in set(Exit) and code != Exit.DONE else Exit.BAD


@dataclass(frozen=True)
class RoleCommand:
    """A role to run as process number `instance` of its kind. `arguments` follow `nightsafe ROLE`; `pinned` makes arguments out of what it
    announced, so that a restarted role listens where the first one did."""

    role: str
    arguments: tuple[str, ...] = ()
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    pinned: Callable[[Mapping[str, object]], tuple[str, ...]] = lambda _: ()
    instance: int = 1

    @property
    def name(self) -> str:
        """As it announces itself."""
        return instance_name(self.role, self.instance)


class Supervised:
    """One role: its process, and when it may be started again."""

    def __init__(self, folder: DataFolder, command: RoleCommand) -> None:
        self.command = command
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._wait = FIRST_WAIT
        self._extra: tuple[str, ...] = ()
        self._not_before = 0.0
        self._was_ready = False

    @property
    def code(self) -> int | None:
        """The exit code of the process; None while it runs."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start the process."""
        reader, writer = os.pipe()
        arguments = [sys.executable, "-m", "nightsafe", self.command.role, "--data", str(self._folder.root), *self.command.arguments, *self._extra]
        environment = without_manager(os.environ) | {"NIGHTSAFE_SECRETS_FD": str(reader)}
        try:
            self._process = subprocess.Popen(
                arguments, env=environment, pass_fds=(reader,), stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_us()
            )
        finally:
            os.close(reader)
        self._started = time.monotonic()
        # A pipe holds 64 KiB; more is written by a thread, so that a role which never reads cannot hold us up.
        threading.Thread(target=_hand_over, args=(writer, encode_secrets(self.command.secrets)), daemon=True).start()

    def await_ready(self, stop: threading.Event) -> Mapping[str, object] | None:
        """What the role announced; None when `stop` came first. Raises RoleFailed, or OutOfReach after READY_SECONDS."""
        deadline = time.monotonic() + READY_SECONDS
        while not stop.is_set():
            state = self._announced()
            if state is not None:
                self._was_ready = True
                self._extra = self.command.pinned(state)
                return state
            if (code := self.code) is not None:
                raise RoleFailed(self.command.name, code)
            if time.monotonic() > deadline:
                raise OutOfReach(f"the role '{self.command.name}' was not ready after {READY_SECONDS:.0f} seconds", "look at its log lines above")
            time.sleep(0.02)
        return None

    def mend(self, log: structlog.typing.FilteringBoundLogger) -> None:
        """Start the role again when it has died: soon when it had worked, with growing waits when it keeps dying before it is ready."""
        code = self.code
        if code is None:
            self._was_ready = self._was_ready or self._announced() is not None
            return
        now = time.monotonic()
        if not self._not_before:
            if now - self._started > CALM_SECONDS:
                self._wait = FIRST_WAIT
            elif self._was_ready:
                self._wait = min(self._wait, LONGEST_WAIT_ONCE_READY)
            self._not_before = now + self._wait
            log.warning("role.died", died=self.command.name, code=code, restart_in_seconds=self._wait)
            self._wait = min(self._wait * 2, LONGEST_WAIT)
        if now >= self._not_before:
            self._not_before, self._was_ready = 0.0, False
            self.start()

    def _announced(self) -> Mapping[str, object] | None:
        state = role_state(self._folder, self.command.name)
        return state if state is not None and self._process is not None and state.get("pid") == self._process.pid else None

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def ask_to_reload(self) -> None:
        """SIGHUP, once it is ready: before, it would end the process, which reads the newest settings anyway."""
        if self._process is not None and self._process.poll() is None and self._announced() is not None:
            self._process.send_signal(signal.SIGHUP)

    def end(self, deadline: float) -> None:
        """Wait until `deadline` (monotonic seconds), then SIGKILL; reaped in either case."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Supervisor:
    """All roles of one data folder."""

    def __init__(self, folder: DataFolder, commands: Sequence[RoleCommand], patience_seconds: float = 0.0) -> None:
        """`patience_seconds`: what running transfers get at the end, besides."""
        self._patience = patience_seconds
        self._roles = [Supervised(folder, command) for command in commands]
        self._log = structlog.get_logger()

    def start(self, stop: threading.Event) -> dict[str, Mapping[str, object]]:
        """Start all roles, in order, and wait until each is ready: what each announced. On failure none is left running."""
        announced: dict[str, Mapping[str, object]] = {}
        try:
            for role in self._roles:
                role.start()
                state = role.await_ready(stop)
                if state is None:
                    break
                announced[role.command.name] = state
                self._log.info("role.ready", ready=role.command.name)
        except BaseException:
            self.stop()
            raise
        return announced

    def watch(self, stop: threading.Event) -> None:
        """Restart what dies, until `stop`."""
        while not stop.wait(0.1):
            for role in self._roles:
                role.mend(self._log)

    def reload(self) -> None:
        """SIGHUP to those roles that read their settings again."""
        for role in self._roles:
            if role.command.name in RELOADING:
                role.ask_to_reload()

    def stop(self) -> None:
        """End the roles in the reverse order: nothing is taken from under one that still works."""
        deadline = time.monotonic() + STOP_SECONDS + self._patience
        for role in reversed(self._roles):
            role.ask_to_stop()
            role.end(deadline)


def _die_with_us() -> Callable[[], None]:
    parent = os.getpid()

    def prepare() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # we died before the line above
            os._exit(1)

    return prepare


def _hand_over(writer: int, data: bytes) -> None:
    with os.fdopen(writer, "wb") as pipe, contextlib.suppress(BrokenPipeError):
        pipe.write(data)
