"""What is told. Pure. Names of papers, addresses of clients and hashes of content stay here: a notice leaves the house."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TOLD = ("client", "person", "paper", "reason", "error", "run", "state", "snapshot", "hold", "generation", "cause", "by", "verdict")
LONGEST = 300  # characters of a field
TOGETHER = 50  # notices in one message


@dataclass(frozen=True)
class Notice:
    """One event, ready to be told. `head` is the hash of its line: with it the audit log is anchored outside."""

    number: int
    event: str
    time: str
    text: str
    head: str


def text_of(record: dict[str, Any]) -> str:
    """The fields of a line that may leave, one a line."""
    known = ((name, record.get(name)) for name in TOLD)
    return "\n".join(f"{name}: {_plain(value)}" for name, value in known if value not in (None, "", [], {}))


def message(notices: Sequence[Notice], dropped: int) -> tuple[str, str]:
    """(title, body) of one message for `notices` (at least one), oldest first; `dropped` more could not be kept."""
    count = len(notices) + dropped
    title = f"Nightsafe: {notices[0].event}" if count == 1 else f"Nightsafe: {count} events"
    parts = [f"{notice.event}  {notice.time}\n{notice.text}".rstrip() for notice in notices]
    if dropped:
        parts.append(f"{dropped} more events were not kept for you: too many waited. See: nightsafe audit show")
    return title, "\n\n".join([*parts, f"audit head: {notices[-1].head}"])


def _plain(value: object) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "…"
