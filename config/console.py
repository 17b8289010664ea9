"""How commands talk to people and to programs: tables and progress on a terminal, plain lines elsewhere, JSON where asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from config.errors import NightsafeError
from config.printable import json_line, printable


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
    """A table on a terminal; tab-separated lines without a heading elsewhere."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            sys.stdout.write("\t".join(row) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, title_justify="left")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in cells:
        drawn.add_row(*row)
    Console(markup=False, highlight=False).print(drawn)


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
