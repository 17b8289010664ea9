"""What clamd's own settings say about what it does with our papers: its limits, and whether its temporary folder is on a disk.

clamd writes each stream to its TemporaryDirectory before it looks at it. A disk there would hold papers in plaintext.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

IN_MEMORY = frozenset({"tmpfs", "ramfs"})
TELLS = frozenset({"StreamMaxLength"})  # clamd itself says that a stream is longer; of what is inside of one it does not
UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}
LIMITS = {"StreamMaxLength": 100 * 1024**2, "MaxFileSize": 100 * 1024**2, "MaxScanSize": 400 * 1024**2}  # clamd's defaults, 1.4

ESCAPED = re.compile(rb"\\([0-3][0-7]{2})")  # how the kernel writes a blank in the name of a mount

UNCHECKED = "clamd's temporary folder was not checked: it must be in memory"


def config_faults(path: Path | None, largest_bytes: int, mounts: str | None = None, *, elsewhere: bool = False) -> tuple[list[str], list[str]]:
    """(what forbids to use this clamd, what a person should know). `mounts` is the text of /proc/self/mountinfo, read when it is None.

    `elsewhere`: clamd is on another machine, or in another container, whose mounts cannot be seen from here.
    """
    there = [f"{UNCHECKED}. It is elsewhere; look there, as with: docker compose exec clamd df /tmp"] if elsewhere else []
    if path is None:
        return [], there or [f"{UNCHECKED} (name its settings in scan.clamd_config)"]
    try:
        values = parse(path.read_text("utf-8", "replace"))
    except OSError as error:
        return [f"clamd's settings {path} cannot be read: {error.strerror}"], []
    folder = values.get("TemporaryDirectory", "/tmp")  # noqa: S108 - clamd's default
    kind = filesystem_of(folder, mounts if mounts is not None else os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))
    faults: list[str] = []
    notes = list(there)
    if not elsewhere and kind not in IN_MEMORY:
        faults.append(
            f"clamd's temporary folder {folder} is on {kind or 'an unknown file system'}: papers would lie there in the clear; mount a tmpfs"
        )
    if values.get("LeaveTemporaryFiles", "no").lower() in ("yes", "true", "1"):
        faults.append("clamd keeps its temporary files: set 'LeaveTemporaryFiles no'")
    for name, default in LIMITS.items():
        limit = size_of(values.get(name, ""), default)
        if 0 < limit < largest_bytes:
            (notes if name in TELLS else faults).append(f"clamd's {name} is {limit} bytes, less than scan.largest_bytes: make that as small")
    return faults, notes


def parse(text: str) -> dict[str, str]:
    """The last value of each name."""
    lines = (line.split(None, 1) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return {words[0]: words[1].strip() for words in lines if len(words) == 2}


def size_of(text: str, default: int) -> int:
    """`25M` → bytes."""
    number, unit = (text[:-1], text[-1:].upper()) if text[-1:].upper() in UNITS else (text, "")
    return int(number) * UNITS.get(unit, 1) if number.isdigit() else default


def filesystem_of(folder: str, mounts: str) -> str:
    """The type of the file system that holds `folder`, by a mountinfo; empty when it cannot be told."""
    best, kind = "", ""
    real = str(Path(folder).resolve())
    for line in mounts.split("\n"):
        left, dash, right = line.partition(" - ")
        fields = left.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = os.fsdecode(ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), os.fsencode(fields[4])))
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind
