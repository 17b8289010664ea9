"""The SFTP codec: what is written is read back; what is not SFTP raises Malformed and nothing else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sftp.protocol import decoding as protocol
from gateway.sftp.protocol import replies
from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.decoding import Unpacker, decode
from gateway.sftp.protocol.wire import (
    ADVERTISED_PAYLOAD,
    FSTATVFS,
    FSYNC,
    LIMITS,
    MAX_HANDLE,
    MAX_PACKET,
    MAX_PATH,
    MAX_PAYLOAD,
    POSIX_RENAME,
    STATVFS,
    Status,
    Type,
)

numbers = st.integers(0, 2**32 - 1)
offsets = st.integers(0, 2**64 - 1)
paths = st.binary(max_size=MAX_PATH)
handles = st.binary(max_size=MAX_HANDLE)
optional = st.none() | numbers


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


@st.composite
def attributes(draw: st.DrawFn) -> tuple[ask.Attributes, bytes]:
    """Attributes, and a block of bytes that says the same (with an owner and extensions that are ignored)."""
    size = draw(st.none() | offsets)
    permissions = draw(optional)
    times = draw(st.none() | st.tuples(numbers, numbers))
    owner = draw(st.none() | st.tuples(numbers, numbers))
    extended = draw(st.none() | st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=3))
    flags = 0
    raw = b""
    if size is not None:
        flags |= 1
        raw += struct.pack(">Q", size)
    if owner is not None:
        flags |= 2
        raw += struct.pack(">II", *owner)
    if permissions is not None:
        flags |= 4
        raw += struct.pack(">I", permissions)
    if times is not None:
        flags |= 8
        raw += struct.pack(">II", *times)
    if extended is not None:
        flags |= 0x80000000
        raw += struct.pack(">I", len(extended)) + b"".join(text(name) + text(value) for name, value in extended)
    atime, mtime = times or (None, None)
    return ask.Attributes(size, permissions, atime, mtime), struct.pack(">I", flags) + raw


@st.composite
def requests(draw: st.DrawFn) -> tuple[ask.Request, bytes]:
    """A request, and its packet's body as a client writes it (RFC draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL for extensions)."""
    number = draw(numbers)
    path, other, handle = draw(paths), draw(paths), draw(handles)
    wanted, block = draw(attributes())
    offset, length, data = draw(offsets), draw(numbers), draw(st.binary(max_size=300))
    head = struct.pack(">I", number)

    def packet(kind: int, *fields: bytes) -> bytes:
        return bytes([kind]) + head + b"".join(fields)

    def extended(name: bytes, *fields: bytes) -> bytes:
        return packet(200, text(name), *fields)

    flags = draw(numbers)
    choices: list[tuple[ask.Request, bytes]] = [
        (ask.Init(number), packet(1)),
        (ask.Open(number, path, flags, wanted), packet(3, text(path), struct.pack(">I", flags), block)),
        (ask.Close(number, handle), packet(4, text(handle))),
        (ask.Read(number, handle, offset, length), packet(5, text(handle), struct.pack(">QI", offset, length))),
        (ask.Write(number, handle, offset, memoryview(data)), packet(6, text(handle), struct.pack(">Q", offset), text(data))),
        (ask.Stat(number, path), packet(7, text(path))),
        (ask.HandleStat(number, handle), packet(8, text(handle))),
        (ask.SetStat(number, path, wanted), packet(9, text(path), block)),
        (ask.HandleSetStat(number, handle, wanted), packet(10, text(handle), block)),
        (ask.OpenFolder(number, path), packet(11, text(path))),
        (ask.ReadFolder(number, handle), packet(12, text(handle))),
        (ask.Remove(number, path), packet(13, text(path))),
        (ask.MakeFolder(number, path), packet(14, text(path), block)),
        (ask.RemoveFolder(number, path), packet(15, text(path))),
        (ask.RealPath(number, path), packet(16, text(path))),
        (ask.Stat(number, path), packet(17, text(path))),
        (ask.Rename(number, path, other, False), packet(18, text(path), text(other))),
        (ask.Unsupported(number, "readlink"), packet(19, text(path))),
        (ask.Unsupported(number, "symlink"), packet(20, text(path), text(other))),
        (ask.Rename(number, path, other, True), extended(POSIX_RENAME, text(path), text(other))),
        (ask.Sync(number, handle), extended(FSYNC, text(handle))),
        (ask.FileSystem(number, path), extended(STATVFS, text(path))),
        (ask.HandleFileSystem(number, handle), extended(FSTATVFS, text(handle))),
        (ask.Limits(number), extended(LIMITS)),
        (ask.Unsupported(number, "copy-data"), extended(b"copy-data", data)),
        (ask.Unsupported(number, "hardlink@openssh.com"), extended(b"hardlink@openssh.com", text(path), text(other))),
    ]
    return draw(st.sampled_from(choices))


