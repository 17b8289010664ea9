"""The watch over every process of an installation: memory, descriptors, threads, by role, as time goes by. The verdicts are pure."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

MIB = 1 << 20
FLOOR = 4 * MIB  # growth that is not told from noise: a thread's arena, a cache that fills
SHARE = 0.10  # of what a process has, that it may grow besides
# SeaweedFS keeps an index of all that it was given, its memory is collected late, and its connections end late: flat over an hour, not over minutes
FOREIGN = {"s3/weed": 0.3}
THREADS = "threads"
SPARE_DESCRIPTORS = 4  # of each kind
SPARE_THREADS = 32  # the pools make threads when they are needed: the gateway's may hold 30. One that is lost with each session is far more
SLICES = 8  # of the time, in each of which a process's memory is told: growth for ever, or a step


@dataclass(frozen=True)
class Sample:
    """One process at one moment: seconds (monotonic), bytes that are its own, open descriptors, threads."""

    at: float
    role: str
    pid: int
    memory: int
    descriptors: int
    threads: int


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line through `points` by least squares; 0 where there is none."""
    if len(points) < 2:
        return 0.0
    at, value = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = sum((x - at) ** 2 for x, _ in points)
    return sum((x - at) * (y - value) for x, y in points) / spread if spread else 0.0


@dataclass(frozen=True)
class Growth:
    """How one process's memory went: bytes at its middle, bytes an hour by the fitted line, seconds that it was watched, and what it may grow."""

    role: str
    pid: int
    usual: int
    per_hour: float
    seconds: float
    allowed: float  # bytes over these seconds
    halves: tuple[float, float]  # bytes along the line of each half of the time
    course: tuple[int, ...] = ()  # its middle in each slice of the time

    @property
    def grown(self) -> float:
        """Bytes, along the line."""
        return self.per_hour * self.seconds / 3600

    @property
    def is_flat(self) -> bool:
        """Whether it grew no more than it may, or in one half of the time alone: a step, such as a larger drill, is no leak, which goes on."""
        return self.grown <= self.allowed or min(self.halves) <= self.allowed / 2

    def __str__(self) -> str:
        went = f"{self.grown / MIB:+.1f} in {self.seconds:.0f} s ({self.per_hour / MIB:+.1f} MiB/h)"
        course = " ".join(f"{middle / MIB:.0f}" for middle in self.course)
        return f"{self.role} ({self.pid}): {self.usual / MIB:.1f} MiB, {went}: {course}"


