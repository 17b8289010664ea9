"""keyd and a read-only gateway on a restored data folder, as processes that end with this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from backup.processes import stop, tied_to_us
from config.errors import NightsafeError
from config.folder import DataFolder
from config.roles import role_state
from gateway.age import Identity
from gateway.keys.identities import identity_file
from gateway.keys.secrets import DESCRIPTOR, MASTER, encode_secrets

READY_SECONDS = 60.0
GRACE_SECONDS = 10.0
LAST_WORDS = 400  # characters of what a role printed before it ended
SETTINGS = """\
[gateway]
host = "127.0.0.1"
port = 0
read_only = true
reserve_bytes = 0
stop_seconds = 0
[keys]
grants_per_minute = 1000000
[log]
level = "warning"
json_lines = true
"""


class RoleDidNotStart(NightsafeError):
    """A role does not work on what came back."""


@contextmanager
def serving(folder: DataFolder, master: Identity, logs: Path, cancel: threading.Event | None) -> Iterator[int]:
    """The port on which the restored papers can be fetched. Raises RoleDidNotStart."""
    with ExitStack() as stack:
        stack.enter_context(_role(folder, "keyd", {MASTER: identity_file(master).encode()}, logs, cancel))
        state = stack.enter_context(_role(folder, "gateway", {}, logs, cancel))
        yield int(state["port"])


@contextmanager
def _role(folder: DataFolder, name: str, secrets: Mapping[str, bytes], logs: Path, cancel: threading.Event | None) -> Iterator[Mapping[str, Any]]:
    """The role, ready; what it announced. It dies with us, and its master is in a pipe alone."""
    reader, writer = os.pipe()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("NIGHTSAFE_", "CREDENTIALS_", "AWS_", "RESTIC_"))}
    log = logs / f"{name}.log"
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "nightsafe", name, "--data", str(folder.root)],
                env={**inherited, DESCRIPTOR: str(reader)},
                pass_fds=(reader,),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=tied_to_us(),
            )
    finally:
        os.close(reader)
    try:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(encode_secrets(secrets))  # less than a pipe holds
        yield _await(folder, name, process, log, cancel)
    finally:
        stop(process, signal.SIGTERM, GRACE_SECONDS)


def _await(folder: DataFolder, name: str, process: subprocess.Popen[bytes], log: Path, cancel: threading.Event | None) -> Mapping[str, Any]:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline and not (cancel and cancel.is_set()):
        state = role_state(folder, name)
        if state is not None and state.get("pid") == process.pid:
            return state
        time.sleep(0.02)
    words = " ".join(log.read_text("utf-8", "replace")[-LAST_WORDS:].split())
    raise RoleDidNotStart(f"the role '{name}' does not start on what came back" + (f": {words}" if words else ""))
