"""One finding."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["bad", "warning", "note", "good"]
SEVERITIES: tuple[Severity, ...] = ("bad", "warning", "note", "good")
MOST_NAMES = 5  # that a finding spells out


@dataclass(frozen=True)
class Finding:
    """`bad`: mend it now. `warning`: mend it soon. `note`: know it. `good`: looked at, and right.

    `why` says what could happen, `mend` the command or page that helps; both are empty for what is good.
    """

    severity: Severity
    subject: str
    text: str
    why: str = ""
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def named(names: list[str]) -> str:
    """Names for a sentence: the first few, and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
