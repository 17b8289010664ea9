"""Growing waits: how long to stay away from something that has just failed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """`first_seconds`, doubled with each failure in a row, up to `most_seconds`. A frozen value: `next` gives the one to follow."""

    first_seconds: float = 0.25
    most_seconds: float = 30.0
    failures: int = 0

    @property
    def seconds(self) -> float:
        """How long to wait now; 0 when nothing failed."""
        if not self.failures:
            return 0.0
        return min(self.first_seconds * 2.0 ** min(self.failures - 1, 32), self.most_seconds)

    def next(self, failed: bool) -> Backoff:
        """After another attempt."""
        return Backoff(self.first_seconds, self.most_seconds, self.failures + 1 if failed else 0)
