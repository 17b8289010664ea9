"""Servers to measure, Nightsafe and its peers, each with one person who logs in by key; and the OpenSSH client that they are measured with.

CPU and memory are those of the server's own processes, as the kernel counts them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLIENT = "bench"
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024
SMALL = 20_000  # bytes of a small paper


@dataclass(frozen=True)
class Server:
    """One that runs: where, as whom, which folder takes uploads, and which processes are it."""

    name: str
    port: int
    user: str
    folder: str
    pids: Callable[[], list[int]]
    rest: Callable[[], None]
    crowd: tuple[str, ...] = ()  # others who may log in, each with a jail of its own

    def user_of(self, turn: int) -> str:
        """As whom the client of this number logs in."""
        return self.crowd[turn % len(self.crowd)] if self.crowd else self.user

    def cpu(self) -> float:
        """Seconds of CPU that it has used, ended children included."""
        return sum(_cpu(pid) for pid in self.pids())

    def memory(self) -> int:
        """Bytes of memory that are its own (proportional set size), children included."""
        return sum(_memory(pid) for root in self.pids() for pid in _family(root))


def _cpu(pid: int) -> float:
    total = 0
    for each in _family(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15])  # utime, stime, and those of children that were waited for
    return total / TICKS


def _family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            found += [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
        except OSError:
            continue
    return found


def _memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


class Bench:
    """A home on a RAM disk, a key, the papers, and the client."""

    def __init__(self, home: Path, large: int, count: int) -> None:
        self.home = home
        self.key = home / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        self.large = home / "large.bin"
        with self.large.open("wb") as file:
            for _ in range(large):
                file.write(os.urandom(MIB))
        self.many = home / "many"
        self.few = home / "few"
        for place, number in ((self.many, count), (self.few, max(1, count // 10))):
            place.mkdir()
            for i in range(number):
                (place / f"{i:05}.bin").write_bytes(os.urandom(SMALL))

    def command(self, server: Server, user: str) -> list[str]:
        """OpenSSH's client at a server, taking a batch from its standard input."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "IdentitiesOnly=yes"]
        flags = [flag for option in options for flag in ("-o", option)]
        return ["sftp", "-q", "-F", "none", "-i", str(self.key), *flags, "-P", str(server.port), "-b", "-", f"{user}@127.0.0.1"]

    def sftp(self, server: Server, *lines: str) -> None:
        """Run a batch. Raises RuntimeError with what the client said when it fails."""
        done = subprocess.run(self.command(server, server.user), input="\n".join(lines), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{server.name}: {done.stderr[-500:]}")

    def together(self, server: Server, batches: list[list[str]]) -> None:
        """One client for each batch, all at once."""
        commands = [self.command(server, server.user_of(turn)) for turn in range(len(batches))]
        runs = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for command in commands]
        for run, batch in zip(runs, batches, strict=True):
            if run.stdin is not None:
                run.stdin.write("\n".join(batch).encode())
                run.stdin.close()
        failed = [run.stderr.read()[-300:] for run in runs if run.wait() and run.stderr]
        if failed:
            raise RuntimeError(f"{server.name}: {failed[0].decode()}")


# the servers


def several_name(workers: int) -> str:
    """What a Nightsafe of so many workers is called."""
    return "Nightsafe" if workers == 1 else f"Nightsafe, {workers} workers"


