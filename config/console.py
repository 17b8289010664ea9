"""How commands talk to people and to programs: tables and progress on a terminal, plain lines elsewhere, JSON where asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from config.errors import NightsafeError
from config.printable import json_line, printable

if TYPE_CHECKING:
    from rich.text import Text


def human_bytes(count: int) -> str:
    """`count` bytes for people: 1536 → '1.5 KiB'."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def emit(result: Any, as_json: bool) -> None:
    """Print `result` (JSON values) as one JSON document when `as_json`, else leave it to the caller's own lines."""
    if as_json:
        sys.stdout.write(json_line(result, str, indent=2) + "\n")


def say(line: str = "") -> None:
    """One plain line on standard output."""
    sys.stdout.write(printable(line) + "\n")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on a terminal, or labelled values where that is too narrow for whole words; tab-separated lines without a heading elsewhere."""
    if not sys.stdout.isatty():
        for row in rows:
            tabbed(row)
        return
    cells = [_printable(row) for row in rows]
    if not cells:  # the command says in words that there is nothing
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    widths = _widths(columns, cells, console.width - 3 * len(columns) - 1)
    if widths is None:
        console.print(title, style="italic")
        for row in cells:
            console.print(_labelled(columns, row, console.width), soft_wrap=True)
        return
    drawn = Table(title=title, title_justify="left")
    for column, width in zip(columns, widths, strict=True):
        drawn.add_column(column, width=width)
    for row in cells:
        drawn.add_row(*row)
    console.print(drawn)


def tabbed(row: Sequence[object]) -> None:
    """One line with a tab between its cells; one in a cell is escaped."""
    sys.stdout.write("\t".join(_printable(row)) + "\n")


def _printable(row: Sequence[object]) -> list[str]:
    return [printable(str(cell)) for cell in row]


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """How wide each column is when no word is broken, since ids and times are there to be copied; None when there is not enough room."""
    from rich.cells import cell_len

    texts = [[name, *(row[number] for row in cells)] for number, name in enumerate(columns)]
    widths = [max(cell_len(word) for text in column for word in text.split() or [""]) for column in texts]
    wanted = [max(cell_len(text) for text in column) for column in texts]
    spare = room - sum(widths)
    if spare < 0:
        return None
    while spare and (short := [number for number, width in enumerate(widths) if width < wanted[number]]):
        widths[min(short, key=widths.__getitem__)] += 1
        spare -= 1
    return widths


def _labelled(columns: Sequence[str], row: Sequence[str], width: int) -> Text:
    """One row as `name: value` pairs, as many in a line as go in whole; empty cells are left out."""
    from rich.cells import cell_len
    from rich.text import Text

    shown, used = Text(), 0
    for name, value in zip(columns, row, strict=True):
        if not value:
            continue
        needs = cell_len(f"{name}: {value}")
        if used and used + 2 + needs > width:
            shown.append("\n")
            used = 0
        lead = "" if not shown else "  "
        shown.append(f"{lead}{name}: ", style="dim").append(value)
        used += len(lead) + needs
    return shown


def facts(values: Mapping[str, object]) -> None:
    """`name: value` lines, aligned."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        say(f"{name:<{width}}  {value}")


def complain(error: NightsafeError) -> None:
    """An error on standard error: what is wrong, then what to do."""
    first, *more = error.message.split("\n")
    lines = [f"nightsafe: {first}", *more, *(f"  {line}" for line in error.hint.split("\n") if line)]
    sys.stderr.write("".join(f"{printable(line)}\n" for line in lines))


def end_output() -> OSError | None:
    """Flush standard output at the end of a program. When that fails, what is left is dropped and the reason given back: the interpreter would
    complain about it in its own words, and change the exit code."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


class Progress(Protocol):
    """What long work reports to."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units (bytes or papers) are finished."""


class Silent:
    """Progress that nobody watches."""

    def update(self, done: int, total: int, note: str = "") -> None:  # noqa: ARG002 - the shape of Progress
        return


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """A progress bar on standard error when that is a terminal; silence elsewhere."""
    if not sys.stderr.isatty():
        yield Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),  # a name that a client chose, it may be
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(label, total=None, note="")

        class _Drawn:
            def update(self, done: int, total: int, note: str = "") -> None:
                bar.update(task, completed=done, total=total, note=printable(note))

        yield _Drawn()
