"""The header's grammar: one way to write each header, bounded, and nothing but our errors for anything else."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.age import AgeError, HeaderError, HmacError, Identity, encoding, header_mac, new_header, read_header, unwrap
from gateway.age.header import HEADER_MAX, Header, Stanza, parse, sign

IDENTITY = Identity.generate()
visible = st.text(alphabet=[chr(code) for code in range(33, 127)], min_size=1, max_size=70)
stanzas = st.builds(Stanza, visible, st.lists(visible, max_size=4).map(tuple), st.binary(max_size=200))
headers = st.builds(Header, st.lists(stanzas, min_size=1, max_size=4).map(tuple), st.binary(min_size=32, max_size=32))


@given(headers)
@example(Header((Stanza("x", (), b"y" * 48),), bytes(32)))  # a full line, so an empty one behind it
@example(Header((Stanza("x", ("---",), b"y" * 47),), bytes(32)))  # a last line of 63 characters, the longest
@example(Header((Stanza("x", ("---",), b""),), bytes(32)))
def test_round_trip(header: Header) -> None:
    raw = header.encode()
    assert parse(raw) == header
    assert header_mac(raw) == header.mac
    file = io.BytesIO(raw + b"payload")
    assert read_header(file) == raw
    assert file.read() == b"payload"


@given(headers, st.data())
def test_a_changed_header_is_refused_or_another_header(header: Header, data: st.DataObject) -> None:
    """No two texts mean the same header."""
    raw = bytearray(header.encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    try:
        changed = parse(bytes(raw))
    except HeaderError:
        return
    assert changed != header
    assert changed.encode() == bytes(raw)


@given(st.binary(max_size=400))
@example(b"")
@example(b"age-encryption.org/v1\n")
@example(b"age-encryption.org/v1\n---")
@example(b"age-encryption.org/v1\n-> \n\n")
def test_anything_at_all(raw: bytes) -> None:
    for attempt in (lambda: parse(raw), lambda: read_header(io.BytesIO(raw)), lambda: unwrap(raw, [IDENTITY])):
        with pytest.raises(AgeError):
            attempt()


@given(st.binary(max_size=100))
def test_base64_has_one_form(data: bytes) -> None:
    text = encoding.encode(data)
    assert encoding.decode(text) == data
    for spoilt in (text + "=", text + "\n", text + " ", "\n" + text, text + "é", text + "A" * (4 - len(text) % 4 or 4) + "="):
        with pytest.raises(HeaderError):
            encoding.decode(spoilt)


@pytest.mark.parametrize("text", ["A", "AA=", "AA==", "AB", "AAB", "AA-_", "AA\r\n", "AAAAA", "=", "AA A"])
def test_base64_that_is_malleable(text: str) -> None:
    with pytest.raises(HeaderError):
        encoding.decode(text)


def test_every_change_of_every_header_byte() -> None:
    """All 255 other values of each byte of a real header: never the key."""
    sealed = new_header([IDENTITY.recipient, Identity.generate().recipient])
    assert unwrap(sealed.header, [IDENTITY]) == sealed.file_key
    for place in range(len(sealed.header)):
        for flip in range(1, 256, 2):
            raw = bytearray(sealed.header)
            raw[place] ^= flip
            with pytest.raises(AgeError):
                unwrap(bytes(raw), [IDENTITY])


def test_every_cut_of_a_header() -> None:
    sealed = new_header([IDENTITY.recipient])
    for length in range(len(sealed.header)):
        with pytest.raises(HeaderError):
            unwrap(sealed.header[:length], [IDENTITY])
        with pytest.raises(HeaderError):
            read_header(io.BytesIO(sealed.header[:length]))
    with pytest.raises(HeaderError):
        unwrap(sealed.header + b"\n", [IDENTITY])


def test_a_stanza_added_or_removed_is_an_hmac_error() -> None:
    other = Identity.generate()
    sealed = new_header([IDENTITY.recipient, other.recipient])
    header = parse(sealed.header)
    for changed in (header.stanzas[:1], (*header.stanzas, Stanza("grease", (), b"")), header.stanzas[::-1]):
        with pytest.raises(HmacError):
            unwrap(Header(changed, header.mac).encode(), [IDENTITY])
    assert unwrap(sign(header.stanzas[:1], sealed.file_key).encode(), [IDENTITY]) == sealed.file_key


class Endless(io.RawIOBase):
    """A hostile file without an end, and a count of what was read of it."""

    def __init__(self, start: bytes, rest: bytes) -> None:
        super().__init__()
        self._start = start
        self._rest = rest
        self.given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        for place in range(len(buffer)):
            at = self.given + place
            buffer[place] = self._start[at] if at < len(self._start) else self._rest[(at - len(self._start)) % len(self._rest)]
        self.given += len(buffer)
        return len(buffer)


@pytest.mark.parametrize(
    ("start", "rest"),
    [
        (b"", b"x"),
        (b"age-encryption.org/", b"v"),
        (b"age-encryption.org/v1\n-> ", b"x"),
        (b"age-encryption.org/v1\n", b"-> x\n\n"),
        (b"age-encryption.org/v1\n", b"\n"),
        (b"age-encryption.org/v1\n-> x\n", b"A" * 64 + b"\n"),
    ],
)
def test_an_endless_header_is_not_read_to_its_end(start: bytes, rest: bytes) -> None:
    file = Endless(start, rest)
    with pytest.raises(HeaderError):
        read_header(file)
    assert file.given <= HEADER_MAX + 1


def test_the_bound_is_exact() -> None:
    def header(size: int) -> bytes:
        empty = len(Header((Stanza("x", ("a",), b""),), bytes(32)).encode()) - 1
        return Header((Stanza("x", ("a" * (size - empty),), b""),), bytes(32)).encode()

    assert len(header(HEADER_MAX)) == HEADER_MAX
    assert read_header(io.BytesIO(header(HEADER_MAX))) == header(HEADER_MAX)
    parse(header(HEADER_MAX))
    with pytest.raises(HeaderError, match="longer"):
        read_header(io.BytesIO(header(HEADER_MAX + 1)))
    with pytest.raises(HeaderError, match="longer"):
        parse(header(HEADER_MAX + 1))
