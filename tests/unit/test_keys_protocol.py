"""The messages of keyd: what goes round, and what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys.errors import KeydUnavailable, KeyGone, KeyLimited, KeyRefused
from gateway.keys.protocol import (
    BATCH_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_LINE_BYTES,
    BadMessage,
    HeadersRequest,
    PaperRequest,
    batches,
    encode_error,
    encode_keys,
    encode_request,
    parse_answer,
    parse_request,
)

PAPER = "0" * 12 + "ab" * 10
GOOD: dict[str, Any] = {"op": "paper", "client": "acme", "paper": PAPER, "where": "vault", "person": "anna", "reason": "download"}
HEADERS: dict[str, Any] = {
    "op": "headers",
    "client": "acme",
    "headers": [{"paper": PAPER, "header": base64.b64encode(b"x").decode()}],
    "person": "ops:drill",
    "reason": "drill 7",
}


def line(values: Any) -> bytes:
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    "request_",
    [
        PaperRequest("acme", PAPER, "spool", "anna", "Herunterladen über SFTP"),
        HeadersRequest("acme", ((PAPER, b"\x00\xff"), (PAPER, b"y" * MAX_HEADER_BYTES)), "ops:restore", "r"),
    ],
)
def test_a_request_goes_round(request_: PaperRequest | HeadersRequest) -> None:
    encoded = encode_request(request_)
    assert encoded.endswith(b"\n")
    assert encoded.count(b"\n") == 1
    assert parse_request(encoded) == request_


@pytest.mark.parametrize(
    "change",
    [
        {"op": "master"},
        {"op": None},
        {"client": "../acme"},
        {"client": "Acme"},
        {"client": "acme\n"},
        {"client": 7},
        {"paper": "../../etc/passwd"},
        {"paper": PAPER.upper()},
        {"paper": PAPER + "\n"},
        {"where": "keys"},
        {"where": ["vault"]},
        {"person": ""},
        {"person": "ops:"},
        {"person": "ops:a b"},
        {"person": "x" * 81},
        {"reason": ""},
        {"reason": "two\nlines"},
        {"reason": "x" * 201},
        {"surplus": 1},
    ],
)
def test_a_bad_paper_request_is_refused(change: dict[str, Any]) -> None:
    parse_request(line(GOOD))
    with pytest.raises(BadMessage):
        parse_request(line(GOOD | change))


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_a_missing_member_is_refused(missing: str) -> None:
    with pytest.raises(BadMessage):
        parse_request(line({name: value for name, value in GOOD.items() if name != missing}))


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        "x",
        [{}],
        [["paper", "header"]],
        [{"paper": PAPER, "header": "not base64!"}],
        [{"paper": PAPER, "header": "é"}],
        [{"paper": PAPER, "header": ""}],
        [{"paper": PAPER, "header": base64.b64encode(bytes(MAX_HEADER_BYTES + 1)).decode()}],
        [{"paper": PAPER, "header": "eA==", "more": 1}],
        [{"paper": "x", "header": "eA=="}],
        [{"paper": PAPER, "header": "eA=="}] * (MAX_HEADERS + 1),
    ],
)
def test_bad_headers_are_refused(headers: Any) -> None:
    parse_request(line(HEADERS))
    with pytest.raises(BadMessage):
        parse_request(line(HEADERS | {"headers": headers}))


@pytest.mark.parametrize("garbage", [b"", b"[]", b"7", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 10_000, b'{"op":NaN}', b"\x00" * 100])
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_request(garbage)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_a_request_or_refused(value: Any) -> None:
    for shaped in (value, GOOD | {"paper": value}, GOOD | {"person": value}, HEADERS | {"headers": value}, HEADERS | {"headers": [value]}):
        with pytest.raises(BadMessage):
            parse_request(line(shaped))


@given(st.binary(max_size=200))
def test_any_answer_is_keys_or_an_error_of_ours(answer: bytes) -> None:
    with pytest.raises((BadMessage, KeyRefused, KeyGone, KeydUnavailable)):
        parse_answer(answer, 1)


def test_keys_go_round() -> None:
    paper = PaperRequest("acme", PAPER, "vault", "anna", "r")
    several = HeadersRequest("acme", ((PAPER, b"x"), (PAPER, b"y")), "ops:x", "r")
    assert parse_answer(encode_keys(paper, [b"k" * 16]), 1) == [b"k" * 16]
    assert parse_answer(encode_keys(several, [None, b"k" * 16]), 2) == [None, b"k" * 16]
    with pytest.raises(BadMessage):
        parse_answer(encode_keys(several, [None, b"k" * 16]), 3)
    with pytest.raises(BadMessage):
        parse_answer(encode_keys(paper, [b"short"]), 1)


@pytest.mark.parametrize("error", [KeyRefused("no", "why"), KeyGone("gone"), KeydUnavailable("down"), BadMessage("bad")])
def test_errors_go_round(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        parse_answer(encode_error(error), 1)  # type: ignore[arg-type]
    assert str(caught.value) == str(error)


def test_a_limit_says_when_to_come_again() -> None:
    with pytest.raises(KeyLimited) as caught:
        parse_answer(encode_error(KeyLimited("slow", retry_seconds=2.5)), 1)
    assert caught.value.retry_seconds == 2.5
    with pytest.raises(KeyLimited) as caught:
        parse_answer(b'{"error":"limited","message":"","hint":"","retry_seconds":1e99}', 1)
    assert caught.value.retry_seconds <= 3600


@given(st.lists(st.integers(1, MAX_HEADER_BYTES), max_size=600))
def test_batches_fit_and_lose_nothing(sizes: list[int]) -> None:
    headers = [(PAPER, bytes(size)) for size in sizes]
    cut = list(batches(headers))
    assert [entry for batch in cut for entry in batch] == headers
    assert all(1 <= len(batch) <= MAX_HEADERS for batch in cut)
    assert all(sum(len(header) for _, header in batch) <= BATCH_BYTES for batch in cut)


def test_the_largest_batch_fits_into_a_line() -> None:
    headers = [(PAPER, bytes(BATCH_BYTES // MAX_HEADERS))] * MAX_HEADERS
    (batch,) = batches(headers)
    assert len(encode_request(HeadersRequest("a" * 32, tuple(batch), "ops:" + "x" * 64, "ü" * 200))) <= MAX_LINE_BYTES
