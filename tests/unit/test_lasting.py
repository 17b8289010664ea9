"""Lines of the log that a fault would write without end: bounded. And lines that would steer a terminal: shown, not obeyed."""

from __future__ import annotations

import io
import json
import sys

import pytest
import structlog
from structlog.testing import capture_logs

from config.console import progress
from config.errors import UsageError
from config.lasting import LastingFault
from config.logging import AT_ONCE, Calm
from config.printable import json_line, printable


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_fault_that_lasts_is_told_when_it_begins_once_a_minute_and_when_it_is_over() -> None:
    clock = Clock()
    fault = LastingFault("limits.not_read", clock)
    with capture_logs() as lines:
        fault.over()
        for _ in range(4 * 150):  # four times a second, for two and a half minutes
            fault.met(UsageError("unreadable"), client="acme")
            clock.now += 0.25
        fault.over()
        fault.over()
    assert [(line["event"], line.get("times_more", 0)) for line in lines] == [
        ("limits.not_read", 0),
        ("limits.not_read", 239),
        ("limits.not_read", 239),
        ("fault.over", 119),
    ]
    assert (lines[0]["client"], lines[0]["error"], lines[-1]["seconds"]) == ("acme", "unreadable", 150)


def test_a_fault_that_comes_and_goes_is_told_once_a_minute_and_a_defect_with_its_trace() -> None:
    clock = Clock()
    fault = LastingFault("watch.failed", clock)
    with capture_logs() as lines:
        for _ in range(100):
            fault.met(KeyError("x"))
            fault.over()
            clock.now += 1
    assert [line["event"] for line in lines] == ["watch.failed", "fault.over"] * 2
    assert isinstance(lines[0]["exc_info"], KeyError)


def test_one_event_cannot_fill_the_log_and_the_others_are_told() -> None:
    clock = Clock()
    calm = Calm(clock)

    def told(event: str) -> dict[str, object] | None:
        try:
            return dict(calm(None, "", {"event": event}))
        except structlog.DropEvent:
            return None

    assert sum(told("request.failed") is not None for _ in range(5000)) == AT_ONCE
    assert told("paper.not_landed") == {"event": "paper.not_landed"}
    assert all(told("login.failed") for _ in range(5000))  # bounded by the recorder: fail2ban counts them
    clock.now += 2
    assert told("request.failed") == {"event": "request.failed", "left_out": 5000 - AT_ONCE}
    assert told("request.failed") == {"event": "request.failed"}
    assert told("request.failed") is None


@pytest.mark.parametrize("character", ["\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u200b", "\ud800", "\U000e0041"])
def test_no_character_steers_a_terminal_or_breaks_a_line(character: str) -> None:
    text = f"inv{character}fdp.exe 发票"
    assert printable(text).isprintable() and printable(text).endswith("fdp.exe 发票")
    line = json_line({"name": text})
    assert line.isprintable() and json.loads(line) == {"name": text}


def test_json_over_several_lines_keeps_them() -> None:
    assert json_line({"a": "x\ny"}, indent=2) == '{\n  "a": "x\\ny"\n}'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_name_is_no_markup_of_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with progress("export") as bar:
        for name in ("[/]", "[/bold]", "[link=https://evil.example]open[/link]"):
            bar.update(1, 2, name)
    assert "\x1b]8" not in sys.stderr.getvalue(), "no link of a stranger's"  # type: ignore[attr-defined]
