"""Whoever contradicts what came back is named, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backup.drill.judge import EXPLAINED, GRACE, Case, Cause, Found, Receipt, Record, is_newer, judge, surplus, swapped

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
PAPER = "0" * 31 + "1"
RECORD = Record("acme", "/inbox/a [1].pdf", 2, 10, "a" * 64, 210, "b" * 64, "c" * 64, 1, NOON, NOON, True)
RECEIPT = Receipt("acme", "/inbox/a [1].pdf", 2, 10, "a" * 64, "accepted")
FOUND = Found(True, 210, "b" * 64, "c" * 64, 10, "a" * 64)
GOOD = Case(PAPER, RECORD, RECORD, RECEIPT, FOUND)
BAD = "f" * 64


def causes(case: Case) -> list[Cause]:
    return [finding.cause for finding in judge(case)]


def test_a_good_paper_has_no_findings() -> None:
    assert judge(GOOD) == []


def test_a_paper_nobody_here_can_open_is_judged_by_its_ciphertext() -> None:
    closed = replace(FOUND, size=None, sha256=None)
    assert judge(replace(GOOD, found=closed)) == []
    assert causes(replace(GOOD, found=replace(closed, sealed_sha256=BAD))) == [Cause.DAMAGED]


@pytest.mark.parametrize("name", ["sha256", "sealed_sha256", "header_mac"])
def test_a_hash_altered_in_one_catalog_names_that_catalog(name: str) -> None:
    altered = replace(RECORD, **{name: BAD})
    assert causes(replace(GOOD, live=altered)) == [Cause.LIVE_DIFFERS]
    assert causes(replace(GOOD, dump=altered)) == [Cause.DUMP_DIFFERS]
    assert name in judge(replace(GOOD, live=altered))[0].text


def test_a_receipt_that_differs_is_named() -> None:
    assert causes(replace(GOOD, receipt=replace(RECEIPT, size=11))) == [Cause.RECEIPT_DIFFERS]
    assert causes(replace(GOOD, receipt=replace(RECEIPT, verdict="refused"))) == [Cause.RECEIPT_DIFFERS]
    assert causes(replace(GOOD, receipt=replace(RECEIPT, fault="torn"))) == [Cause.RECEIPT_BAD]


def test_a_missing_receipt_matters_once_the_dump_says_it_was_written() -> None:
    assert causes(replace(GOOD, receipt=None)) == [Cause.RECEIPT_MISSING]
    assert causes(replace(GOOD, receipt=None, dump=replace(RECORD, receipted=False))) == []


def test_a_file_that_all_witnesses_deny_is_what_is_wrong() -> None:
    assert causes(replace(GOOD, found=replace(FOUND, sha256=BAD))) == [Cause.CONTENT]
    assert causes(replace(GOOD, found=replace(FOUND, sealed_sha256=BAD, sha256=BAD))) == [Cause.DAMAGED]
    assert causes(replace(GOOD, found=Found(True, 210, BAD, fault=Cause.UNREADABLE))) == [Cause.DAMAGED]


def test_who_sides_with_a_wrong_file_is_named_with_it() -> None:
    forged = replace(RECORD, sha256=BAD)
    assert causes(replace(GOOD, live=forged, found=replace(FOUND, sha256=BAD))) == [Cause.CONTENT, Cause.LIVE_DIFFERS]


def test_a_file_that_no_key_opens_or_that_is_broken_says_so() -> None:
    assert causes(replace(GOOD, found=Found(True, 210, "b" * 64, "c" * 64, fault=Cause.NO_KEY))) == [Cause.NO_KEY]
    assert causes(replace(GOOD, found=Found(True, 210, "b" * 64, "c" * 64, fault=Cause.UNREADABLE))) == [Cause.UNREADABLE]


def test_missing_files_and_rows() -> None:
    gone = Found(present=False)
    assert causes(replace(GOOD, found=gone)) == [Cause.MISSING]
    assert causes(replace(GOOD, live=None)) == [Cause.NOT_IN_LIVE]
    assert causes(replace(GOOD, dump=None)) == [Cause.NOT_IN_DUMP]
    both = judge(replace(GOOD, found=gone, live=replace(RECORD, sha256=BAD)))
    assert [finding.cause for finding in both] == [Cause.MISSING, Cause.LIVE_DIFFERS]


def test_two_catalogs_without_an_arbiter_are_both_named() -> None:
    gone = replace(GOOD, found=Found(present=False), live=replace(RECORD, sealed_sha256=BAD))
    assert causes(gone) == [Cause.MISSING, Cause.LIVE_DIFFERS, Cause.DUMP_DIFFERS]


def test_names_are_compared_too() -> None:
    assert causes(replace(GOOD, live=replace(RECORD, path="/inbox/b"))) == [Cause.LIVE_DIFFERS]
    assert causes(replace(GOOD, live=replace(RECORD, path="/b"), receipt=None, dump=replace(RECORD, receipted=False))) == [
        Cause.LIVE_DIFFERS,
        Cause.DUMP_DIFFERS,
    ]


def test_newer_than_the_snapshot() -> None:
    dump_at = NOON - timedelta(hours=1)
    assert is_newer(RECORD, None, dump_at)
    assert is_newer(RECORD, None, NOON + GRACE / 2)
    assert not is_newer(RECORD, None, NOON + GRACE)
    assert not is_newer(RECORD, RECORD, dump_at)
    assert not is_newer(None, RECORD, dump_at)


def test_a_swap_names_the_other_paper() -> None:
    finding = judge(replace(GOOD, found=replace(FOUND, sealed_sha256=BAD, header_mac=BAD)))[0]
    other = swapped(finding, "2" * 32, replace(RECORD, path="/inbox/other", version=1))
    assert other.cause is Cause.SWAPPED
    assert other.other == "2" * 32
    assert other.text == f"acme /inbox/a [1].pdf (version 2): its file holds another paper (that of acme /inbox/other, version 1, paper {'2' * 32})"


def test_every_cause_is_explained() -> None:
    assert set(EXPLAINED) == set(Cause)
    assert surplus(PAPER, "acme", "acme/01/x").cause is Cause.SURPLUS