def growths(samples: Iterable[Sample], since: float, until: float) -> list[Growth]:
    """Of every process that lived through four fifths of the time from `since` to `until`."""
    by_process: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        if since <= sample.at <= until:
            by_process[sample.role, sample.pid].append(sample)
    found = []
    for (role, pid), one in sorted(by_process.items()):
        seconds = one[-1].at - one[0].at
        if seconds >= 0.8 * (until - since):
            usual = median(sample.memory for sample in one)
            allowed, halves = FLOOR + FOREIGN.get(role, SHARE) * usual, (_grown(one[: len(one) // 2]), _grown(one[len(one) // 2 :]))
            found.append(Growth(role, pid, int(usual), _grown(one) / max(seconds, 1) * 3600, seconds, allowed, halves, _course(one)))
    return found


def _grown(samples: Sequence[Sample]) -> float:
    """Bytes along the fitted line."""
    return slope([(sample.at, sample.memory) for sample in samples]) * (samples[-1].at - samples[0].at) if samples else 0.0


def _course(samples: Sequence[Sample]) -> tuple[int, ...]:
    slices = [samples[len(samples) * place // SLICES : len(samples) * (place + 1) // SLICES] for place in range(SLICES)]
    return tuple(int(median(sample.memory for sample in one)) for one in slices if one)


def leaks(before: Mapping[str, Counter[str]], after: Mapping[str, Counter[str]]) -> list[str]:
    """What a role holds more of than `before`, by kind, and more than is to spare."""
    return [
        f"{role}: {kind}: {before[role][kind]} became {count}"
        for role in sorted(before.keys() - FOREIGN)
        for kind, count in sorted(after.get(role, Counter()).items())
        if count > before[role][kind] + (SPARE_THREADS if kind == THREADS else SPARE_DESCRIPTORS)
    ]


def least(one: Mapping[str, Counter[str]], other: Mapping[str, Counter[str]]) -> dict[str, Counter[str]]:
    """What a role holds in both: a job that runs just then holds pipes of its own, what has leaked stays."""
    return {role: one[role] & other[role] for role in one.keys() & other.keys()}


class Watch:
    """Samples every process below `root` (a pid) each `seconds`, in a thread."""

    def __init__(self, root: int, seconds: float) -> None:
        self._root = root
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="watch", daemon=True)
        self.samples: list[Sample] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._stop.wait(self._seconds):
            self.samples.extend(now(self._root))

    def held(self, seconds: float) -> dict[str, Counter[str]]:
        """What each role held at every moment of so long: descriptors by what they lead to, and threads."""
        until, found = time.monotonic() + seconds, holdings(self._root)
        while time.monotonic() < until:
            time.sleep(0.2)
            found = least(found, holdings(self._root))
        return found

    def leaked(self, before: Mapping[str, Counter[str]], seconds: float) -> list[str]:
        """What more is held than `before`, and still after `seconds`: the scheduler is seldom without a job."""
        until, found = time.monotonic() + seconds, holdings(self._root)
        while (more := leaks(before, found)) and time.monotonic() < until:
            time.sleep(0.2)
            found = least(found, holdings(self._root))
        return more


def now(root: int) -> list[Sample]:
    """Every process below `root` at this moment."""
    found = []
    for role, pid in roles_below(root):
        with suppress(OSError, ValueError):
            place = Path(f"/proc/{pid}")
            found.append(Sample(time.monotonic(), role, pid, own_memory(pid), len(os.listdir(place / "fd")), len(os.listdir(place / "task"))))
    return found


def own_memory(pid: int) -> int:
    """Bytes of what it has written: its own pages, and its part of those that it shares with its children. Not those of programs and libraries: its
    part of them grows whenever any other program on the machine that uses them ends. Raises OSError."""
    told = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith(("Pss_Anon:", "Pss_Shmem:"))]
    if not told:
        raise OSError("no Pss_Anon")
    return sum(int(words[1]) for words in told) * 1024


def holdings(root: int) -> dict[str, Counter[str]]:
    """By role: open descriptors by kind, and threads."""
    found = {}
    for role, pid in roles_below(root):
        with suppress(OSError):
            found[role] = open_files(pid) + Counter({THREADS: len(os.listdir(f"/proc/{pid}/task"))})
    return found


def open_files(pid: int) -> Counter[str]:
    """Open descriptors by kind: sockets, pipes, and files by the folder of the installation that they are in."""
    found: Counter[str] = Counter()
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found[kind_of(str(entry.readlink()))] += 1
    return found


def kind_of(target: str) -> str:
    """`socket`, `pipe`, `jails`, `spool`, `catalog.sqlite3` …"""
    if not target.startswith("/"):
        return target.partition(":")[0]
    parts = Path(target.removesuffix(" (deleted)")).parts
    return parts[parts.index("data") + 1] if "data" in parts[:-1] else Path(target).name.removesuffix(" (deleted)")


def roles_below(root: int) -> list[tuple[str, int]]:
    """`root` and all its descendants by name: a role's first process by the role, what it started by role/program."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError, IndexError, ValueError):
                children[int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])].append(int(entry))
    found = [("up", root)]
    for child in children[root]:
        name = role_of(child)
        found.append((name, child))
        waiting = list(children[child])
        while waiting:
            pid = waiting.pop()
            waiting.extend(children[pid])
            with suppress(OSError):
                found.append((f"{name}/{Path(f'/proc/{pid}/comm').read_text().strip()}", pid))
    return found


def role_of(pid: int) -> str:
    """The word behind `-m nightsafe`."""
    with suppress(OSError, ValueError, IndexError):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        return words[words.index("nightsafe") + 1]
    return "gone"
