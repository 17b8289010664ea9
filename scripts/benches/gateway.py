"""The gateway beside OpenSSH (plain) and rclone (encrypted), on one RAM disk, with the same OpenSSH client.

The servers take turns, round after round; the tables show medians, and their ratios to the peers'. CPU is that of the server's processes alone,
as the kernel counts it. Nightsafe runs as `nightsafe up` does (sealing, audit, fsync); a RAM disk makes fsync cheap, so there is a second table on
a disk. What follows: where the time of a small paper goes, and how long a bystander waits while somebody attacks.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benches import turns
from benches.frame import RAM, Page, Table, folder
from benches.idle import memories
from benches.servers import Bench, Server, nightsafe, openssh, rclone, several_name
from benches.whither import whither

ROUNDS = 5
CLIENTS = 8
LOGINS, AT_ONCE = 24, 4
WORKERS = 2  # of the second Nightsafe
DISK = Path("/var/tmp")  # noqa: S108 - a folder of its own is made there
Measured = tuple[float, float]  # seconds on the clock, and of the server's processors


def measured(server: Server, work: Callable[[], None]) -> Measured:
    """What `work` takes. The clock stops when the client is done; what the server's own processes do afterwards (landing) is counted as CPU."""
    server.rest()
    cpu, began = server.cpu(), time.monotonic()
    work()
    seconds = time.monotonic() - began
    server.rest()
    return seconds, server.cpu() - cpu


def upload(bench: Bench, server: Server, turn: int) -> Measured:
    """The large paper, under a new name."""
    return measured(server, lambda: bench.sftp(server, f"put {bench.large} {server.folder}/large-{turn}.bin"))


def download(bench: Bench, server: Server, turn: int) -> Measured:
    """The large paper of the same turn, back; then it is removed, to keep the RAM disk small."""
    back = bench.home / "back.bin"
    result = measured(server, lambda: bench.sftp(server, f"get {server.folder}/large-{turn}.bin {back}"))
    if back.stat().st_size != bench.large.stat().st_size:
        raise RuntimeError(f"{server.name} gave back another size")
    back.unlink()
    bench.sftp(server, f"rm {server.folder}/large-{turn}.bin")
    return result


def small(bench: Bench, server: Server, turn: int) -> Measured:
    """Many small papers in one session."""
    return measured(server, lambda: bench.sftp(server, f"mkdir {server.folder}/m{turn}", f"put {bench.many}/* {server.folder}/m{turn}/"))


def crowd(bench: Bench, server: Server, turn: int) -> Measured:
    """Eight clients at once, a tenth of the small papers each."""
    batches = [[f"mkdir {server.folder}/c{turn}-{i}", f"put {bench.few}/* {server.folder}/c{turn}-{i}/"] for i in range(CLIENTS)]
    return measured(server, lambda: bench.together(server, batches))


