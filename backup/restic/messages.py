"""What restic says, as values.

With `--json` restic prints one JSON object a line, with text lines between them; 0.14 prints text only for `init`, `check` and `restore`.
Kinds that are not known here, and text, become values of their own: a newer restic is never an error. Format: restic's documentation,
"Scripting", and the output of 0.14.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

MAX_LINE_BYTES = 64 * 1024 * 1024  # `snapshots --json` is one line


@dataclass(frozen=True)
class Status:
    """How far it is. Totals grow while restic still scans."""

    files_done: int
    total_files: int
    bytes_done: int
    total_bytes: int


@dataclass(frozen=True)
class Fault:
    """One thing that could not be read; the snapshot lacks it."""

    item: str
    during: str
    message: str


@dataclass(frozen=True)
class Summary:
    """The end of a backup. `snapshot` has 8 characters before restic 0.15, 64 later; bytes are before compression."""

    snapshot: str
    files: int
    total_bytes: int
    added_bytes: int
    files_new: int
    files_changed: int


@dataclass(frozen=True)
class Restored:
    """The end of a restore (0.15 and newer)."""

    files: int
    total_bytes: int


@dataclass(frozen=True)
class Failure:
    """Why restic ends (0.17 and newer)."""

    code: int
    message: str


@dataclass(frozen=True)
class Text:
    """A line that is no message."""

    line: str


@dataclass(frozen=True)
class Unknown:
    """A message of a kind that is not known here, or one that lacks what its kind has."""

    kind: str


Message = Status | Fault | Summary | Restored | Failure | Text | Unknown


@dataclass(frozen=True)
class Snapshot:
    """A snapshot as the repository lists it. `id` has 64 hexadecimal characters, `time` is aware."""

    id: str
    time: datetime
    host: str
    tags: tuple[str, ...]
    paths: tuple[str, ...]
    parent: str | None = None

    @property
    def short(self) -> str:
        return self.id[:8]

    def was_there(self, at: datetime) -> bool:
        """Whether it was made at that moment or before. A moment of whole seconds is that whole second: people name the one that they are shown."""
        return (self.time if at.microsecond else self.time.replace(microsecond=0)) <= at

    def tag(self, name: str) -> str | None:
        """The value of the tag `name:value`, or None."""
        return next((tag[len(name) + 1 :] for tag in self.tags if tag.startswith(name + ":")), None)


@dataclass(frozen=True)
class BackupResult:
    """A finished `restic backup`: `partial` when something could not be read (exit code 3) that was not excused; `faults`, bounded, say what."""

    summary: Summary
    partial: bool
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class RestoreResult:
    """A finished `restic restore`: what it complained of, bounded."""

    faults: tuple[Fault, ...]


def parse_line(line: bytes) -> Message:
    """One line of output. Never raises."""
    if not line.lstrip().startswith(b"{"):
        return Text(line.decode("utf-8", "replace").rstrip())
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return Text(line.decode("utf-8", "replace").rstrip())
    kind = str(values.get("message_type", "")) if isinstance(values, dict) else ""
    try:
        return _message(kind, values)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Unknown(kind)


def _message(kind: str, values: Mapping[str, Any]) -> Message:
    if kind == "status":
        return Status(
            int(values.get("files_done", values.get("files_restored", 0))),
            int(values.get("total_files", 0)),
            int(values.get("bytes_done", values.get("bytes_restored", 0))),
            int(values.get("total_bytes", 0)),
        )
    if kind == "summary" and "snapshot_id" in values:
        return Summary(
            snapshot_id(values["snapshot_id"]),
            int(values["total_files_processed"]),
            int(values["total_bytes_processed"]),
            int(values["data_added"]),
            int(values.get("files_new", 0)),
            int(values.get("files_changed", 0)),
        )
    if kind == "summary" and "files_restored" in values:
        return Restored(int(values["files_restored"]), int(values.get("total_bytes", 0)))
    if kind == "error":
        error = values.get("error")
        known = (error.get("message") or error.get("Err")) if isinstance(error, dict) else values.get("message")  # of no file: 0.18 and newer
        text = known or json.dumps(error)  # 0.14 prints Go's error value: an object, often empty, or a bare number
        return Fault(str(values.get("item", "")), str(values.get("during", "")), str(text)[:2000])
    if kind == "exit_error":
        return Failure(int(values["code"]), str(values.get("message", ""))[:2000])
    return Unknown(kind)


def snapshot_id(value: object) -> str:
    """A snapshot's id, 8 to 64 hexadecimal characters. Raises ValueError."""
    text = str(value)
    if not re.fullmatch(r"[0-9a-f]{8,64}", text):
        raise ValueError("not a snapshot id")
    return text


def parse_snapshots(output: bytes) -> list[Snapshot]:
    """`restic snapshots --json`, oldest first. Raises ValueError when it is something else."""
    values = json.loads(_last_document(output))
    if values is None:
        return []
    if not isinstance(values, list):
        raise ValueError("not a list of snapshots")  # noqa: TRY004 - the one error of this function
    return sorted((_snapshot(value) for value in values), key=lambda snapshot: snapshot.time)


def parse_file_node(line: bytes) -> str | None:
    """The path in a line of `restic ls --json`; None for what is no file."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or values.get("type") in (None, "dir"):
        return None
    path = values.get("path")
    return path if isinstance(path, str) else None


def _snapshot(value: Any) -> Snapshot:
    try:
        return Snapshot(
            snapshot_id(value["id"]),
            parse_time(value["time"]),
            str(value.get("hostname", "")),
            tuple(str(tag) for tag in value.get("tags") or ()),
            tuple(str(path) for path in value.get("paths") or ()),
            value.get("parent"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not a snapshot") from error


def parse_time(text: str) -> datetime:
    """RFC 3339 with any number of decimals (restic has nine), as UTC."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", text)
    if not match:
        raise ValueError("not a time")
    base, fraction, zone = match.groups()
    return datetime.fromisoformat(f"{base}.{(fraction or '0')[:6].ljust(6, '0')}{'+00:00' if zone == 'Z' else zone}").astimezone(UTC)


def parse_config(output: bytes) -> str:
    """The repository's id from `restic cat config`. Raises ValueError."""
    values = json.loads(output)
    identity = values.get("id") if isinstance(values, dict) else None
    if not isinstance(identity, str) or not re.fullmatch(r"[0-9a-f]{64}", identity):
        raise ValueError("not a repository's config")
    return identity


def parse_version(output: bytes) -> tuple[int, int, int]:
    """(0, 14, 0) from `restic version`, which 0.14 prints as text. Raises ValueError."""
    match = re.search(rb"\brestic (\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", output)
    if not match:
        raise ValueError("not restic's version line")
    return int(match[1]), int(match[2]), int(match[3] or 0)


def parse_fault_line(line: str) -> Fault | None:
    """The text lines by which 0.14 says on standard error that it passed over something."""
    if match := re.match(r"ignoring error for (?P<item>.*): (?P<message>.*)", line):
        return Fault(match["item"], "restore", match["message"][:2000])
    if match := re.match(r"error: (?P<message>.*)", line):
        return Fault("", "backup", match["message"][:2000])
    return None


def _last_document(output: bytes) -> bytes:
    lines = [line for line in output.splitlines() if line.lstrip().startswith((b"[", b"null"))]
    if not lines:
        raise ValueError("no list in restic's output")
    return lines[-1]
