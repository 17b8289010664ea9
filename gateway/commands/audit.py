"""`nightsafe audit verify | show`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import click

from config.cli import Moment, data_option, json_option
from config.console import emit, say, table
from config.errors import CheckFailed, UsageError
from config.loading import open_installation
from gateway.audit.events import Event
from gateway.audit.read import read
from gateway.audit.verify import verify as verify_chain
from gateway.keys.keyring import CHECKPOINT_SIGNING, Keyring

SHOWN_APART = {"seq", "time", "role", "event", "prev", "person", "client", "path"}


@click.group()
def audit() -> None:
    """The audit log: a chain of hashes that nobody can edit unnoticed."""


@audit.command()
@data_option
@json_option
def verify(data: Path | None, as_json: bool) -> None:
    """Check every segment of the log; exit code 1 when something was edited, removed or reordered."""
    folder = open_installation(data).folder
    report = verify_chain(folder.audit, [Keyring(folder).public_half(CHECKPOINT_SIGNING)])
    if as_json:
        emit({"segments": report.segments, "lines": report.lines, "problems": report.problems, "torn": report.torn}, as_json)
    else:
        say(f"{report.lines} lines in {report.segments} segments")
        for torn in report.torn:
            say(f"torn by a crash (nothing was lost that had been confirmed): {torn}")
    if report.problems:
        raise CheckFailed(
            "the audit log does not hold:\n" + "\n".join(f"  {line}" for line in report.problems), "compare with the copies in the backups"
        )
    if not as_json:
        say("the chain holds")


@audit.command()
@click.option("--client", metavar="NAME", help="Only events of this client.")
@click.option("--person", metavar="NAME", help="Only events of this person.")
@click.option("--event", metavar="NAME", help="Only events of this name, for example paper.sealed.")
@click.option("--since", type=Moment(), metavar="TIME", help="Only events since then: 2026-01-31 or 2026-01-31T08:00.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The newest so many.")
@data_option
@json_option
def show(client: str | None, person: str | None, event: str | None, since: datetime | None, limit: int, data: Path | None, as_json: bool) -> None:
    """Events in the order of time, the newest last."""
    folder = open_installation(data).folder
    if event is not None and event not in set(Event):
        raise UsageError(f"there is no event '{event}'", "the events are: " + ", ".join(sorted(Event)))
    found = list(read(folder.audit, client=client, person=person, event=event, since=since, limit=limit))
    if as_json:
        emit(found, as_json)
        return
    rows = []
    for line in found:
        rest = {key: value for key, value in line.items() if key not in SHOWN_APART and value is not None}
        about = " ".join(str(line[key]) for key in ("person", "client", "path") if line.get(key))
        rows.append((line["time"], line["role"], line["event"], about, json.dumps(rest, ensure_ascii=False) if rest else ""))
    table("Audit", ("time", "role", "event", "who, what", "more"), rows)