@contextmanager
def nightsafe(bench: Bench, workers: int = 1, jails: int = 1) -> Iterator[Server]:
    """All roles but the scheduler's work, as `up` runs them. With more than one of `jails` so many clients, each with its own, are a crowd."""
    name = several_name(workers)
    home = bench.home / ("nightsafe" if workers == 1 else f"nightsafe-{workers}")
    home.mkdir()
    data, ready = home / "data", home / "ready.json"
    settings = {
        "KEYS__MASTER_FILE": home / "master.key",
        "S3__FOLDER": home / "offsite",
        "DRILL__SCRATCH": home / "scratch",
        "GATEWAY__RESERVE_BYTES": 0,
        "GATEWAY__MAX_CONNECTIONS": 5000,
        "GATEWAY__MAX_SESSIONS_PER_PERSON": 5000,
        "GATEWAY__WORKERS": workers,
        "BACKUP__SCHEDULE": "0 0 29 2 *",
        "DRILL__SCHEDULE": "0 0 29 2 *",
    }
    environment = {**os.environ, **{f"NIGHTSAFE_SET_{name}": str(value) for name, value in settings.items()}}
    program = [sys.executable, "-m", "nightsafe"]
    run = {"cwd": ROOT, "env": environment, "stdout": subprocess.DEVNULL}
    subprocess.run([*program, "init", "--data", str(data), "--recovery-kit", str(home / "kit")], check=True, **run)  # type: ignore[call-overload]
    crowd = tuple(f"{CLIENT}-{number}" for number in range(jails)) if jails > 1 else ()
    for client in (CLIENT, *crowd):
        subprocess.run([*program, "client", "add", client, "--public-key", f"{bench.key}.pub", "--data", str(data)], check=True, **run)  # type: ignore[call-overload]
    with (home / "log").open("wb") as log:
        up = subprocess.Popen(
            [*program, "up", "--data", str(data), "--sftp-host", "127.0.0.1", "--sftp-port", "0", "--ready-file", str(ready)],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            _wait(ready.exists, 60)
            gateway = next(pid for pid in _family(up.pid) if b"gateway" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
            port = json.loads(ready.read_text())["sftp"]["port"]

            def sealed() -> None:
                _wait(lambda: not any(os.scandir(data / "spool" / "landed")) and not any(os.scandir(data / "spool" / "partial")), 300)

            yield Server(name, port, CLIENT, "/inbox", lambda: [gateway], sealed, crowd)
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(60)


@contextmanager
def openssh(bench: Bench) -> Iterator[Server]:
    """OpenSSH's internal-sftp; nothing is encrypted at rest, nothing synced."""
    home = bench.home / "openssh"
    (home / "files").mkdir(parents=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "host")], check=True)
    shutil.copy(f"{bench.key}.pub", home / "keys")
    port = _free_port()
    (home / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {home}/host\nAuthorizedKeysFile {home}/keys\nStrictModes no\nPasswordAuthentication no\n"
        f"PidFile none\nUsePAM no\nMaxStartups 2000\nPermitRootLogin yes\nSubsystem sftp internal-sftp -d {home}/files\n"
    )
    sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin") or sys.exit("sshd is missing: scripts/setup bench")
    with _server([sshd, "-D", "-e", "-f", str(home / "config")], home / "log", port) as pid:
        yield Server("OpenSSH", port, os.environ.get("USER", "root"), str(home / "files"), lambda: [pid], _calm)


@contextmanager
def rclone(bench: Bench) -> Iterator[Server]:
    """`rclone serve sftp` on a crypt remote: encrypted at rest under one password, not synced."""
    home = bench.home / "rclone"
    (home / "files").mkdir(parents=True)
    port = _free_port()
    program = shutil.which("rclone") or sys.exit("rclone is missing: scripts/setup bench")
    secret = subprocess.run([program, "obscure", "a password of the bench"], check=True, capture_output=True, text=True).stdout.strip()
    (home / "config").write_text(f"[crypt]\ntype = crypt\nremote = {home}/files\npassword = {secret}\n")
    command = [
        program,
        "serve",
        "sftp",
        "crypt:",
        "--config",
        str(home / "config"),
        "--cache-dir",
        str(home / "cache"),
        "--addr",
        f"127.0.0.1:{port}",
    ]
    keys = ["--authorized-keys", f"{bench.key}.pub", "--vfs-cache-mode", "off"]
    with _server([*command, *keys], home / "log", port) as pid:
        yield Server("rclone", port, CLIENT, "", lambda: [pid], _calm)


@contextmanager
def _server(command: list[str], log: Path, port: int) -> Iterator[int]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            _wait(lambda: _listens(port), 20)
            yield process.pid
        finally:
            process.terminate()
            process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _calm() -> None:
    """Give the processes of sessions that have ended the time to go, and to be counted."""
    time.sleep(0.2)


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError("a server did not get ready in time")
        time.sleep(0.05)
