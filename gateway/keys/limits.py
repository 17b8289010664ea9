"""Rate limits on keys: for each person, and over all. Pure: the clock is the caller's."""

from __future__ import annotations

from collections import OrderedDict

OVERALL_FACTOR = 4  # all people together may have this many times what one may have
MAX_PEOPLE = 10_000


class TokenBucket:
    """`capacity` at once, refilled at `per_second`. Times are seconds of any monotonic clock."""

    def __init__(self, capacity: float, per_second: float, now: float) -> None:
        self._capacity = capacity
        self._per_second = per_second
        self._tokens = capacity
        self._at = now

    def wait(self, count: float, now: float) -> float:
        """Seconds until `count` could be taken; 0 when they can be taken now. What exceeds the capacity needs a full bucket."""
        self._refill(now)
        missing = min(count, self._capacity) - self._tokens
        return max(0.0, missing / self._per_second)

    def take(self, count: float) -> None:
        """Take `count`; the bucket may go below zero when `count` is more than it can hold."""
        self._tokens -= count

    def is_full(self, now: float) -> bool:
        """A full bucket says nothing that a new one would not say."""
        self._refill(now)
        return self._tokens >= self._capacity

    def _refill(self, now: float) -> None:
        self._tokens = min(self._capacity, self._tokens + max(0.0, now - self._at) * self._per_second)
        self._at = max(self._at, now)


class KeyLimits:
    """How many keys may be opened: `per_minute` for one person, OVERALL_FACTOR times that for all together."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._per_minute = per_minute
        self._overall = TokenBucket(per_minute * OVERALL_FACTOR, per_minute * OVERALL_FACTOR / 60, now)
        self._people: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, person: str, count: int, now: float) -> float:
        """Take `count` keys for `person` and return 0; or take nothing and return the seconds to wait."""
        bucket = self._bucket(person, now)
        wait = max(bucket.wait(count, now), self._overall.wait(count, now))
        if wait == 0:
            bucket.take(count)
            self._overall.take(count)
        return wait

    def _bucket(self, person: str, now: float) -> TokenBucket:
        bucket = self._people.pop(person, None) or TokenBucket(self._per_minute, self._per_minute / 60, now)
        self._people[person] = bucket  # the least recently asked for stands first
        while len(self._people) > MAX_PEOPLE or (len(self._people) > 1 and next(iter(self._people.values())).is_full(now)):
            self._people.popitem(last=False)
        return bucket
