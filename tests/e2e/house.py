"""A whole Nightsafe for the end-to-end tests: a data folder, one client with a key, all roles running, real clients at the door."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko

from config.folder import DataFolder
from config.loading import open_installation
from config.roles import role_state
from gateway.catalog import Catalog
from tests.integration.ready_repositories import prepare
from tests.ports import quiet_port

ROOT = Path(__file__).parents[2]
CLIENT = "acme"


class House:
    """One installation below `home`. The data folder may be somewhere else (a mounted image)."""

    def __init__(self, home: Path, data: Path | None = None) -> None:
        self.home = home
        self.data = data or home / "data"
        self.kit = home / "kit.txt"
        self.key = home / "id_ed25519"
        self.ready_file = home / "ready.json"
        self.log = home / "up.log"
        self.environment = {
            **os.environ,
            "NIGHTSAFE_SET_KEYS__MASTER_FILE": str(home / "master.key"),
            "NIGHTSAFE_SET_S3__FOLDER": str(home / "offsite"),
            "NIGHTSAFE_SET_DRILL__SCRATCH": str(home / "scratch"),
            "NIGHTSAFE_SET_GATEWAY__RESERVE_BYTES": "0",
            # The tests start backups and drills themselves: none by the clock in between.
            "NIGHTSAFE_SET_BACKUP__SCHEDULE": "0 0 29 2 *",
            "NIGHTSAFE_SET_DRILL__SCHEDULE": "0 0 29 2 *",
            "NIGHTSAFE_SET_CHECK__SCHEDULE": "0 0 29 2 *",
            "NIGHTSAFE_SET_FORGET__SCHEDULE": "0 0 29 2 *",
            "NIGHTSAFE_SET_DRILL__FULL_SCHEDULE": "",
            "NIGHTSAFE_SET_DRILL__SELF_TEST": "false",
            "NIGHTSAFE_DEBUG": "",
        }
        self._up: subprocess.Popen[bytes] | None = None
        self.sftp_port = 0

    # the command line

    def run(self, *arguments: str, input: bytes | None = None, timeout: float = 300) -> subprocess.CompletedProcess[bytes]:
        """`nightsafe …` as a person would run it; never raises for its exit code."""
        command = [sys.executable, "-m", "nightsafe", *arguments, "--data", str(self.data)]
        return subprocess.run(command, input=input, capture_output=True, env=self.environment, cwd=ROOT, timeout=timeout, check=False)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The JSON that a command printed; its exit code must be `code`."""
        done = self.run(*arguments, "--json")
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}"
        return json.loads(done.stdout)

    # life

    def init(self) -> None:
        """The data folder, and the client with its key."""
        self.json("init", "--recovery-kit", str(self.kit))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        self.json("client", "add", CLIENT, "--public-key", f"{self.key}.pub")

    def start(self) -> None:
        """All roles; returns once logins work."""
        self.ready_file.unlink(missing_ok=True)
        self.sftp_port = self.sftp_port or quiet_port()  # kept over restarts
        command = [sys.executable, "-m", "nightsafe", "up", "--data", str(self.data), "--sftp-host", "127.0.0.1", "--sftp-port", str(self.sftp_port)]
        with self.log.open("ab") as log:
            self._up = subprocess.Popen(
                [*command, "--ready-file", str(self.ready_file)], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment, cwd=ROOT
            )
        try:
            self.wait(self.ready_file.exists, 480, "up is not ready")
        except BaseException:
            self.stop_hard()
            raise
        self.sftp_port = json.loads(self.ready_file.read_text())["sftp"]["port"]

    def prepare(self) -> None:
        """Repositories that cost nothing to open, where tests do not ask how they are made. After `start`."""
        prepare(open_installation(self.data, self.environment))

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self._up is not None:
            self._up.send_signal(signal.SIGTERM)
            assert self._up.wait(240) == 0, self.tail()
            self._up = None

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Until `condition` holds; fails with the log's tail when it does not in time, or when `up` has ended."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._up is None or self._up.poll() is None, f"'up' has ended: {self.tail()}"
            assert time.monotonic() < deadline, f"{what}: {self.tail()}"
            time.sleep(0.05)

    def tail(self) -> str:
        """The last lines of what the roles printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:]) if self.log.exists() else ""

    @property
    def up_pid(self) -> int:
        """The process of `nightsafe up`."""
        assert self._up is not None
        return self._up.pid

    def pid(self, role: str) -> int | None:
        """The process of a role that is ready; None while it is not."""
        state = role_state(DataFolder(self.data), role)
        return None if state is None else int(state["pid"])

    def kill(self, role: str) -> None:
        """SIGKILL, if it runs."""
        pid = self.pid(role)
        if pid is not None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def stop_hard(self) -> None:
        """SIGKILL of everything, as a power cut."""
        if self._up is not None:
            pids = [self.pid(role) for role in ("gateway", "keyd", "ingest", "ingest-2", "scheduler", "s3")]
            self._up.kill()
            self._up.wait()
            self._up = None
            for pid in filter(None, pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def freeze(self, role: str) -> None:
        """SIGSTOP: the role does nothing more, and is not started again."""
        pid = self.pid(role)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)

    # clients

    def ssh_options(self) -> list[str]:
        """Options of OpenSSH's clients; the host key is pinned."""
        hosts = self.home / "known_hosts"
        if not hosts.exists():
            public = (self.data / "keys" / "host" / "ssh_host_ed25519_key.pub").read_text()
            hosts.write_text(f"* {public}")
        return [
            "-i",
            str(self.key),
            "-F",
            "none",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            f"UserKnownHostsFile={hosts}",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "ConnectTimeout=20",
        ]

    def sftp(self, *lines: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Lines of a batch in OpenSSH's sftp."""
        command = ["sftp", "-q", "-b", "-", *self.ssh_options(), "-P", str(self.sftp_port), f"{CLIENT}@127.0.0.1"]
        done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=240, check=False)
        if check:
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.tail()}"
        return done

    @contextmanager
    def paramiko(self) -> Iterator[paramiko.SFTPClient]:
        """A session of paramiko's SFTP client."""
        transport = paramiko.Transport(("127.0.0.1", self.sftp_port))
        try:
            transport.connect(username=CLIENT, pkey=paramiko.Ed25519Key.from_private_key_file(str(self.key)))
            client = paramiko.SFTPClient.from_transport(transport)
            assert client is not None
            yield client
        finally:
            transport.close()

    def await_papers(self, count: int, seconds: float = 480) -> None:
        """Until so many papers are accepted and receipted, and the spool is empty."""

        catalog = Catalog.open(self.data / "catalog.sqlite3")

        def there() -> bool:
            sealed, _ = catalog.count_papers(CLIENT, "accepted")
            return sealed >= count and not catalog.unreceipted() and not os.listdir(self.data / "spool" / "landed")

        self.wait(there, seconds, f"not {count} papers")
        catalog.close()


@contextmanager
def running_house(home: Path, data: Path | None = None, settings: Mapping[str, str] | None = None) -> Iterator[House]:
    """A house that is up, with `settings` such as INGEST__BATCH; down at the end."""
    house = House(home, data)
    house.environment |= {f"NIGHTSAFE_SET_{name}": value for name, value in (settings or {}).items()}
    house.init()
    try:
        house.start()
        yield house
    finally:
        house.stop()
