"""Paper ids and the names that may become folders of the store."""

from __future__ import annotations

import pytest

from config.errors import UsageError
from gateway.store.ids import check_client, check_paper, is_paper_id, new_paper_id


def test_ids_are_well_formed_and_differ() -> None:
    ids = {new_paper_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_paper_id(paper) for paper in ids)


def test_ids_sort_by_age(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1_700_000_000_000_000_000, 1_700_000_000_001_000_000, 2_000_000_000_000_000_000])
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    ids = [new_paper_id() for _ in range(3)]
    assert ids == sorted(ids)


def test_ids_of_one_millisecond_sort_as_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions of a name, uploaded one right after the other, are told apart by their ids."""
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000)
    ids = [new_paper_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert all(is_paper_id(paper) for paper in ids)


def test_ids_sort_by_age_when_the_clock_is_set_back_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Papers are sealed in the order of their ids: the older of two versions would become the newer one."""
    seconds = [1_700_000_000, 1_700_000_001, 1_699_999_999, 1_699_999_999, 1_700_000_001, 1_700_000_002]
    times = iter(second * 1_000_000_000 for second in seconds)
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    ids = [new_paper_id() for _ in seconds]
    assert ids == sorted(set(ids))


def test_a_clock_that_was_far_ahead_is_not_followed_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([2_000_000_000_000_000_000, 1_700_000_000_000_000_000])
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    assert new_paper_id() > new_paper_id()


@pytest.mark.parametrize("text", ["", "a" * 31, "a" * 33, "A" * 32, "g" * 32, "../" + "a" * 29, "a" * 32 + "\n", "a" * 31 + "\0"])
def test_what_is_no_id_is_refused(text: str) -> None:
    assert not is_paper_id(text)
    with pytest.raises(UsageError):
        check_paper(text)


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "Acme", "-a", "a" * 33, "a\n", "ä"])
def test_what_is_no_client_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        check_client(text)
