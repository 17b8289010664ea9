"""Writing, seeking and reading payloads; what a damaged one may and may not do."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.age import (
    AgeError,
    HeaderError,
    HmacError,
    Identity,
    NoMatchError,
    PayloadError,
    SealWriter,
    new_header,
    open_bytes,
    open_payload,
    open_sealed,
    open_stream,
    read_header,
    seal,
    seal_bytes,
)
from gateway.age.header import FILE_KEY_SIZE
from gateway.age.stream import CHUNK, NONCE_SIZE, SEALED_CHUNK, TAG, ChunkCipher, layout, sealed_length

VECTORS = Path(__file__).parents[1] / "vectors" / "age"
IDENTITY = Identity.generate()
TO_US = [IDENTITY.recipient]
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 17 * CHUNK, 33 * CHUNK + 5]
sizes = st.one_of(st.integers(0, 3 * CHUNK), st.sampled_from(SIZES))


def plain(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_round_trip(size: int) -> None:
    file = seal_bytes(plain(size), TO_US)
    assert open_bytes(file, [IDENTITY]) == plain(size)
    assert b"".join(map(bytes, open_stream(io.BytesIO(file), [IDENTITY]))) == plain(size)


@settings(max_examples=60, deadline=None)
@given(sizes, st.lists(st.integers(1, 3 * CHUNK), max_size=12), st.data())
def test_any_pattern_of_writes_then_any_of_reads(size: int, pieces: list[int], data: st.DataObject) -> None:
    content = plain(size)
    sink = io.BytesIO()
    writer = seal(sink, TO_US)
    place = 0
    for piece in pieces:
        assert writer.write(content[place : place + piece]) == len(content[place : place + piece])
        place += piece
    writer.write(memoryview(content)[place:])
    writer.close()
    assert (writer.size, writer.sealed_size) == (size, len(sink.getvalue()))
    assert sink.getvalue().startswith(writer.header)
    assert len(sink.getvalue()) == len(writer.header) + NONCE_SIZE + sealed_length(size)

    reader = open_sealed(io.BytesIO(sink.getvalue()), [IDENTITY])
    mirror = io.BytesIO(content)
    assert reader.size == size
    for _ in range(12):
        whence = data.draw(st.sampled_from([0, 1, 2]))
        base = (0, mirror.tell(), size)[whence]
        target = max(0, data.draw(st.one_of(st.integers(0, size + 9), st.sampled_from([CHUNK - 1, CHUNK, 2 * CHUNK]))))
        assert reader.seek(target - base, whence) == mirror.seek(target - base, whence) == reader.tell()
        length = data.draw(st.one_of(st.integers(-1, 9), st.integers(0, 3 * CHUNK)))
        if data.draw(st.booleans()):
            assert reader.read(length) == mirror.read(length)
        else:
            ours, theirs = bytearray(abs(length)), bytearray(abs(length))
            assert reader.readinto(ours) == mirror.readinto(theirs)
            assert ours == theirs
        assert reader.tell() == mirror.tell()


def test_every_flip_of_every_byte_is_detected() -> None:
    """Each of the eight bits of each byte of a small file, through both readers and with the file key."""
    sealed = io.BytesIO()
    with seal(sealed, TO_US) as writer:
        writer.write(b"The quick brown fox")
    file = sealed.getvalue()
    for place in range(len(file)):
        for bit in range(8):
            changed = bytearray(file)
            changed[place] ^= 1 << bit
            with pytest.raises(AgeError):
                open_bytes(bytes(changed), [IDENTITY])
            if bit == place % 8:
                with pytest.raises(AgeError):
                    b"".join(open_stream(io.BytesIO(changed), [IDENTITY]))


def test_a_flip_anywhere_in_a_large_file_is_detected() -> None:
    file = seal_bytes(plain(3 * CHUNK + 99), TO_US)
    draw = random.Random(7)
    places = {draw.randrange(len(file)) for _ in range(150)} | {len(file) - 1, len(file) - 16, len(file) - 17, len(file) - SEALED_CHUNK}
    for place in places:
        changed = bytearray(file)
        changed[place] ^= 1 << draw.randrange(8)
        with pytest.raises(AgeError):
            open_bytes(bytes(changed), [IDENTITY])


def test_every_cut_is_detected() -> None:
    file = seal_bytes(plain(CHUNK + 40), TO_US)
    payload = len(read_header(io.BytesIO(file))) + NONCE_SIZE
    for length in [*range(payload + 40), *range(payload + SEALED_CHUNK - 20, len(file))]:
        with pytest.raises(AgeError):
            open_bytes(file[:length], [IDENTITY])
        with pytest.raises(AgeError):
            b"".join(open_stream(io.BytesIO(file[:length]), [IDENTITY]))
    for more in (b"x", b"x" * 16, b"x" * 17, b"x" * SEALED_CHUNK):
        with pytest.raises(PayloadError):
            open_bytes(file + more, [IDENTITY])


def test_a_damaged_chunk_hides_nothing_else_and_shows_nothing_of_itself() -> None:
    content = plain(4 * CHUNK)
    file = bytearray(seal_bytes(content, TO_US))
    start = len(read_header(io.BytesIO(bytes(file)))) + NONCE_SIZE
    file[start + SEALED_CHUNK + 5] ^= 1  # the second chunk
    reader = open_sealed(io.BytesIO(bytes(file)), [IDENTITY])
    assert reader.read(CHUNK) == content[:CHUNK]
    buffer = bytearray(b"\xaa" * (3 * CHUNK))
    with pytest.raises(PayloadError, match="chunk 1"):
        reader.readinto(buffer)
    assert reader.tell() == CHUNK
    assert buffer[:CHUNK] in (bytes(CHUNK), b"\xaa" * CHUNK)
    with pytest.raises(PayloadError):
        reader.read(1)  # through the cache, too
    reader.seek(2 * CHUNK - 1)
    with pytest.raises(PayloadError):
        reader.read(2)
    reader.seek(2 * CHUNK)
    assert reader.read() == content[2 * CHUNK :]


def test_one_byte_at_the_end_of_ten_gibibytes(tmp_path: Path) -> None:
    """A file of which only header and last chunk were written: opening and reading the end touches nothing else."""
    size = 10 * 1024**3
    sealed = new_header(TO_US)
    nonce = bytes(NONCE_SIZE)
    last = layout(sealed_length(size)).last
    chunk = memoryview(bytearray(SEALED_CHUNK))
    ChunkCipher(sealed.file_key, nonce).seal_into(last, True, memoryview(b"z" * CHUNK), chunk)
    path = tmp_path / "large.age"
    with path.open("wb") as file:
        file.write(sealed.header + nonce)
        file.seek(last * SEALED_CHUNK, 1)
        file.write(chunk)
    with open_sealed(path.open("rb"), [IDENTITY]) as reader:
        assert reader.size == size
        assert reader.seek(-1, 2) == size - 1
        assert reader.read() == b"z"
        reader.seek(size // 2)
        with pytest.raises(PayloadError):
            reader.read(1)


@given(st.integers(0, 5 * SEALED_CHUNK))
@example(0)
@example(TAG)
@example(SEALED_CHUNK + TAG)
@example(SEALED_CHUNK + TAG + 1)
def test_layout_is_the_inverse_of_sealed_length(sealed: int) -> None:
    try:
        shape = layout(sealed)
    except PayloadError:
        assert all(sealed_length(size) != sealed for size in range(max(0, sealed - 200), sealed))
        return
    assert sealed_length(shape.size) == sealed
    assert sum(shape.plain_length(number) for number in range(shape.chunks)) == shape.size


class Dribble:
    """A sink that takes little at a time."""

    def __init__(self) -> None:
        self.taken = b""

    def write(self, data: memoryview) -> int:
        part = bytes(data[:70_001])
        self.taken += part
        return len(part)


class Full:
    """A sink that is full after a while."""

    def __init__(self) -> None:
        self.calls = 0

    def write(self, data: memoryview) -> None:
        self.calls += 1
        if self.calls == 3:
            raise OSError(28, "No space left on device")


def test_short_writes_are_continued() -> None:
    sink = Dribble()
    with seal(sink, TO_US) as writer:
        writer.write(plain(40 * CHUNK))
    assert writer.sealed_size == len(sink.taken)
    assert open_bytes(sink.taken, [IDENTITY]) == plain(40 * CHUNK)


def test_a_writer_that_broke_never_ends_its_file() -> None:
    sink = Full()
    writer = seal(sink, TO_US)
    with pytest.raises(OSError, match="No space"):
        for _ in range(100):
            writer.write(bytes(CHUNK))
    with pytest.raises(ValueError, match="broke"):
        writer.write(b"more")
    writer.close()
    assert sink.calls == 3


def test_an_exception_leaves_the_file_cut_off() -> None:
    sink = io.BytesIO()
    with pytest.raises(KeyError), seal(sink, TO_US) as writer:
        writer.write(plain(20 * CHUNK))
        raise KeyError
    with pytest.raises(AgeError):
        open_bytes(sink.getvalue(), [IDENTITY])
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"x")


def test_close_twice_and_sink_stays_open() -> None:
    sink = io.BytesIO()
    writer = seal(sink, TO_US)
    writer.close()
    once = sink.getvalue()
    writer.close()
    assert sink.getvalue() == once
    assert not sink.closed
    assert open_bytes(once, [IDENTITY]) == b""


def test_writes_of_32_kib_reach_the_sink_in_large_pieces() -> None:
    class Counting(io.BytesIO):
        calls = 0

        def write(self, data: memoryview, /) -> int:  # type: ignore[override]
            self.calls += 1
            return super().write(data)

    sink = Counting()
    with seal(sink, TO_US) as writer:
        for _ in range(1024):
            writer.write(bytes(32 * 1024))
    assert sink.calls <= 35  # 32 MiB


def test_other_buffers() -> None:
    import array

    numbers = array.array("I", range(50_000))
    sink = io.BytesIO()
    with seal(sink, TO_US) as writer:
        assert writer.write(numbers) == len(numbers.tobytes())
        assert writer.write(bytearray(b"abc")) == 3
    assert open_bytes(sink.getvalue(), [IDENTITY]) == numbers.tobytes() + b"abc"


def test_closing() -> None:
    file = io.BytesIO(seal_bytes(b"x", TO_US))
    with open_sealed(file, [IDENTITY]) as reader:
        assert reader.readable()
        assert reader.seekable()
        assert not reader.writable()
    assert file.closed
    for use in (reader.read, reader.tell, lambda: reader.seek(0), lambda: reader.readinto(bytearray(1))):
        with pytest.raises(ValueError, match="closed"):
            use()
    reader.close()


def test_closing_armour() -> None:
    """The file itself is closed, not only what reads its armour; and not when it did not open."""
    text = (VECTORS / "cctv" / "armor_x25519").read_bytes().partition(b"\n\n")[2]
    ours = Identity.parse("AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0")
    file = io.BytesIO(text)
    with pytest.raises(NoMatchError):
        open_sealed(file, [IDENTITY])
    file.seek(0)
    open_sealed(file, [ours]).close()
    assert file.closed


def test_a_file_that_did_not_open_stays_open() -> None:
    """Also when the half-made reader has been collected."""
    file = io.BytesIO(seal_bytes(plain(CHUNK + 1), TO_US)[:-1])
    for _ in range(2):
        file.seek(0)
        with pytest.raises(PayloadError):
            open_sealed(file, [IDENTITY])
        assert not file.closed
    whole = io.BytesIO(seal_bytes(b"x", TO_US))
    assert b"".join(open_stream(whole, [IDENTITY])) == b"x"
    assert not whole.closed


def test_it_is_a_file_like_any_other() -> None:
    reader = open_sealed(io.BytesIO(seal_bytes(b"one\ntwo\nthree", TO_US)), [IDENTITY])
    assert list(reader) == [b"one\n", b"two\n", b"three"]
    reader.seek(0)
    assert reader.read1(3) == b"one"
    assert reader.read(0) == b""
    assert reader.read(None) == b"\ntwo\nthree"
    assert reader.read() == b""
    with pytest.raises(ValueError, match="before the start"):
        reader.seek(-1)
    with pytest.raises(ValueError, match="whence"):
        reader.seek(0, 9)
    with pytest.raises(io.UnsupportedOperation):
        reader.write(b"x")
    assert "13 bytes" in repr(reader)


def test_behind_a_prefix() -> None:
    """The file need not begin where the header does."""
    file = io.BytesIO(b"prefix" + seal_bytes(plain(CHUNK * 2), TO_US))
    file.seek(6)
    assert open_sealed(file, [IDENTITY]).read() == plain(CHUNK * 2)


def test_open_payload() -> None:
    sealed = new_header(TO_US)
    sink = io.BytesIO()
    with SealWriter(sink, sealed.header, sealed.file_key) as writer:
        writer.write(b"with a key")
    assert open_payload(io.BytesIO(sink.getvalue()), sealed.file_key).read() == b"with a key"
    with pytest.raises(HmacError):
        open_payload(io.BytesIO(sink.getvalue()), bytes(FILE_KEY_SIZE))
    with pytest.raises(HeaderError):
        open_payload(io.BytesIO(sealed.header), sealed.file_key)


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.age"
    path.write_bytes(seal_bytes(plain(5 * CHUNK), TO_US))
    with open_sealed(path.open("rb", buffering=0), [IDENTITY]) as reader:
        with path.open("r+b") as file:
            file.truncate(1000)
        with pytest.raises(PayloadError, match="shorter"):
            reader.read()
