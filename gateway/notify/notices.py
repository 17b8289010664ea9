"""What is told. Pure. Names of papers, addresses of clients and hashes of content stay here: a notice leaves the house."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from config.console import human_bytes
from config.words import counted

TOLD = ("client", "person", "paper", "reason", "error", "run", "state", "snapshot", "hold", "generation", "cause", "by", "verdict")
SIZES = ("free", "reserve")  # bytes
LONGEST = 300  # characters of a field
MOST_SIZE = 2**63  # a size beyond is a lie
TOGETHER = 50  # notices in one message
MORE = "All of them are in the audit log: nightsafe audit show"


@dataclass(frozen=True)
class Notice:
    """One event, ready to be told. `head` is the hash of its line: with it the audit log is anchored outside."""

    number: int
    event: str
    time: str
    text: str
    head: str


@dataclass(frozen=True)
class Bundle:
    """What one message tells: `notices` in full, oldest first. A digest leaves `untold` others out, and has `counts` of all, each of an event,
    whom it concerns and how often. `dropped` more could not be kept. `last` is the newest that is told of in any way; None when nothing waits."""

    notices: tuple[Notice, ...]
    counts: tuple[tuple[str, str, int], ...] = ()
    untold: int = 0
    dropped: int = 0
    last: Notice | None = None


def text_of(record: dict[str, Any]) -> str:
    """The fields of a line that may leave, one a line. Nothing of it is believed: a role that was taken over writes lines, too."""
    known = [(name, record.get(name)) for name in TOLD]
    known += [(name, human_bytes(size)) for name in SIZES if isinstance(size := record.get(name), int) and abs(size) < MOST_SIZE]
    return "\n".join(f"{name}: {plain(value)}" for name, value in known if value not in (None, "", [], {}))


def message(bundle: Bundle) -> tuple[str, str]:
    """(title, body) of one message for a bundle of at least one notice."""
    notices = bundle.notices
    count = len(notices) + bundle.untold + bundle.dropped
    title = f"Nightsafe: {notices[0].event}" if count == 1 else f"Nightsafe: {count} events"
    parts = [f"{notice.event}  {notice.time}\n{notice.text}".rstrip() for notice in notices]
    if bundle.untold:
        sums = "\n".join(f"{times} × {event}  {whom}".rstrip() for event, whom, times in bundle.counts)
        parts = [f"Many events in a short time, so you are told in short. {MORE}\n\n{sums}", f"Some of them:\n\n{parts[0]}", *parts[1:]]
    if bundle.dropped:
        parts.append(f"{counted(bundle.dropped, 'more event was', 'more events were')} not kept for you: too many waited. {MORE}")
    return title, "\n\n".join([*parts, f"audit head: {(bundle.last or notices[-1]).head}"])


def plain(value: object) -> str:
    """A value in one short line, without anything that steers a mail or a terminal."""
    shown = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "…"
