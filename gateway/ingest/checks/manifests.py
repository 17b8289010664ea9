"""What a client's manifest says: lines of `sha256sum`, and how they compare with what arrived. Pure; bounded, whatever the client wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gateway.jail.paths import path_of
from gateway.jail.refused import Refused

MOST_BYTES = 2 * 1024 * 1024  # of a manifest; a longer one is not compared
MOST_LINES = 10_000
TOLD = 100  # lines that a receipt names, of each kind
TOLD_BYTES = 16 * 1024
SUFFIX = ".sha256"
NAMES = frozenset({"sha256sums", "sha256sums.txt", "sha256sum.txt"})
LINE = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)", re.DOTALL)
BARE = re.compile(r"[0-9a-fA-F]{64}")  # all that some programs write into a.pdf.sha256
ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}

State = Literal["matches", "differs", "missing"]
STATES: tuple[State, ...] = ("matches", "differs", "missing")


@dataclass(frozen=True)
class Line:
    """A paper that the client says it sent: its path in the jail, and its hash (lowercase hex)."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What could be read. `unread` counts lines that are none of `sha256sum`'s, or lead out of the jail; `fault` says why nothing is compared."""

    lines: tuple[Line, ...] = ()
    unread: int = 0
    fault: str = ""


def is_manifest(path: str) -> bool:
    """By its name."""
    name = path.rpartition("/")[2].lower()
    return name in NAMES or name.endswith(SUFFIX)


def parse(path: str, content: bytes) -> Manifest:
    """The lines of the manifest that lies at `path`; names in it are relative to its folder. The last line about a name counts."""
    if len(content) > MOST_BYTES:
        return Manifest(fault=f"it is longer than {MOST_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Manifest(fault="it is not text in UTF-8")
    found: dict[str, Line] = {}
    unread = 0
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) == 1 and BARE.fullmatch(lines[0].strip()) and path.lower().endswith(SUFFIX):
        lines = [f"{lines[0].strip()}  {path.rpartition('/')[2][: -len(SUFFIX)]}"]
    if len(lines) > MOST_LINES:
        return Manifest(fault=f"it has more than {MOST_LINES} lines")
    for text_line in lines:
        line = _line(path.rpartition("/")[0], text_line.rstrip("\r"))
        if line is None:
            unread += 1
        else:
            found[line.path] = line
    return Manifest(tuple(found.values()), unread)


def compare(sha256: str, arrived: str | None) -> State:
    """`arrived` is the hash of the newest paper of that name; None when there is none."""
    return "missing" if arrived is None else "matches" if arrived == sha256 else "differs"


def report(states: Sequence[tuple[str, str]], unread: int, fault: str) -> dict[str, Any]:
    """What a receipt says of a manifest, as JSON values of a bounded size: counts of all, names of some."""
    facts: dict[str, Any] = {state: sum(1 for _, one in states if one == state) for state in STATES}
    facts |= {"unread": unread, "fault": fault}
    left = TOLD_BYTES
    for state in ("differs", "missing", "matches"):
        told: list[str] = []
        for path in sorted(path for path, one in states if one == state)[:TOLD]:
            left -= 2 * len(path.encode()) + 8
            if left < 0:
                break
            told.append(path)
        facts[f"{state}_names"] = told
    return facts


def _line(folder: str, text: str) -> Line | None:
    match = LINE.fullmatch(text)
    if match is None:
        return None
    name = re.sub(r"\\[\\nr]", lambda escape: ESCAPES[escape[0]], match[3]) if match[1] else match[3]
    name = name.removeprefix("./")
    try:
        path = str(path_of(name if name.startswith("/") else f"{folder}/{name}"))
    except Refused:
        return None
    return Line(path, match[2].lower()) if path.startswith("/inbox/") else None
