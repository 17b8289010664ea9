"""`nightsafe status`: one screen."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from backup.overview import Line, overview, worst
from config.cli import data_option, json_option
from config.console import emit, say
from config.errors import Exit
from config.loading import open_installation

MARKS = {"green": "ok  ", "yellow": "note", "red": "BAD "}


@click.command()
@data_option
@json_option
def status(data: Path | None, as_json: bool) -> int:
    """Is everything safe? Exit code 1 when a line is red; each red line says what to do."""
    lines = overview(open_installation(data))
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

    from config.console import printable

    table = Table.grid(padding=(0, 2))
    for line in lines:
        text = Text(printable(line.text))
        if line.todo:
            text.append(f"\n{printable(line.todo)}", style="dim")
        table.add_row(Text("●" if line.colour != "red" else "✖", style=line.colour), line.name, text)
    Console(highlight=False).print(table)
