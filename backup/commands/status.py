"""`nightsafe status`: one screen."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from backup.status.line import Line, worst
from backup.status.overview import overview
from config.cli import data_option, json_option
from config.console import emit, say
from config.errors import Exit
from config.loading import Installation, open_installation

MARKS = {"green": "ok  ", "yellow": "note", "red": "BAD "}


@click.command()
@click.option(
    "--watch",
    type=click.FloatRange(0.5, 3600),
    is_flag=False,
    flag_value=2.0,
    metavar="SECONDS",
    help="Show it again every SECONDS (2, where none are named), until Ctrl-C.",
)
@data_option
@json_option
def status(watch: float | None, data: Path | None, as_json: bool) -> int:
    """Is everything safe? Exit code 1 when a line is red; each red line says what to do.

    Example: nightsafe status --watch 5
    """
    installation = open_installation(data)
    if watch is None:
        return _show(installation, as_json)
    while True:
        if sys.stdout.isatty() and not as_json:
            click.clear()
            say(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}  {installation.folder.root}")
        code = _show(installation, as_json)
        sys.stdout.flush()
        try:
            time.sleep(watch)
        except KeyboardInterrupt:
            return code


def _show(installation: Installation, as_json: bool) -> int:
    lines = overview(installation)
    if as_json:
        emit({"colour": worst(lines), "lines": [line.as_dict() for line in lines]}, as_json)
    else:
        print_lines(lines)
    return Exit.BAD if worst(lines) == "red" else Exit.DONE


def print_lines(lines: Sequence[Line]) -> None:
    """In colours on a terminal, with plain marks elsewhere."""
    if not sys.stdout.isatty():
        for line in lines:
            say(f"{MARKS[line.colour]}  {line.name:<14} {line.text}" + (f"  -> {line.todo}" if line.todo else ""))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from config.printable import printable

    table = Table.grid(padding=(0, 2))
    for line in lines:
        text = Text(printable(line.text))
        if line.todo:
            text.append(f"\n{printable(line.todo)}", style="dim")
        table.add_row(Text("●" if line.colour != "red" else "✖", style=line.colour), line.name, text)
    Console(highlight=False).print(table)
