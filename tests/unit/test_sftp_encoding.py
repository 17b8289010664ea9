"""What one worker asks of another is what the other reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.decoding import Unpacker, decode
from gateway.sftp.protocol.encoding import encode, greeting
from gateway.sftp.workers.hello import Hello

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
paths, handles = st.binary(max_size=300), st.binary(max_size=16)
times = st.tuples(u32, u32) | st.just((None, None))
attributes = st.builds(lambda size, mode, when: ask.Attributes(size, mode, *when), st.none() | u64, st.none() | u32, times)
requests = st.one_of(
    st.builds(ask.Open, u32, paths, u32, attributes),
    st.builds(ask.Close, u32, handles),
    st.builds(ask.Read, u32, handles, u64, u32),
    st.builds(ask.Write, u32, handles, u64, st.binary(max_size=2000).map(memoryview)),
    st.builds(ask.Stat, u32, paths),
    st.builds(ask.HandleStat, u32, handles),
    st.builds(ask.SetStat, u32, paths, attributes),
    st.builds(ask.HandleSetStat, u32, handles, attributes),
    st.builds(ask.OpenFolder, u32, paths),
    st.builds(ask.ReadFolder, u32, handles),
    st.builds(ask.Remove, u32, paths),
    st.builds(ask.MakeFolder, u32, paths),
    st.builds(ask.RemoveFolder, u32, paths),
    st.builds(ask.RealPath, u32, paths),
    st.builds(ask.Rename, u32, paths, paths, st.booleans()),
    st.builds(ask.Sync, u32, handles),
    st.builds(ask.FileSystem, u32, paths),
    st.builds(ask.HandleFileSystem, u32, handles),
)


def reread(packet: bytes) -> ask.Request:
    unpacker = Unpacker()
    unpacker.feed(packet)
    body = unpacker.next()
    assert body is not None
    assert unpacker.buffered == 0
    return decode(body)


@given(requests)
def test_requests_come_back(request: ask.Request) -> None:
    assert reread(encode(request)) == request


def test_the_greeting_comes_back() -> None:
    assert reread(greeting()) == ask.Init(3)


def test_what_is_answered_here_is_not_passed_on() -> None:
    with pytest.raises(ValueError, match="not passed on"):
        encode(ask.Limits(1))


def test_hellos_come_back_and_others_are_refused() -> None:
    hello = Hello("bob", "acme", "192.0.2.1", "x\ny", "s", 3)
    assert Hello.decode(hello.encode().rstrip(b"\n")) == hello
    assert hello.encode().count(b"\n") == 1
    for line in (b"", b"[]", b"{}", b"{", hello.encode().replace(b"3", b'"3"'), hello.encode().replace(b'"bob"', b"7")):
        with pytest.raises(ValueError, match=r"."):
            Hello.decode(line)
