"""A line of the status: one thing that can be wrong, and what to do then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Literal

from config.words import counted

Colour = Literal["green", "yellow", "red"]


@dataclass(frozen=True)
class Line:
    """One thing: how it is, and what to do when it is not green."""

    name: str
    colour: Colour
    text: str
    todo: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def worst(lines: Sequence[Line]) -> Colour:
    """The colour of the whole."""
    colours = {line.colour for line in lines}
    return "red" if "red" in colours else "yellow" if "yellow" in colours else "green"


def age_words(age: timedelta) -> str:
    """A length of time for people, from seconds to days."""
    seconds = max(0, int(age.total_seconds()))
    if seconds < 120:
        return counted(seconds, "second")
    if seconds < 7200:
        return counted(seconds // 60, "minute")
    return counted(seconds // 3600, "hour") if seconds < 172_800 else counted(seconds // 86_400, "day")


def human_seconds(seconds: float | None) -> str:
    """A duration for people: 75 → '1 min 15 s'."""
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return _two(minutes, "min", rest, "s")
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return _two(hours, "h", minutes, "min")
    return _two(hours // 24, "d", hours % 24, "h")


def _two(large: int, unit: str, small: int, part: str) -> str:
    return f"{large} {unit} {small} {part}" if small else f"{large} {unit}"
