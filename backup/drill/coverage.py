"""How many papers were proven to come back at least once, and the oldest that never was. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from config.words import all_of, counted, noun


@dataclass(frozen=True)
class Coverage:
    """Of `papers`, `proven` came back in some drill that passed. `oldest` and `oldest_at` are of the one that waits longest for that."""

    papers: int
    proven: int
    oldest: str = ""
    oldest_at: datetime | None = None

    @property
    def percent(self) -> float:
        """Rounded down, so that 100 means all."""
        return self.proven * 1000 // self.papers / 10 if self.papers else 100.0

    @property
    def text(self) -> str:
        """One sentence for people."""
        if not self.papers:
            return "There are no papers yet."
        if self.oldest_at is None:
            return f"{all_of(self.papers, 'paper was', 'papers were')} proven to come back at least once."
        waits = f"the oldest never drilled dates from {self.oldest_at:%Y-%m-%d}"
        share = f"{self.proven} of {counted(self.papers, 'paper')} ({self.percent:g} %) {noun(self.proven, 'was', 'were')}"
        return f"{share} proven to come back at least once; {waits}."

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        oldest = {"paper": self.oldest, "sealed_at": self.oldest_at.isoformat().replace("+00:00", "Z")} if self.oldest_at else None
        return {"papers": self.papers, "proven": self.proven, "percent": self.percent, "oldest_never": oldest, "text": self.text}
