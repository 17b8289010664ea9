"""How many papers were proven, and which one waits longest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backup.drill.coverage import Coverage, measure_coverage

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def test_the_oldest_that_never_was_drilled_is_named() -> None:
    papers = [(f"{number:032x}", NOON - timedelta(days=number)) for number in range(10)]
    found = measure_coverage(papers, lambda paper, sealed_at: int(paper, 16) % 3 == 0)
    assert (found.papers, found.proven, found.oldest, found.oldest_at) == (10, 4, f"{8:032x}", NOON - timedelta(days=8))
    assert found.text == "4 of 10 papers (40 %) were proven to come back at least once; the oldest that never was drilled is of 2026-04-26."
    assert found.values()["oldest_never"] == {"paper": f"{8:032x}", "sealed_at": "2026-04-26T12:00:00Z"}


def test_all_and_none() -> None:
    assert measure_coverage([("a", NOON)], lambda *_: True).text == "All 1 papers were proven to come back at least once."
    assert measure_coverage([], lambda *_: True).text == "There are no papers yet."


def test_percent_never_promises_too_much() -> None:
    assert Coverage(100_000, 99_999, "a", NOON).percent == 99.9
