"""The layout of a spool file: what is encoded comes back, what is not ours is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.arrival import Arrival
from gateway.store.blocks import PaperCipher
from gateway.store.format import (
    BLOCK,
    HEAD,
    HEADER_SIZE,
    MAC,
    STRIDE,
    TRAILER,
    Footer,
    FormatError,
    SlotHead,
    SpoolHeader,
    Trailer,
    block_count,
    decode_footer,
    decode_head,
    decode_header,
    decode_trailer,
    encode_head,
    encode_header,
    slot_offset,
    slot_size,
)

PAPER = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
texts = st.text(max_size=40)
times = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))
arrivals = st.builds(
    Arrival,
    paper=st.just(PAPER),
    client=texts,
    person=texts,
    path=texts,
    received_at=times,
    modified_at=st.none() | times,
    session=texts,
    address=texts,
    software=st.text(st.characters(), max_size=40),
)


def some_arrival(paper: str = PAPER, software: str = "x") -> Arrival:
    return Arrival(paper, "acme", "bob", "/inbox/a", datetime(2024, 5, 1, tzinfo=UTC), None, "s", "192.0.2.1", software)


@given(st.binary(max_size=1900), st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True), st.just(b"") | st.binary(min_size=32, max_size=32))
def test_header_comes_back(age_header: bytes, client: str, salt: bytes) -> None:
    header = SpoolHeader(PAPER, client, age_header, salt)
    page = encode_header(header) + bytes(MAC)
    assert len(page) == HEADER_SIZE
    assert decode_header(page) == header


def test_header_too_large_is_refused() -> None:
    with pytest.raises(FormatError):
        encode_header(SpoolHeader(PAPER, "acme", bytes(HEADER_SIZE)))


@given(st.binary(max_size=HEADER_SIZE + 1))
def test_foreign_pages_are_refused(page: bytes) -> None:
    with pytest.raises(FormatError):
        decode_header(page)


def test_header_of_a_newer_version_is_refused() -> None:
    page = bytearray(encode_header(SpoolHeader(PAPER, "acme", b"x")) + bytes(MAC))
    page[9] = 3
    with pytest.raises(FormatError, match="version 3"):
        decode_header(bytes(page))


def test_header_mac_covers_every_byte() -> None:
    cipher = PaperCipher(PAPER, bytes(16))
    page = bytearray(cipher.header_page(SpoolHeader(PAPER, "acme", b"age")))
    assert cipher.header_is_ours(bytes(page))
    for place in range(HEADER_SIZE):
        page[place] ^= 1
        assert not cipher.header_is_ours(bytes(page))
        page[place] ^= 1
    assert not PaperCipher(PAPER, bytes(15) + b"x").header_is_ours(bytes(page))
    assert not PaperCipher(OTHER, bytes(16)).header_is_ours(bytes(page))


@given(st.binary(min_size=12, max_size=12), st.integers(1, BLOCK), st.data())
def test_slot_heads_come_back(nonce: bytes, length: int, data: st.DataObject) -> None:
    tail = data.draw(st.integers(0, length))
    head = SlotHead(nonce, length, data.draw(st.integers(0, tail)), tail)
    space = memoryview(bytearray(STRIDE))
    encode_head(space, head)
    assert decode_head(space) == head


def test_slot_heads_out_of_range() -> None:
    assert decode_head(bytes(HEAD)) is None
    for head in (SlotHead(bytes(12), BLOCK + 1, 0, 0), SlotHead(bytes(12), 5, 4, 3), SlotHead(bytes(12), 5, 6, 6), SlotHead(b"x" * 12, 0, 0, 0)):
        space = memoryview(bytearray(STRIDE))
        encode_head(space, head)
        with pytest.raises(FormatError):
            decode_head(space)


def test_places() -> None:
    assert slot_offset(0) == HEADER_SIZE
    assert slot_offset(3) - slot_offset(2) == STRIDE == slot_size(BLOCK)
    assert [block_count(size) for size in (0, 1, BLOCK, BLOCK + 1)] == [0, 1, 1, 2]


@given(arrivals)
def test_arrivals_come_back(arrival: Arrival) -> None:
    footer = Footer(7, 4200, bytes(32), arrival)
    assert decode_footer(footer.encode()) == footer


def test_times_have_z_and_microseconds() -> None:
    arrival = Arrival(PAPER, "c", "p", "/", datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2))), None, "", "", "")
    assert arrival.to_json()["received_at"] == "2024-05-01T10:00:00.000000Z"


@pytest.mark.parametrize("change", [{"paper": 1}, {"received_at": "2024-05-01"}, {"received_at": "x"}, {"modified_at": 5}, {"more": "x"}])
def test_malformed_arrivals_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"arrival|Invalid"):
        Arrival.from_json(some_arrival().to_json() | change)


@given(st.binary(max_size=300))
def test_malformed_footers_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_footer(data)


def test_sealed_footer_opens_only_as_it_was() -> None:
    cipher = PaperCipher(PAPER, bytes(16))
    footer = Footer(7, 4200, bytes(32), some_arrival())
    sealed = cipher.seal_footer(footer)
    trailer = decode_trailer(sealed[-TRAILER:], 10_000)
    assert trailer is not None
    assert trailer.footer_size == len(sealed)
    body = sealed[:-TRAILER]
    assert cipher.open_footer(body, trailer) == footer
    for wrong in (body[:-1] + bytes([body[-1] ^ 1]), bytes([body[0] ^ 1]) + body[1:]):
        with pytest.raises(FormatError):
            cipher.open_footer(wrong, trailer)
    with pytest.raises(FormatError):
        cipher.open_footer(body, Trailer(8, trailer.sealed))
    with pytest.raises(FormatError):
        PaperCipher(OTHER, bytes(16)).open_footer(body, trailer)


def test_a_footer_of_another_paper_is_refused_even_under_this_key() -> None:
    cipher = PaperCipher(PAPER, bytes(16))
    sealed = cipher.seal_footer(Footer(7, 4200, bytes(32), some_arrival(OTHER)))
    trailer = decode_trailer(sealed[-TRAILER:], 10_000)
    assert trailer is not None
    with pytest.raises(FormatError):
        cipher.open_footer(sealed[:-TRAILER], trailer)


def test_facts_that_are_too_large_are_refused() -> None:
    with pytest.raises(FormatError):
        PaperCipher(PAPER, bytes(16)).seal_footer(Footer(7, 4200, bytes(32), some_arrival(software="x" * 70_000)))


def test_what_is_no_trailer() -> None:
    good = Trailer(5, 100).encode()
    assert decode_trailer(good, HEADER_SIZE + 100 + TRAILER) == Trailer(5, 100)
    assert decode_trailer(good, HEADER_SIZE + 99 + TRAILER) is None
    assert decode_trailer(good[1:], 10_000) is None
    assert decode_trailer(bytes(TRAILER), 10_000) is None
    assert decode_trailer(Trailer((1 << 40) + 1, 100).encode(), 10_000) is None
    assert decode_trailer(Trailer(5, 1 << 20).encode(), 1 << 30) is None
