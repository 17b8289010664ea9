"""How runs and times look in the output of commands."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from config.console import say
from config.folder import DataFolder
from gateway.catalog import Run
from gateway.completing import named

if TYPE_CHECKING:
    from backup.kit.kit import WholeKit

F = TypeVar("F", bound=Callable[..., Any])


def operator() -> str:
    """Who asks, for the audit log."""
    return f"ops:{getpass.getuser()}"


def from_option(command: F) -> F:
    """`--from NAME`: a copy of the settings in place of the first bucket."""
    return click.option(
        "--from", "copy", default="", metavar="NAME", shell_complete=named("copy"), help="The copy [copies.NAME] in place of the first bucket."
    )(command)


def read_kit(files: Sequence[BinaryIO]) -> WholeKit:
    """Both parts of the recovery kit, out of files or, where none was named, from standard input. Raises UsageError."""
    from backup.kit.kit import MAX_KIT_BYTES, parse_whole_kit

    if not files:
        if sys.stdin.isatty():
            say("Type or paste both parts of the recovery kit, then Ctrl-D:")
        files = [sys.stdin.buffer]
    return parse_whole_kit("\n".join(file.read(MAX_KIT_BYTES).decode("utf-8", errors="replace") for file in files))


def moment(value: datetime | None) -> str | None:
    """RFC 3339 with seconds, in UTC."""
    return None if value is None else value.isoformat(timespec="seconds").replace("+00:00", "Z")


def run_facts(run: Run, folder: DataFolder) -> dict[str, Any]:
    """A run as JSON values; the path of its evidence is made absolute."""
    detail = dict(run.detail)
    if detail.get("evidence"):
        detail["evidence"] = str(folder.root / detail["evidence"])
    return {
        "run": run.id,
        "kind": run.kind,
        "state": run.state,
        "started_at": moment(run.started_at),
        "ended_at": moment(run.ended_at),
        "snapshot": run.snapshot,
        "keys_snapshot": run.keys_snapshot,
        "detail": detail,
    }
