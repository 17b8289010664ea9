"""What one job of the scheduler waits for: its next slot, or another try after an outage. Pure: both clocks are the caller's.

`now` is the time of day, which may be set back or forward; `clock` counts seconds and only ever goes on (and may stand still while the machine
sleeps). Slots are a matter of the first, waiting for another try is one of the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from backup.clock.schedule import Timetable

Outcome = Literal["ended", "away", "busy"]  # ended: well or not, another try would change nothing


@dataclass(frozen=True)
class Patience:
    """How long to wait for another try: twice as long each time. After `total_seconds` of an outage the next slot has to do."""

    first_seconds: float = 60.0
    most_seconds: float = 900.0
    total_seconds: float = 1800.0

    def wait(self, tries: int) -> float:
        """Seconds after so many tries (1 and up) that came to nothing."""
        return min(self.first_seconds * 2.0 ** min(tries - 1, 30), self.most_seconds)


class Agenda:
    """The state of one job. `since` is when it was last begun."""

    def __init__(self, timetable: Timetable, since: datetime, patience: Patience | None = None) -> None:
        self.timetable = timetable
        self.since = since
        self._patience = patience or Patience()
        self.tries = 0  # at one slot that came to nothing so far
        self._first_at = 0.0
        self._again_at: float | None = None

    def is_due(self, now: datetime, clock: float) -> bool:
        """Whether it should be begun now."""
        if self.since > now:  # the clock was set back: what was missed before nobody can know any more
            self.since = now
        return (self._again_at is not None and clock >= self._again_at) or self.timetable.due(self.since, now)

    def begin(self, now: datetime, clock: float) -> bool:
        """It is begun; True for the first try at a slot."""
        if self.timetable.due(self.since, now):
            self.tries = 0
        if not self.tries:
            self._first_at = clock
        self.since, self._again_at = now, None
        return not self.tries

    def end(self, outcome: Outcome, clock: float) -> float | None:
        """It came to this. Seconds until another try, None when there is none before the next slot."""
        self.tries += 1
        wait = self._patience.wait(self.tries)
        given_up = outcome == "away" and clock + wait - self._first_at > self._patience.total_seconds
        if outcome == "ended" or given_up:
            self.tries = 0
            return None
        self._again_at = clock + wait
        return wait

    def seconds_left(self, now: datetime, clock: float, most: float) -> float:
        """Until it may be due, at most `most`."""
        slot = self.timetable.after(min(self.since, now))
        left = most if slot is None else (slot - now).total_seconds()
        if self._again_at is not None:
            left = min(left, self._again_at - clock)
        return max(0.0, min(most, left))