@given(requests())
def test_a_request_is_read_as_it_was_meant(case: tuple[ask.Request, bytes]) -> None:
    request, body = case
    assert decode(memoryview(body)) == request


@given(requests(), st.data())
def test_a_request_that_is_cut_or_extended_is_malformed(case: tuple[ask.Request, bytes], data: st.DataObject) -> None:
    request, body = case
    if isinstance(request, ask.Init | ask.Unsupported):
        return
    cut = data.draw(st.integers(5, len(body) - 1)) if len(body) > 5 else 5
    if cut < len(body):
        with pytest.raises(ask.Malformed) as caught:
            decode(memoryview(body[:cut]))
        assert caught.value.request_id == request.id
    with pytest.raises(ask.Malformed):
        decode(memoryview(body + b"\0"))


@given(st.binary(max_size=400))
def test_garbage_never_raises_anything_else(body: bytes) -> None:
    try:
        decode(memoryview(body))
    except ask.Malformed:
        return


@given(st.sampled_from(list(Type)), numbers, st.lists(st.one_of(st.binary(max_size=8), numbers.map(lambda n: struct.pack(">I", n))), max_size=8))
def test_packets_with_lying_lengths_never_raise_anything_else(kind: Type, number: int, pieces: list[bytes]) -> None:
    body = struct.pack(">BI", kind, number) + b"".join(pieces)
    try:
        decode(memoryview(body))
    except ask.Malformed as error:
        assert error.request_id == number


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\x07" + struct.pack(">I", 1) + text(b"x" * (MAX_PATH + 1)), "name of"),
        (b"\x04" + struct.pack(">I", 1) + text(b"x" * (MAX_HANDLE + 1)), "handle of"),
        (b"\x06" + struct.pack(">I", 1) + text(b"h") + struct.pack(">Q", 0) + text(b"x" * (MAX_PAYLOAD + 1)), "data of"),
        (b"\x09" + struct.pack(">I", 1) + text(b"p") + struct.pack(">I", 0x10), "unknown attribute flags"),
        (b"\x09" + struct.pack(">I", 1) + text(b"p") + struct.pack(">II", 0x80000000, 0xFFFFFFFF), "ends within"),
        (b"\x07", "without a request id"),
    ],
)
def test_bounds(body: bytes, why: str) -> None:
    with pytest.raises(ask.Malformed, match=why):
        decode(memoryview(body))


@given(st.lists(st.binary(min_size=1, max_size=2000), max_size=20), st.data())
def test_packets_are_found_however_the_bytes_are_cut(bodies: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(text(body) for body in bodies)
    unpacker = Unpacker()
    found = []
    position = 0
    while position < len(stream):
        size = data.draw(st.integers(1, 700))
        unpacker.feed(stream[position : position + size])
        position += size
        while (body := unpacker.next()) is not None:
            found.append(bytes(body))
    assert found == bodies
    assert unpacker.buffered == 0


@settings(max_examples=30)
@given(st.integers(MAX_PACKET + 1, 2**32 - 1) | st.just(0))
def test_a_length_out_of_bounds_ends_the_session(length: int) -> None:
    unpacker = Unpacker()
    unpacker.feed(struct.pack(">I", length) + b"x")
    with pytest.raises(ask.Malformed) as caught:
        unpacker.next()
    assert caught.value.request_id is None


def unpacked(packet: bytes) -> bytes:
    (length,) = struct.unpack_from(">I", packet)
    assert length == len(packet) - 4
    return packet[4:]


@given(numbers, st.sampled_from(list(Status)), st.text(max_size=100))
def test_status(number: int, code: Status, message: str) -> None:
    body = unpacked(replies.status(number, code, message))
    kind, found, status, length = struct.unpack_from(">BIII", body)
    assert (kind, found, status) == (Type.STATUS, number, code)
    assert body[13 : 13 + length] == (message.encode("utf-8", "replace") or replies.DEFAULT_TEXTS[code])
    assert body[13 + length :] == bytes(4)


def test_ok_is_a_status_like_others() -> None:
    assert replies.ok(7) == replies.status(7, Status.OK)


@given(numbers, st.binary(max_size=4000))
def test_data_and_handle(number: int, payload: bytes) -> None:
    for kind, packet in ((Type.DATA, replies.data(number, payload)), (Type.HANDLE, replies.handle(number, payload))):
        assert unpacked(packet) == struct.pack(">BI", kind, number) + text(payload)


@given(numbers, offsets, st.integers(0, 0o177777), st.floats(-1e12, 1e12))
def test_attributes_hold_any_size_and_time(number: int, size: int, mode: int, mtime: float) -> None:
    body = unpacked(replies.attributes(number, replies.Facts(size, mode, mtime)))
    kind, found, flags, told, _, _, told_mode, _, told_time = struct.unpack(">BIIQIIIII", body)
    assert (kind, found, flags, told, told_mode) == (Type.ATTRS, number, 15, size, mode)
    assert told_time == min(max(int(mtime), 0), 2**32 - 1)


@given(st.lists(st.tuples(st.binary(max_size=255), offsets), max_size=5))
def test_names(listed: list[tuple[bytes, int]]) -> None:
    entries = [
        replies.Listed(name, replies.long_name(name, facts := replies.Facts(size, replies.FILE_MODE, 0), "acme", 1e9), facts) for name, size in listed
    ]
    body = unpacked(replies.names(3, entries))
    assert struct.unpack_from(">BII", body) == (Type.NAME, 3, len(listed))
    at = 9
    for name, size in listed:
        for expected in (name, None):
            (length,) = struct.unpack_from(">I", body, at)
            assert expected is None or body[at + 4 : at + 4 + length] == expected
            at += 4 + length
        assert struct.unpack_from(">IQ", body, at) == (15, size)
        at += 32
    assert at == len(body)


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (replies.Facts(12, replies.FILE_MODE, 1_000_000_000), b"-rw-------    1 acme     acme           12 Sep  9 01:46 a b"),
        (replies.Facts(0, replies.FOLDER_MODE, 0), b"drwx------    1 acme     acme            0 Jan  1  1970 a b"),
        (replies.Facts(5, replies.READ_ONLY_MODE, 1_000_000_100), b"-r--------    1 acme     acme            5 Sep  9  2001 a b"),
    ],
)
def test_the_line_of_ls(facts: replies.Facts, line: bytes) -> None:
    assert replies.long_name(b"a b", facts, "acme", 1_000_000_050) == line


