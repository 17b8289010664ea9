"""A line of the audit log is canonical, bounded, and holds no secret."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import PurePosixPath

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.lines import MAX_LINE_BYTES, _encode_with_care, canonical, decode_line, encode_line, stamp
from gateway.audit.segments import new_segment_id, role_of, started_at

OWN = {"seq": 1, "time": "2024-05-06T07:08:09.000001Z", "role": "gateway", "event": "paper.read", "prev": "0" * 64}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), VALUES))
def test_any_fields_make_one_line(fields: dict[str, object]) -> None:
    line = encode_line(OWN, fields)
    assert len(line) <= MAX_LINE_BYTES
    assert b"\n" not in line
    record = decode_line(line)
    assert record is not None
    assert {name: record[name] for name in OWN} == OWN


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=70) | st.sampled_from(["password", "token", "path"]), VALUES | st.sampled_from(["AGE-SECRET-KEY-1QQ", "x" * 5000])
    )
)
def test_the_short_way_makes_the_same_line(fields: dict[str, object]) -> None:
    assert encode_line(OWN, fields) == _encode_with_care(OWN, fields)


def test_names_of_any_kind_survive() -> None:
    path = '/inbox/发票 "1"\n\u2028\x1b[31m/\ud800.pdf'
    line = encode_line(OWN, {"path": path})
    record = decode_line(line)
    assert record is not None
    assert record["path"] == path
    assert line.isascii()


def test_long_fields_are_cut_with_a_mark() -> None:
    for fields in (
        {"path": "\U0001f600" * 100_000},
        {"many": ["x" * 500] * 10_000},
        {f"field{number}": "\u4e2d" * 5000 for number in range(30)},
        {f"field{number}": "y" * 5000 for number in range(3000)},
        {"deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}},
    ):
        line = encode_line(OWN, fields)
        assert len(line) <= MAX_LINE_BYTES
        assert b"cut" in line


def test_a_short_line_is_not_cut() -> None:
    assert decode_line(encode_line(OWN, {"path": "x" * 4096})) == {**OWN, "path": "x" * 4096}


def test_secrets_are_hidden() -> None:
    line = encode_line(OWN, {"reason": "AGE-SECRET-KEY-1QQPQQPQ", "password": "hunter2", "list": ["AGE-SECRET-KEY-1ZZZ"]})
    assert b"QQPQ" not in line
    assert b"hunter2" not in line
    assert b"ZZZ" not in line
    assert decode_line(line) is not None


def test_only_canonical_lines_are_lines() -> None:
    line = encode_line(OWN, {})
    assert decode_line(line) == OWN
    for other in (
        line + b" ",
        line.replace(b",", b", ", 1),
        b"[]",
        b"{}x",
        b"\xff",
        b"[" * 100_000,
        b'{"a":NaN}',
        b'{"a":1,"a":2}',
        b'{"b":1,"a":2}',
    ):
        assert decode_line(other) is None


def test_values_that_json_does_not_know() -> None:
    moment = datetime(2024, 5, 6, 9, 8, 7, 5, tzinfo=timezone(timedelta(hours=2)))
    record = decode_line(encode_line(OWN, {"at": moment, "path": PurePosixPath("/a"), "set": {1}}))
    assert record is not None
    assert (record["at"], record["path"], record["set"]) == ("2024-05-06T07:08:07.000005Z", "/a", [1])


def test_canonical_sorts() -> None:
    assert canonical({"b": 1, "a": [1, {"d": 2, "c": 3}]}) == b'{"a":[1,{"c":3,"d":2}],"b":1}'


def test_segment_ids() -> None:
    moment = datetime(2024, 5, 6, 7, 8, 9, 123, tzinfo=UTC)
    made = new_segment_id("ops-line", moment)
    assert role_of(made) == "ops-line"
    assert started_at(made) == stamp(moment)
    for other in ("checkpoints", "../x-20240506T070809000123Z-01234567", "gateway-20240506T070809000123Z-0123456", ""):
        assert role_of(other) is None
