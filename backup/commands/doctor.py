"""`nightsafe doctor`: what should be mended, and how."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from backup.doctor import Finding, examine
from config.cli import data_option, json_option
from config.console import emit, say
from config.errors import Exit
from config.loading import open_installation
from config.words import counted

MARKS = {"bad": "BAD    ", "warning": "warning", "note": "note   ", "good": "ok     "}
COLOURS = {"bad": "red", "warning": "yellow", "note": "cyan", "good": "green"}


@click.command()
@click.option("--all", "everything", is_flag=True, help="Show also what was looked at and is right.")
@data_option
@json_option
def doctor(everything: bool, data: Path | None, as_json: bool) -> int:
    """Look the installation over. Each finding says how bad it is, why it matters and what mends it. Exit code 1 when something is bad.

    Asks the bucket and the gateway, changes nothing. Run it as root where the roles have users of their own.

    Example: nightsafe doctor --all
    """
    found = examine(open_installation(data))
    if as_json:
        emit([finding.as_dict() for finding in found], as_json)
    else:
        _print([finding for finding in found if everything or finding.severity != "good"])
        counts = {severity: sum(finding.severity == severity for finding in found) for severity in MARKS}
        say(f"{counts['bad']} bad, {counted(counts['warning'], 'warning')}, {counted(counts['note'], 'note')}, {counts['good']} good")
    return Exit.BAD if any(finding.severity == "bad" for finding in found) else Exit.DONE


def _print(found: Sequence[Finding]) -> None:
    for finding in found:
        mark = click.style(MARKS[finding.severity], fg=COLOURS[finding.severity]) if sys.stdout.isatty() else MARKS[finding.severity]
        say(f"{mark}  {finding.subject}: {finding.text}")
        for word, text in (("why", finding.why), ("mend", finding.mend)):
            if text:
                say(f"         {word}: {text}")