def test_limits_are_below_what_is_taken() -> None:
    body = unpacked(replies.limits(1, 256))
    assert struct.unpack(">BI4Q", body) == (Type.EXTENDED_REPLY, 1, MAX_PAYLOAD, ADVERTISED_PAYLOAD, ADVERTISED_PAYLOAD, 256)


def test_the_greeting_lists_what_is_offered() -> None:
    body = unpacked(replies.version())
    assert body[:5] == struct.pack(">BI", Type.VERSION, 3)
    assert all(name in body for name in (POSIX_RENAME, STATVFS, FSTATVFS, FSYNC, LIMITS))
    assert b"hardlink" not in body


def test_space_in_blocks() -> None:
    body = unpacked(replies.space(1, replies.Space(4096 * 10, 4096 * 3, 7, 6, True)))
    assert struct.unpack(">BI11Q", body)[2:] == (4096, 4096, 10, 3, 3, 7, 6, 6, 0, 3, 255)


near = st.integers(-3, 3)


@st.composite
def usual(draw: st.DrawFn) -> bytes:
    """An OPEN, CLOSE or WRITE as clients send it, or one that is wrong in some place."""
    kind = draw(st.sampled_from([Type.OPEN, Type.CLOSE, Type.WRITE]))
    name = draw(st.binary(min_size=8, max_size=8) | st.binary(max_size=12))
    claimed = max(0, len(name) + draw(st.just(0) | near))
    raw = struct.pack(">BII", kind, draw(numbers), claimed) + name
    if kind == Type.WRITE:
        data = draw(st.binary(max_size=20))
        raw += struct.pack(">QI", draw(offsets), max(0, len(data) + draw(st.just(0) | near))) + data
    elif kind == Type.OPEN:
        raw += struct.pack(">I", draw(numbers)) + draw(attributes())[1]
    return raw[: len(raw) + min(0, draw(st.just(0) | near))] + draw(st.just(b"") | st.binary(max_size=3))


@given(usual())
@settings(max_examples=200)
def test_the_quick_way_reads_what_the_careful_one_reads(raw: bytes) -> None:
    def read() -> tuple[object, ...]:
        try:
            found = decode(memoryview(raw))
        except ask.Malformed as error:
            return error.text, error.request_id
        return type(found), tuple(bytes(field) if isinstance(field, memoryview) else field for field in found)

    quick = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "_USUAL", {})
        assert read() == quick


@pytest.mark.parametrize("extra", [0, 1])
def test_the_quick_way_has_the_same_bounds(extra: int) -> None:
    for raw in (
        struct.pack(">BII8sQI", Type.WRITE, 1, 8, bytes(8), 0, MAX_PAYLOAD + extra) + bytes(MAX_PAYLOAD + extra),
        struct.pack(">BI", Type.OPEN, 1) + text(b"a" * (MAX_PATH + extra)) + struct.pack(">III", 1, 4, 0),
    ):
        if extra:
            with pytest.raises(ask.Malformed, match="at most"):
                decode(memoryview(raw))
        else:
            decode(memoryview(raw))
