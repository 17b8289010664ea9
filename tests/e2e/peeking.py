"""What root can see of a running process: its memory, its open files, its arguments and environment."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

PIECE = 8 * 1024 * 1024
MAX_FILE = 4 * 1024 * 1024  # of an open file that is searched; keys are small


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int(re.sub(r".*\) ", "", (entry / "stat").read_text(), flags=re.DOTALL).split()[1])
            except (OSError, ValueError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def in_memory(pid: int, needles: Iterable[bytes]) -> set[bytes]:
    """Which of `needles` the memory of a process holds, in any mapping that can be read."""
    wanted = set(needles)
    overlap = max(map(len, wanted))
    found: set[bytes] = set()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps.read().splitlines():
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            if line.split()[1][0] == "r" and "[v" not in line:
                found |= _in_mapping(memory, start, end, wanted - found, overlap)
    return found


def in_open_files(pid: int, needles: Iterable[bytes]) -> tuple[set[bytes], list[str]]:
    """Which of `needles` stand in files that a process has open, and the names of those files."""
    wanted, found, names = set(needles), set(), []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.append(str(link.readlink()))
            facts = os.stat(link)
            if stat.S_ISREG(facts.st_mode) and facts.st_size <= MAX_FILE:
                data = link.read_bytes()
                found |= {needle for needle in wanted if needle in data}
        except OSError:
            continue  # closed meanwhile
    return found, names


def on_show(pid: int) -> bytes:
    """Arguments and environment, as `ps` shows them."""
    return Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()


def core_limit(pid: int) -> str:
    """The line of the limit on core dumps."""
    return next(line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max core file size"))


def _in_mapping(memory: object, start: int, end: int, wanted: set[bytes], overlap: int) -> set[bytes]:
    found: set[bytes] = set()
    position = start
    while position < end and wanted - found:
        try:
            memory.seek(position)  # type: ignore[attr-defined]
            data = memory.read(min(PIECE, end - position))  # type: ignore[attr-defined]
        except (OSError, ValueError):
            return found  # such as a mapping that went away
        if not data:
            return found
        found |= {needle for needle in wanted if needle in data}
        position += len(data) if position + len(data) >= end else max(1, len(data) - overlap)
    return found
