"""The gateway beside OpenSSH (plain) and rclone (encrypted), on one RAM disk, with the same OpenSSH client.

The servers take turns, round after round; the table shows medians, and their ratios to the peers'. CPU is that of the server's processes alone,
as the kernel counts it. Nightsafe runs as `nightsafe up` does (sealing, audit, fsync); a RAM disk makes fsync cheap, which `--folder` shows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benches.frame import RAM, Page, Table, folder

ROOT = Path(__file__).parents[2]
CLIENT = "bench"
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024
SMALL = 20_000  # bytes of a small paper
DISK = Path("/var/tmp")  # noqa: S108 - as RAM


@dataclass(frozen=True)
class Server:
    """One that runs: where, as whom, which folder takes uploads, and which processes are it."""

    name: str
    port: int
    user: str
    folder: str
    pids: Callable[[], list[int]]
    rest: Callable[[], None]

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

    def command(self, server: Server) -> list[str]:
        """OpenSSH's client at a server, taking a batch from its standard input."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "IdentitiesOnly=yes"]
        flags = [flag for option in options for flag in ("-o", option)]
        return ["sftp", "-q", "-F", "none", "-i", str(self.key), *flags, "-P", str(server.port), "-b", "-", f"{server.user}@127.0.0.1"]

    def sftp(self, server: Server, *lines: str) -> None:
        """Run a batch. Raises RuntimeError with what the client said when it fails."""
        done = subprocess.run(self.command(server), input="\n".join(lines), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{server.name}: {done.stderr[-500:]}")

    def together(self, server: Server, batches: list[list[str]]) -> None:
        """One client for each batch, all at once."""
        runs = [subprocess.Popen(self.command(server), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in batches]
        for run, batch in zip(runs, batches, strict=True):
            if run.stdin is not None:
                run.stdin.write("\n".join(batch).encode())
                run.stdin.close()
        failed = [run.stderr.read()[-300:] for run in runs if run.wait() and run.stderr]
        if failed:
            raise RuntimeError(f"{server.name}: {failed[0].decode()}")


# the servers


@contextmanager
def nightsafe(bench: Bench, workers: int = 1) -> Iterator[Server]:
    """All roles but the scheduler's work, as `up` runs them."""
    name = "Nightsafe" if workers == 1 else f"Nightsafe, {workers} workers"
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
    subprocess.run([*program, "client", "add", CLIENT, "--public-key", f"{bench.key}.pub", "--data", str(data)], check=True, **run)  # type: ignore[call-overload]
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

            yield Server(name, port, CLIENT, "/inbox", lambda: [gateway], sealed)
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
        yield Server("OpenSSH", port, os.environ.get("USER", "root"), str(home / "files"), lambda: [pid], lambda: None)


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
        yield Server("rclone", port, CLIENT, "", lambda: [pid], lambda: None)


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
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError("a server did not get ready in time")
        time.sleep(0.05)


# what is measured: each gives seconds of wall clock and of the server's CPU


def measured(server: Server, work: Callable[[], None]) -> tuple[float, float]:
    """(seconds, the server's CPU seconds) of `work`; what the server does afterwards (sealing) is waited for and not counted."""
    server.rest()
    cpu, began = server.cpu(), time.monotonic()
    work()
    seconds = time.monotonic() - began
    used = server.cpu() - cpu
    server.rest()
    return seconds, used


def upload(bench: Bench, server: Server, turn: int) -> tuple[float, float]:
    """The large paper, under a new name."""
    return measured(server, lambda: bench.sftp(server, f"put {bench.large} {server.folder}/large-{turn}.bin"))


def download(bench: Bench, server: Server, turn: int) -> tuple[float, float]:
    """The large paper of the same turn, back; then it is removed, to keep the RAM disk small."""
    back = bench.home / "back.bin"
    result = measured(server, lambda: bench.sftp(server, f"get {server.folder}/large-{turn}.bin {back}"))
    if back.stat().st_size != bench.large.stat().st_size:
        raise RuntimeError(f"{server.name} gave back another size")
    back.unlink()
    bench.sftp(server, f"rm {server.folder}/large-{turn}.bin")
    return result


def small(bench: Bench, server: Server, turn: int) -> tuple[float, float]:
    """Many small papers in one session."""
    return measured(server, lambda: bench.sftp(server, f"mkdir {server.folder}/m{turn}", f"put {bench.many}/* {server.folder}/m{turn}/"))


def crowd(bench: Bench, server: Server, turn: int) -> tuple[float, float]:
    """Eight clients at once, a tenth of the small papers each."""
    batches = [[f"mkdir {server.folder}/c{turn}-{i}", f"put {bench.few}/* {server.folder}/c{turn}-{i}/"] for i in range(8)]
    return measured(server, lambda: bench.together(server, batches))


def logins(bench: Bench, server: Server, _turn: int) -> tuple[float, float]:
    """Forty logins by public key, four at a time."""

    def work() -> None:
        for _ in range(10):
            bench.together(server, [["pwd"]] * 4)

    return measured(server, work)


async def _idle(bench: Bench, server: Server, number: int) -> float:
    import asyncssh

    async with asyncio.timeout(600):
        before = server.memory()
        opened = []
        for _ in range(0, number, 20):
            options = {"username": server.user, "client_keys": [str(bench.key)], "known_hosts": None, "config": None}
            made = await asyncio.gather(*(asyncssh.connect("127.0.0.1", server.port, **options) for _ in range(20)))  # type: ignore[arg-type]
            opened += made
            await asyncio.gather(*(connection.start_sftp_client() for connection in made))
        memory = server.memory() - before
        for connection in opened:
            connection.abort()
    return memory / number


# the table


@dataclass(frozen=True)
class Work:
    """One line of work: what it is, how much of which unit a run does, and the goals of the ratios of its rate and of the server's CPU
    (to OpenSSH, to rclone; None: no goal)."""

    name: str
    measure: Callable[[Bench, Server, int], tuple[float, float]]
    unit: str
    rate_goals: tuple[float, float]
    cpu_goals: tuple[float | None, float | None]


WORKS = (
    Work("upload", upload, "MiB/s", (1.2, 2.0), (0.8, 0.35)),
    Work("download", download, "MiB/s", (1.15, 1.5), (None, None)),
    Work("small papers, one session", small, "papers/s", (1.0, 1.7), (None, None)),
    Work("small papers, 8 clients", crowd, "papers/s", (1.5, 1.1), (None, None)),
    Work("logins by key", logins, "logins/s", (3.0, 0.7), (0.4, None)),
)
LOGINS = 40
MEMORY_GOALS = (0.05, 1.0)
PEERS = ("OpenSSH", "rclone")
Maker = Callable[[Bench], AbstractContextManager[Server]]
MAKERS: dict[str, Maker] = {"Nightsafe": nightsafe, "OpenSSH": openssh, "rclone": rclone}
COLUMNS = ("", *MAKERS, "to OpenSSH", "goal", "to rclone", "goal", "reached")
Goals = tuple[float | None, float | None]

INTRO = (
    "Each server in turn, round after round, by the same OpenSSH client; shown are medians. The client runs on the same processors as the "
    "servers, and is a part of every time. Nightsafe runs whole: it seals every block, syncs file, name and both folders before each CLOSE is "
    "answered, writes two lines of its audit log for each paper, and ingests at the same time (hash, age, catalog, receipt). OpenSSH keeps "
    "files as they come; rclone encrypts under one password; neither syncs. CPU is that of the server's processes as the kernel counts it, "
    "without what ingest does."
)
TO_PEERS = (
    "On a RAM disk, where a sync costs nothing: what is compared is the work of the servers. A small paper has 20 kB and takes three requests, "
    "each sent when the one before was answered, so one session never keeps two processors busy.\n\n"
    "Where the processor time of a small paper goes, in the gateway: between a third and a half is sending and receiving its six packets, most "
    "of it in the kernel, which delivers to the client within the send. The rest, by py-spy: OPEN 41 % (half of that is the spool file with its "
    "key, header and locks), WRITE 5 %, CLOSE 37 % (half of that is sealing the block and the footer), landing 16 %; within these, the two "
    "audit lines are 14 %. It is 65 system calls, no thread and no SQL: Python between system calls that take a microsecond or two, spread so "
    "evenly that hardly a function has more than 3 %. What is left to gain lies in another language for the way from the packet to the spool "
    "file, not in one place.\n\n"
    "With eight clients the gateway's one event loop is the limit. `--workers` does not help them here, because they are one client, which is "
    "at home with one worker ([why](../adr/0018-a-client-is-at-home-with-one-worker.md))."
)
ON_DISK = (
    "The same on a disk, where each CLOSE of Nightsafe's waits for four syncs, while the peers leave it to the kernel when to write. It shows "
    "what it costs to promise something. Threads wait for the disk, which costs processor time, too ([why](../adr/0022-small-papers-are-closed-"
    "in-place.md))."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this bench knows."""
    parser.add_argument("--mib", type=int, default=512, metavar="N", help="size of the large paper (512)")
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="small papers in one session (2,000)")
    parser.add_argument("--idle", type=int, default=1000, metavar="N", help="idle sessions (1,000); 0 leaves them out")
    parser.add_argument("--folder", type=Path, default=RAM, help="where the servers keep their files (the RAM disk)")
    parser.add_argument("--disk", type=Path, default=DISK, help="a folder on a disk, for the second table; an empty word leaves it out")
    parser.add_argument("--only", default="", metavar="WORD", help="the lines of work whose name holds this word")
    parser.add_argument("--servers", default=",".join(MAKERS), help="which of them")


def run(arguments: argparse.Namespace) -> Page:
    """All tables."""
    works = [work for work in WORKS if arguments.only in work.name]
    makers = {name: MAKERS[name] for name in arguments.servers.split(",")}
    tables = [_to_peers(arguments, works, makers)]
    if str(arguments.disk) != ".":
        tables.append(_on_disk(arguments, [work for work in works if work.measure in (upload, small, crowd)], makers))
    return Page("gateway", INTRO, tables)


def _to_peers(arguments: argparse.Namespace, works: list[Work], makers: dict[str, Maker]) -> Table:
    table = Table("To the peers, as ratios", COLUMNS, note=TO_PEERS)
    with folder(arguments.folder) as home, ExitStack() as stack:
        bench = Bench(home, arguments.mib, arguments.count)
        servers = [stack.enter_context(make(bench)) for make in makers.values()]
        found = _rounds(bench, servers, works, arguments.rounds)
        memory = _memories(bench, servers, arguments.idle) if arguments.idle else {}
        _add_works(table, works, found, arguments, goals=True)
        if memory:
            _add(table, f"memory per session, {arguments.idle} idle", memory, "KiB", MEMORY_GOALS, at_least=False)
        crowds = [work for work in works if work.measure is crowd]
        if crowds and "Nightsafe" in makers:
            several = stack.enter_context(nightsafe(bench, workers=2))
            for work in crowds:
                wall = statistics.median(wall for wall, _ in _rounds(bench, [several], crowds, arguments.rounds)[work.name, several.name])
                table.add(f"{work.name}: `--workers 2`", f"{_amount(work, arguments) / wall:.4g} {work.unit}")
    return table


def _on_disk(arguments: argparse.Namespace, works: list[Work], makers: dict[str, Maker]) -> Table:
    table = Table("On a disk, where CLOSE waits for it", COLUMNS, note=ON_DISK)
    with folder(arguments.disk) as home, ExitStack() as stack:
        bench = Bench(home, arguments.mib, arguments.count)
        servers = [stack.enter_context(make(bench)) for make in makers.values()]
        _add_works(table, works, _rounds(bench, servers, works, min(3, arguments.rounds)), arguments, goals=False)
    return table


def _add_works(
    table: Table, works: list[Work], found: dict[tuple[str, str], list[tuple[float, float]]], arguments: argparse.Namespace, *, goals: bool
) -> None:
    none: Goals = (None, None)
    for work in works:
        medians = {name: [statistics.median(each) for each in zip(*taken, strict=True)] for (of, name), taken in found.items() if of == work.name}
        rates = {name: _amount(work, arguments) / wall for name, (wall, _) in medians.items()}
        _add(table, work.name, rates, work.unit, work.rate_goals if goals else none, at_least=True)
        cpus = {name: cpu for name, (_, cpu) in medians.items()}
        _add(table, f"{work.name}: server CPU", cpus, "s", work.cpu_goals if goals else none, at_least=False)


def _amount(work: Work, arguments: argparse.Namespace) -> int:
    """What one run of `work` does, in its unit without the seconds."""
    if work.measure is logins:
        return LOGINS
    if work.measure in (small, crowd):
        return int(arguments.count) if work.measure is small else 8 * max(1, arguments.count // 10)
    return int(arguments.mib)


def _rounds(bench: Bench, servers: list[Server], works: list[Work], count: int) -> dict[tuple[str, str], list[tuple[float, float]]]:
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for turn in range(count):
        for work in works:
            first = turn % len(servers)
            for server in servers[first:] + servers[:first]:
                found.setdefault((work.name, server.name), []).append(work.measure(bench, server, turn))
    return found


def _memories(bench: Bench, servers: list[Server], number: int) -> dict[str, float]:
    return {server.name: asyncio.run(_idle(bench, server, number)) / 1024 for server in servers}


def _add(table: Table, title: str, values: dict[str, float], unit: str, goals: Goals, *, at_least: bool) -> None:
    cells, reached = [], []
    for peer, goal in zip(PEERS, goals, strict=True):
        ratio = values["Nightsafe"] / values[peer] if values.get(peer) and "Nightsafe" in values else None
        cells += ["" if ratio is None else f"{ratio:.2f}", "" if goal is None else f"{'≥' if at_least else '≤'} {goal}"]
        if ratio is not None and goal is not None:
            reached.append(ratio >= goal if at_least else ratio <= goal)
    shown = [f"{values[name]:.4g} {unit}" if name in values else "" for name in MAKERS]
    table.add(title, *shown, *cells, reached=all(reached) if reached else None)