def logins(bench: Bench, server: Server, _turn: int) -> Measured:
    """Logins by public key, four at a time."""

    def work() -> None:
        for _ in range(LOGINS // AT_ONCE):
            bench.together(server, [["pwd"]] * AT_ONCE)

    return measured(server, work)


@dataclass(frozen=True)
class Work:
    """One line of work: what it is, how much of which unit a run does (of papers of `mib` MiB, or `count` small ones), and the goals of the ratios
    of its rate and of the server's CPU (to OpenSSH, to rclone; None: no goal)."""

    name: str
    measure: Callable[[Bench, Server, int], Measured]
    unit: str
    amount: Callable[[Size], int]
    rate_goals: Goals
    cpu_goals: Goals = (None, None)


@dataclass(frozen=True)
class Size:
    """Of what is uploaded."""

    mib: int
    count: int


Goals = tuple[float | None, float | None]
Found = dict[tuple[str, str], list[Measured]]  # by work and server
Maker = Callable[[Bench], AbstractContextManager[Server]]


def _of_crowd(size: Size) -> int:
    return CLIENTS * max(1, size.count // 10)


WORKS = (
    Work("upload", upload, "MiB/s", lambda size: size.mib, (1.2, 2.0), (0.8, 0.35)),
    Work("download", download, "MiB/s", lambda size: size.mib, (1.15, 1.5)),
    Work("small papers, one session", small, "papers/s", lambda size: size.count, (1.0, 1.7)),
    Work(f"small papers, {CLIENTS} clients", crowd, "papers/s", _of_crowd, (1.5, 1.1)),
    Work("logins by key", logins, "logins/s", lambda _: LOGINS, (3.0, 0.7), (0.4, None)),
)
MEMORY_GOALS = (0.05, 1.0)
PEERS = ("OpenSSH", "rclone")
MAKERS: dict[str, Maker] = {"Nightsafe": nightsafe, "OpenSSH": openssh, "rclone": rclone}
COLUMNS = ("", *MAKERS, "to OpenSSH", "goal", "to rclone", "goal", "reached")

INTRO = (
    "Each server in turn, round after round, by the same OpenSSH client; shown are medians. The client runs on the same processors as the "
    "servers, and is a part of every time. Nightsafe runs whole: it seals every block, syncs file, name and both folders before each CLOSE is "
    "answered, writes two lines of its audit log for each paper, and ingests at the same time (hash, age, catalog, receipt), at a lower priority. "
    "OpenSSH keeps files as they come; rclone encrypts under one password; neither syncs. CPU is that of the server's processes as the kernel "
    "counts it, without what ingest does."
)
TO_PEERS = (
    "On a RAM disk, where a sync costs nothing: what is compared is the work of the servers. A small paper has 20 kB and takes three requests, "
    "each sent when the one before was answered, so one session never keeps two processors busy. Memory is that of all processes of a server "
    "(proportional set size), measured on servers that had just been started, with one login before: what {idle} sessions that have logged in and "
    "opened SFTP add, by session; and all that the server has then.\n\n"
    "Eight clients of one jail are at home with one worker ([why](../adr/0018-a-client-is-at-home-with-one-worker.md)). With `--workers 2` eight "
    "clients with a jail each are at home with either; a connection that comes to the other one has its SSH done there, and its requests passed on."
)
ON_DISK = (
    "The same on a disk, with papers of {mib} MiB and {count} small ones. Each CLOSE of Nightsafe's waits for four syncs, while the peers leave it "
    "to the kernel when to write. It shows what it costs to promise something. Threads wait for the disk, which costs processor time, too "
    "([why, and why syncs are not gathered](../adr/0022-small-papers-are-closed-in-place.md))."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this bench knows."""
    parser.add_argument("--mib", type=int, default=512, metavar="N", help="size of the large paper (512)")
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="small papers in one session (2,000)")
    parser.add_argument("--idle", type=int, default=1000, metavar="N", help="idle sessions (1,000); 0 leaves them out")
    parser.add_argument("--folder", type=Path, default=RAM, help="where the servers keep their files (the RAM disk)")
    parser.add_argument("--disk", type=Path, default=DISK, help="a folder on a disk, for the second table; an empty word leaves it out")
    parser.add_argument("--only", default="", metavar="WORD", help="the lines of work whose name holds this word, and no other tables")
    parser.add_argument("--servers", default=",".join(MAKERS), help="which of them")


def run(arguments: argparse.Namespace) -> Page:
    """All tables."""
    works = [work for work in WORKS if arguments.only in work.name]
    makers = {name: MAKERS[name] for name in arguments.servers.split(",")}
    tables = [_to_peers(arguments, works, makers)]
    if str(arguments.disk) != ".":
        tables.append(_on_disk(arguments, [work for work in works if work.measure in (upload, small, crowd)], makers))
    if not arguments.only:
        tables.append(_whither(arguments))
        tables.append(turns.floods(min(3, arguments.rounds)))
    return Page("gateway", INTRO, tables)


def _to_peers(arguments: argparse.Namespace, works: list[Work], makers: dict[str, Maker]) -> Table:
    table = Table("To the peers, as ratios", COLUMNS, note=TO_PEERS.format(idle=f"{arguments.idle:,}"))
    size = Size(arguments.mib, arguments.count)
    with folder(arguments.folder) as home, ExitStack() as stack:
        bench = Bench(home, size.mib, size.count)
        servers = [stack.enter_context(make(bench)) for make in makers.values()]
        several = stack.enter_context(nightsafe(bench, WORKERS, CLIENTS)) if crowd in [work.measure for work in works] else None
        _add_works(table, works, _rounds(bench, servers, works, arguments.rounds, several), size, goals=True)
    if arguments.idle and not arguments.only:
        _say(f"{arguments.idle} idle sessions")
        with folder(arguments.folder) as home:
            bench = Bench(home, 0, 0)
            added, whole = memories(bench, makers, arguments.idle)
        _add(table, f"memory per session, {arguments.idle:,} idle", added, "KiB", MEMORY_GOALS, at_least=False)
        _add(table, f"memory with {arguments.idle:,} idle sessions", whole, "MiB", (None, None), at_least=False)
    return table


def _whither(arguments: argparse.Namespace) -> Table:
    with folder(arguments.folder) as home:
        bench = Bench(home, 0, arguments.count)
        with nightsafe(bench) as server:
            small(bench, server, 0)  # what is only done at first is done
            _say("where the time goes")
            return whither(bench, server, partial(small, bench, server, 1), arguments.count)


def _on_disk(arguments: argparse.Namespace, works: list[Work], makers: dict[str, Maker]) -> Table:
    """Smaller papers suffice for rates, and fewer rounds: waiting for a disk takes long."""
    size = Size(max(1, arguments.mib // 2), max(1, arguments.count // 4))
    table = Table("On a disk, where CLOSE waits for it", COLUMNS, note=ON_DISK.format(mib=size.mib, count=size.count))
    with folder(arguments.disk) as home, ExitStack() as stack:
        bench = Bench(home, size.mib, size.count)
        servers = [stack.enter_context(make(bench)) for make in makers.values()]
        _add_works(table, works, _rounds(bench, servers, works, min(3, arguments.rounds)), size, goals=False)
    return table


def _add_works(table: Table, works: list[Work], found: Found, size: Size, *, goals: bool) -> None:
    none: Goals = (None, None)
    for work in works:
        medians = {server: _median(taken) for (of, server), taken in found.items() if of == work.name}
        rates = {name: work.amount(size) / wall for name, (wall, _) in medians.items()}
        cpus = {name: cpu / work.amount(size) * 1000 for name, (_, cpu) in medians.items()}
        one = f"ms/{work.unit.removesuffix('/s').removesuffix('s')}"
        for ours, title in (("Nightsafe", work.name), (several_name(WORKERS), f"{work.name}, a jail each, `--workers {WORKERS}`")):
            if ours in rates or ours == "Nightsafe":
                _add(table, title, _as_nightsafe(rates, ours), work.unit, work.rate_goals if goals else none, at_least=True)
                _add(table, f"{title}: server CPU", _as_nightsafe(cpus, ours), one, work.cpu_goals if goals else none, at_least=False)


def _as_nightsafe(values: dict[str, float], ours: str) -> dict[str, float]:
    """The values of the peers, and those of the server `ours` in the place of Nightsafe's."""
    shown = {name: value for name, value in values.items() if name in PEERS}
    return {**shown, "Nightsafe": values[ours]} if ours in values else shown


def _median(taken: list[Measured]) -> Measured:
    return statistics.median(wall for wall, _ in taken), statistics.median(cpu for _, cpu in taken)


def _rounds(bench: Bench, servers: list[Server], works: list[Work], count: int, several: Server | None = None) -> Found:
    """`several`: one more server for the crowd alone."""
    found: Found = {}
    for turn in range(count):
        for work in works:
            _say(f"round {turn + 1} of {count}: {work.name}")
            here = [*servers, several] if several and work.measure is crowd else servers
            first = turn % len(here)
            for server in here[first:] + here[:first]:
                found.setdefault((work.name, server.name), []).append(work.measure(bench, server, turn))
    return found


def _add(table: Table, title: str, values: dict[str, float], unit: str, goals: Goals, *, at_least: bool) -> None:
    cells, reached = [], []
    for peer, goal in zip(PEERS, goals, strict=True):
        ratio = values["Nightsafe"] / values[peer] if values.get(peer) and "Nightsafe" in values else None
        cells += ["" if ratio is None else f"{ratio:.2f}", "" if goal is None else f"{'≥' if at_least else '≤'} {goal}"]
        if ratio is not None and goal is not None:
            reached.append(ratio >= goal if at_least else ratio <= goal)
    shown = [f"{values[name]:.4g} {unit}" if name in values else "" for name in MAKERS]
    table.add(title, *shown, *cells, reached=all(reached) if reached else None)


def _say(what: str) -> None:
    """How far it is, for whoever waits."""
    print(time.strftime("%H:%M:%S"), what, file=sys.stderr, flush=True)
