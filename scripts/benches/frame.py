"""What all benches share: rounds, medians, a folder on the RAM disk, the machine in a line, and the page with the tables."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ALLOWED = sorted(os.sched_getaffinity(0))  # the cores that this run may use
RAM = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there


@dataclass
class Table:
    """`goal` of a row is the least (or, with `most`, the greatest) that its `value` may be; rows without a goal are for comparison."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    note: str = ""
    missed: bool = False

    def add(self, *cells: str, reached: bool | None = None) -> None:
        """One row; with `reached` its last cell says whether the goal was."""
        if reached is not None:
            cells = (*cells, "yes" if reached else "**no**")
            self.missed |= not reached
        self.rows.append(cells + ("",) * (len(self.columns) - len(cells)))

    def text(self) -> str:
        """Markdown."""
        lines = [f"## {self.title}", "", *([self.note, ""] if self.note else [])]
        return "\n".join([*lines, _line(self.columns), _line(("---",) * len(self.columns)), *map(_line, self.rows)])


@dataclass(frozen=True)
class Page:
    """What a bench found."""

    name: str
    intro: str
    tables: list[Table]

    @property
    def reached(self) -> bool:
        """Whether every goal was reached."""
        return not any(table.missed for table in self.tables)

    def text(self) -> str:
        """Markdown."""
        head = f"<!-- Written by scripts/bench {self.name} --write. -->\n\n# Speed: {self.name}\n\n{self.intro}\n\n{machine()}"
        return "\n\n".join([head, *(table.text() for table in self.tables)]) + "\n"

    def write(self, path: Path) -> None:
        """Put it into the docs."""
        path.write_text(self.text(), encoding="utf-8")


def machine() -> str:
    """Where this was measured."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    return f"Measured on {model}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}."


@contextmanager
def folder(where: Path = RAM) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="nightsafe-bench-", dir=where))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def filesystem(path: Path) -> str:
    """The type of the file system that holds `path`."""
    told = subprocess.run(["stat", "--file-system", "--format=%T", path], check=True, capture_output=True, text=True)
    return told.stdout.strip().removesuffix("/ext3").replace("ext2", "ext4")


def pin(cores: int) -> None:
    """Use so many cores from now on, this process and those it starts."""
    os.sched_setaffinity(0, ALLOWED[-cores:])


@dataclass(frozen=True)
class Taken:
    """Seconds: on the clock, and of the processors (children included)."""

    wall: float
    cpu: float


def take(work: Callable[[], object]) -> Taken:
    """What `work` takes once."""
    wall, cpu = time.perf_counter(), _cpu()
    work()
    return Taken(time.perf_counter() - wall, _cpu() - cpu)


def rounds(count: int, works: Mapping[str, Callable[[], object]]) -> dict[str, Taken]:
    """Medians of `count` rounds, in each of which every work has its turn: what disturbs the machine disturbs them alike."""
    found: dict[str, list[Taken]] = {name: [] for name in works}
    for _ in range(count):
        for name, work in works.items():
            found[name].append(take(work))
    return {name: Taken(statistics.median(one.wall for one in each), statistics.median(one.cpu for one in each)) for name, each in found.items()}


def run_quietly(*command: str) -> None:
    """Run a program to its end, its output thrown away. Raises CalledProcessError."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _cpu() -> float:
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
