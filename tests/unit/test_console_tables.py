"""Tables on a terminal: no id and no time is broken, however narrow it is."""

from __future__ import annotations

import io
import re
import sys

import pytest

from config.console import table

COLUMNS = ("version", "size", "received", "why", "paper")
ID = "018f88b0c5e10123456789abcdef0123"
ROW = (1, "17 B", "2026-01-31T08:00:00Z", "what the firm asked for in a letter", ID)


class Terminal(io.StringIO):
    """What a command writes to a terminal."""

    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, width: int, *rows: tuple[object, ...]) -> list[str]:
    """The lines of a table on a terminal of `width` columns."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    for name, value in {"COLUMNS": str(width), "TERM": "xterm", "NO_COLOR": "1", "LINES": "25"}.items():
        monkeypatch.setenv(name, value)
    table("Versions", COLUMNS, rows)
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()


@pytest.mark.parametrize("width", [48, 80, 100, 132, 200])
def test_words_stay_whole_at_any_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = shown(monkeypatch, width, ROW, ROW)
    assert lines[0].strip() == "Versions"
    for whole in (ID, "2026-01-31T08:00:00Z"):
        assert sum(whole in line for line in lines) == 2
    assert max(map(len, lines)) <= width


def test_without_rows_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, 80) == []


def test_a_wide_terminal_has_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("┃ version ┃" in line for line in shown(monkeypatch, 132, ROW))


def test_a_narrow_terminal_has_labelled_values(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 60, (2, "", *ROW[2:]))
    assert lines[1:] == ["version: 2  received: 2026-01-31T08:00:00Z", "  why: what the firm asked for in a letter", f"  paper: {ID}"]
