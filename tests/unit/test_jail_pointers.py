"""Pointers have one form, and anything else is damaged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.jail.pointers import MAX_POINTER_BYTES, MAX_SIZE, Pointer, PointerDamaged, decode

POINTERS = st.builds(Pointer, st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0, MAX_SIZE), st.sampled_from(["partial", "whole"]))


@settings(deadline=None)
@given(POINTERS)
def test_round_trip(pointer: Pointer) -> None:
    raw = pointer.encode()
    assert decode(raw) == pointer
    assert len(raw) <= MAX_POINTER_BYTES
    assert json.loads(raw) == {"nightsafe": 1, "paper": pointer.paper, "size": pointer.size, "state": pointer.state}


@settings(deadline=None)
@given(POINTERS, st.data())
def test_every_cut_and_every_other_byte_is_noticed(pointer: Pointer, data: st.DataObject) -> None:
    raw = pointer.encode()
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(PointerDamaged):
        decode(raw[:cut])
    with pytest.raises(PointerDamaged):
        decode(raw[:cut] + b"\x80" + raw[cut + 1 :])


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_garbage(raw: bytes) -> None:
    with pytest.raises(PointerDamaged):
        decode(raw)


GOOD = Pointer("ab" * 16, 5, "whole").encode()


@pytest.mark.parametrize(
    "raw",
    [
        GOOD.replace(b'"nightsafe":1', b'"nightsafe":2'),
        GOOD.replace(b'"size":5', b'"size":05'),
        GOOD.replace(b'"size":5', b'"size":-5'),
        GOOD.replace(b'"size":5', b'"size":9223372036854775808'),
        GOOD.replace(b'"size":5', b'"size":5.0'),
        GOOD.replace(b"ab", b"AB"),
        GOOD.replace(b"whole", b"sealed"),
        GOOD + b"\n",
        GOOD[:-1],
        b" " + GOOD,
        GOOD + b" " * 600,
    ],
)
def test_near_misses(raw: bytes) -> None:
    with pytest.raises(PointerDamaged):
        decode(raw)


@pytest.mark.parametrize(("paper", "size"), [("../../etc/passwd", 1), ("a" * 31, 1), ("a" * 32, -1), ("a" * 32, MAX_SIZE + 1)])
def test_unfit_values_make_no_pointer(paper: str, size: int) -> None:
    with pytest.raises(ValueError, match="not the values"):
        Pointer(paper, size, "whole")
