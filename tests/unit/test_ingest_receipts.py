"""Receipts are a pure function of the row and one hash: their form, their names, and how they are recognised."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.names import ID_DIGITS
from gateway.catalog.rows import Paper
from gateway.ingest.accesses import collect, list_body
from gateway.ingest.receipts import SIGNATURE_SUFFIX, is_receipt_of, receipt_body, receipt_path, rfc3339
from gateway.ingest.summaries import Papers, summary_body
from gateway.jail.paths import path_of

HEAD = "ab" * 32


def row(**changes: object) -> Paper:
    values: dict[str, object] = {
        "id": "0190a1b2c3d4" + "0123456789abcdef0123",
        "client": "acme",
        "path": "/inbox/2024/发票 5.pdf",
        "person": "acme",
        "state": "accepted",
        "reason": "",
        "size": 20_000,
        "sha256": "cd" * 32,
        "received_at": datetime(2024, 5, 17, 23, 59, 59, 999_999, UTC),
        "sealed_at": datetime(2024, 5, 18, tzinfo=UTC),
        "modified_at": None,
        "generation": 1,
        "header_mac": "ef" * 32,
        "sealed_sha256": "01" * 32,
        "sealed_size": 20_232,
        "session": "s1",
        "address": "192.0.2.7",
        "version": 3,
        "receipted": False,
    }
    return Paper(**(values | changes))  # type: ignore[arg-type]


def test_a_receipt_says_what_arrived() -> None:
    body = receipt_body(row(), HEAD)
    assert json.loads(body) == {
        "nightsafe_receipt": 1,
        "client": "acme",
        "person": "acme",
        "paper": "0190a1b2c3d40123456789abcdef0123",
        "path": "/inbox/2024/发票 5.pdf",
        "name": "发票 5.pdf",
        "version": 3,
        "size": 20_000,
        "sha256": "cd" * 32,
        "received_at": "2024-05-17T23:59:59.999999Z",
        "sealed_at": "2024-05-18T00:00:00.000000Z",
        "verdict": "accepted",
        "reason": "",
        "code": "",
        "class": None,
        "audit_head": HEAD,
    }
    assert body.startswith(b'{\n  "audit_head"') and body.endswith(b"}\n")


def test_keys_are_sorted_and_text_is_readable() -> None:
    body = receipt_body(row(), HEAD)
    assert list(json.loads(body)) == sorted(json.loads(body))
    assert "发票 5.pdf".encode() in body


def test_the_name_is_the_papers_with_the_end_of_its_id() -> None:
    assert receipt_path(row()) == "/receipts/2024-05-17/发票 5.pdf.89abcdef0123.json"


def test_no_receipt_is_hidden() -> None:
    assert receipt_path(row(path="/inbox/.profile")) == "/receipts/2024-05-17/_profile.89abcdef0123.json"


def test_papers_of_one_millisecond_and_one_name_have_receipts_of_their_own() -> None:
    first, second = row(id="0190a1b2c3d4" + "0" * 20), row(id="0190a1b2c3d4" + "0" * 19 + "1", path="/inbox/other/发票 5.pdf")
    assert receipt_path(first) != receipt_path(second)


def test_the_day_is_that_of_arrival_in_utc() -> None:
    late = datetime(2024, 5, 18, 1, 0, tzinfo=timezone(timedelta(hours=8)))
    assert receipt_path(row(received_at=late)).startswith("/receipts/2024-05-17/")


@given(name=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_every_name_gives_a_path_that_the_jail_takes(name: str) -> None:
    path = path_of(receipt_path(row(path=f"/inbox/{name}")) + SIGNATURE_SUFFIX)
    assert len(path.parts) == 3 and len(path.name.encode()) <= 255
    assert path.name.endswith(f".{row().id[-ID_DIGITS:]}.json.sig")
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in path.name)
    assert json.loads(receipt_body(row(path=f"/inbox/{name}"), HEAD))["name"] == name


def test_no_name_steers_the_terminal_of_whoever_reads_a_receipt() -> None:
    hostile = row(path="/inbox/a\x9b31m\u202efdp.exe\x7f")
    body = receipt_body(hostile, HEAD)
    assert not {"\x9b", "\u202e", "\x7f"} & set(body.decode()) and json.loads(body)["path"] == hostile.path
    as_before = json.dumps(json.loads(body), ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    assert is_receipt_of(hostile, body) and is_receipt_of(hostile, as_before.encode()), "those of earlier versions count"


def test_a_receipt_is_recognised_whichever_place_of_the_chain_it_names() -> None:
    assert is_receipt_of(row(), receipt_body(row(), HEAD))
    assert is_receipt_of(row(), receipt_body(row(), "12" * 32))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        receipt_body(row(size=1), HEAD),
        receipt_body(row(), HEAD) + b"\n",
        b'{"audit_head":"' + HEAD.encode() + b'"}',
    ],
)
def test_anything_else_is_not(body: bytes) -> None:
    assert not is_receipt_of(row(), body)


def test_times_are_utc_with_microseconds() -> None:
    assert rfc3339(datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))) == "2024-01-02T02:04:05.000000Z"


def test_nor_of_whoever_reads_a_summary_or_a_list_of_accesses() -> None:
    hostile = row(path="/inbox/a\x9b31m\u202efdp.exe\x7f")
    papers = Papers()
    papers.take(hostile)
    summary = summary_body("acme", hostile.received_at.date(), papers, "0" * 64)
    record = {"event": "paper.read", "time": "2026-01-01T00:00:00.000000Z", "role": "gateway", "person": "ann", "path": hostile.path}
    accesses = list_body("acme", hostile.received_at.date(), False, collect([record | {"client": "acme"}], ["acme"])["acme"], "0" * 64)
    for body in (summary, accesses):
        assert not {"\x9b", "\u202e", "\x7f"} & set(body.decode())
    assert json.loads(summary)["listed"][0]["path"] == json.loads(accesses)["others"][0]["path"] == hostile.path
