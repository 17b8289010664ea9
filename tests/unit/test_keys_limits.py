"""Rate limits on keys, with a clock made by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.keys.limits import OVERALL_FACTOR, KeyLimits, TokenBucket


def test_a_bucket_gives_its_capacity_then_makes_wait() -> None:
    bucket = TokenBucket(3, 1.0, now=0)
    for _ in range(3):
        assert bucket.wait(1, 0) == 0
        bucket.take(1)
    assert bucket.wait(1, 0) == 1.0
    assert bucket.wait(1, 1.0) == 0


def test_more_than_the_capacity_needs_a_full_bucket_and_is_paid_off_later() -> None:
    bucket = TokenBucket(10, 1.0, now=0)
    assert bucket.wait(25, 0) == 0
    bucket.take(25)
    assert bucket.wait(1, 0) == 16.0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1, 1.0, now=100)
    bucket.take(1)
    assert bucket.wait(1, 0) == 1.0
    assert bucket.wait(1, 100.5) == 0.5


def test_one_person_does_not_use_up_anothers() -> None:
    limits = KeyLimits(60, now=0)
    assert all(limits.take("anna", 1, 0) == 0 for _ in range(60))
    assert limits.take("anna", 1, 0) == 1.0
    assert limits.take("ben", 1, 0) == 0
    assert limits.take("anna", 1, 1.0) == 0


def test_all_together_are_limited_too() -> None:
    limits = KeyLimits(60, now=0)
    granted = sum(limits.take(f"person{number}", 60, 0) == 0 for number in range(50))
    assert granted == OVERALL_FACTOR
    assert limits.take("somebody-new", 1, 0) > 0


def test_what_is_refused_costs_nothing() -> None:
    limits = KeyLimits(2, now=0)
    limits.take("anna", 2, 0)
    waits = [limits.take("anna", 1, 0) for _ in range(10)]
    assert waits == [30.0] * 10


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5)), max_size=200))
def test_never_more_than_capacity_and_refill(steps: list[tuple[float, int]]) -> None:
    limits = KeyLimits(30, now=0)
    now, given_out = 0.0, 0
    for pause, count in steps:
        now += pause
        if limits.take("anna", count, now) == 0:
            given_out += count
        assert given_out <= 30 + now * 0.5 + 1e-6
