"""The troublemaker: what it did to a house, when, and how often. First it kills roles, then it makes the other troubles, so that the processes that
are watched live long."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tests.e2e.faults import Faults

ROLES = ("gateway", "keyd", "ingest", "scheduler", "s3")
TROUBLES = ("clock", "locked", "clamd")
STEPS = (timedelta(hours=-1), timedelta(hours=1), timedelta(minutes=-7), timedelta(minutes=3))


class Troublemaker:
    """Does things to a house, and counts them in `done`; when a role was killed last is in `last`."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self._faults = faults
        self._chance = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.last: dict[str, datetime] = {}

    def kill_roles(self, seconds: float, apart: float) -> None:
        """For so long: SIGKILL for one role or the other, on average `apart` seconds apart; each has its turn."""
        until, turns = time.monotonic() + seconds, list(ROLES)
        while turns or time.monotonic() < until:
            time.sleep(self._chance.uniform(0.3, 1.7) * apart)
            role = turns.pop() if turns else self._chance.choice(ROLES)
            self._faults.house.wait(lambda role=role: self._faults.house.pid(role) is not None, 240, f"{role} does not come back")
            self._faults.house.kill(role)
            self.last[role] = datetime.now(UTC)
            self.done[role] += 1
        self.all_back()

    def all_back(self) -> None:
        """Return once every role is ready."""
        house = self._faults.house
        house.wait(lambda: all(house.pid(role) for role in ROLES), 240, "not all roles came back")

    def trouble(self, seconds: float, apart: float) -> None:
        """For so long: the clock steps for a while, the catalog is locked, the scanner is gone."""
        until, turns = time.monotonic() + seconds, list(TROUBLES)
        while turns or time.monotonic() < until:
            time.sleep(self._chance.uniform(0.3, 1.7) * apart)
            name = turns.pop() if turns else self._chance.choice(TROUBLES)
            self.once(name, self._chance.uniform(1.0, 6.0))

    def once(self, name: str, seconds: float) -> None:
        """One trouble; all is well again afterwards."""
        does: dict[str, Callable[[float], None]] = {
            "clock": self._clock,
            "locked": self._faults.lock_catalog,
            "clamd": self._faults.stop_scanner,
            "full": self._faults.fill_disk,
        }
        does[name](seconds)
        self.done[name] += 1

    def _clock(self, seconds: float) -> None:
        self._faults.set_clock(self._chance.choice(STEPS))
        time.sleep(seconds)
        self._faults.set_clock()
