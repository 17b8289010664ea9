"""How runs and times look in the output of commands."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from config.folder import DataFolder
from gateway.catalog import Run

F = TypeVar("F", bound=Callable[..., Any])


def from_option(command: F) -> F:
    """`--from NAME`: a copy of the settings in place of the first bucket."""
    return click.option("--from", "copy", default="", metavar="NAME", help="The copy [copies.NAME] in place of the first bucket.")(command)


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
