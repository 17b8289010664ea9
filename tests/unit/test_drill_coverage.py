"""How many papers were proven, and which one waits longest."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.drill.coverage import Coverage
from backup.drill.judge import GRACE, Record
from backup.drill.ledger import Ledger, Moments
from backup.drill.sample import Group

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def record(sealed_at: datetime) -> Record:
    return Record("acme", "/inbox/a", 1, 1, "a" * 64, 200, "b" * 64, "c" * 64, 1, sealed_at, sealed_at, True)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Ten papers, the higher the older."""
    made = Ledger(tmp_path / "ledger")
    made.add_records("dump", [(f"{number:032x}", record(NOON - timedelta(days=number))) for number in range(10)])
    yield made
    made.close()


def test_the_oldest_that_never_was_drilled_is_named(ledger: Ledger) -> None:
    ledger.add_drilled(f"{number:032x}" for number in range(0, 10, 3))
    found = ledger.coverage(Moments(NOON, NOON), "none")
    assert (found.papers, found.proven, found.oldest, found.oldest_at) == (10, 4, f"{8:032x}", NOON - timedelta(days=8))
    assert found.text == "4 of 10 papers (40 %) were proven to come back at least once; the oldest never drilled dates from 2026-04-26."
    assert found.values()["oldest_never"] == {"paper": f"{8:032x}", "sealed_at": "2026-04-26T12:00:00Z"}


def test_what_was_drawn_now_counts_where_nothing_is_bad(ledger: Ledger) -> None:
    ledger.choose([f"{9:032x}"])
    assert [ledger.coverage(Moments(NOON, NOON), proven).proven for proven in ("none", "chosen", "all")] == [0, 1, 10]
    assert ledger.coverage(Moments(NOON, NOON, covered=NOON - timedelta(days=5)), "chosen").proven == 5


def test_what_the_snapshot_cannot_have_yet_is_not_expected(ledger: Ledger) -> None:
    ledger.add_records("live", [("e" * 32, record(NOON - GRACE)), ("f" * 32, record(NOON - GRACE + timedelta(microseconds=1)))])
    moments = Moments(NOON, NOON - timedelta(days=2), covered=NOON - timedelta(days=8))
    assert (ledger.coverage(moments, "none").papers, ledger.count_newer(moments), ledger.count()) == (11, 1, 12)
    groups = {group: [paper[-1] for paper in ledger.population(group, moments)] for group in Group}
    assert groups == {Group.NEW: ["0", "1", "e"], Group.NEVER: list("234567"), Group.BEFORE: ["8", "9"]}


def test_all_and_none() -> None:
    assert Coverage(1, 1).text == "The only paper was proven to come back at least once."
    one = Coverage(1, 0, "a" * 32, NOON).text
    assert one == "0 of 1 paper (0 %) were proven to come back at least once; the oldest never drilled dates from 2026-05-04."
    assert Coverage(2, 1, "a" * 32, NOON).text.startswith("1 of 2 papers (50 %) was proven")
    assert Coverage(0, 0).text == "There are no papers yet."


def test_percent_never_promises_too_much() -> None:
    assert Coverage(100_000, 99_999, "a", NOON).percent == 99.9
