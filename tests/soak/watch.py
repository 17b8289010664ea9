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
SPARE_DESCRIPTORS = 4
SPARE_THREADS = 4


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

    @property
    def grown(self) -> float:
        """Bytes, along the line."""
        return self.per_hour * self.seconds / 3600

    @property
    def is_flat(self) -> bool:
        """Whether it grew no more than it may."""
        return self.grown <= self.allowed

    def __str__(self) -> str:
        went = f"{self.grown / MIB:+.1f} in {self.seconds:.0f} s ({self.per_hour / MIB:+.1f} MiB/h)"
        return f"{self.role} ({self.pid}): {self.usual / MIB:.1f} MiB, {went}"


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
            per_hour = slope([(sample.at, sample.memory) for sample in one]) * 3600
            found.append(Growth(role, pid, int(usual), per_hour, seconds, FLOOR + SHARE * usual))
    return found


def leaks(before: Mapping[str, Counter[str]], after: Mapping[str, Counter[str]], spare: int) -> list[str]:
    """What a role holds more of than `before`, by kind, and more than is to `spare`."""
    return [
        f"{role}: {kind}: {before[role][kind]} became {count}"
        for role in sorted(before)
        for kind, count in sorted(after.get(role, Counter()).items())
        if count > before[role][kind] + spare
    ]


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

    def descriptors(self) -> dict[str, Counter[str]]:
        """By role, and by what they lead to."""
        return {role: open_files(pid) for role, pid in roles_below(self._root)}

    def threads(self) -> dict[str, Counter[str]]:
        """By role."""
        return {role: Counter({"threads": len(os.listdir(f"/proc/{pid}/task"))}) for role, pid in roles_below(self._root)}


def now(root: int) -> list[Sample]:
    """Every process below `root` at this moment."""
    found = []
    for role, pid in roles_below(root):
        with suppress(OSError, ValueError):
            place = Path(f"/proc/{pid}")
            found.append(Sample(time.monotonic(), role, pid, own_memory(pid), len(os.listdir(place / "fd")), len(os.listdir(place / "task"))))
    return found


def own_memory(pid: int) -> int:
    """PSS in bytes: its own pages, and its part of those that it shares. Raises OSError."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError("no Pss")


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
