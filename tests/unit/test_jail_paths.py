"""Virtual paths never leave the jail, and come back as they were written."""

from __future__ import annotations

import os.path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.jail.paths import MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES, ROOT, VirtualPath, parse, path_of
from gateway.jail.refused import Refused

CHARACTERS = st.characters(exclude_characters="/\0", exclude_categories=("Cs",))
NAMES = st.text(CHARACTERS, min_size=1, max_size=60).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, max_size=8).map(lambda parts: VirtualPath(tuple(parts)))
HOSTILE = st.lists(st.sampled_from(["..", ".", "", "a", "..a", "...", "~", "inbox", "\\", "%2e%2e", "\n", " "]) | NAMES, max_size=20).map("/".join)


@settings(deadline=None)
@given(PATHS)
def test_what_is_written_is_read(path: VirtualPath) -> None:
    assert parse(str(path).encode()) == path
    assert path_of(str(path)) == path


@settings(deadline=None)
@given(HOSTILE, PATHS)
def test_no_path_leaves_the_jail(text: str, cwd: VirtualPath) -> None:
    path = parse(text.encode(), cwd)
    assert all(part not in ("", ".", "..") and "/" not in part and "\0" not in part for part in path.parts)
    expected = os.path.normpath("/" + (text if text.startswith("/") else f"{cwd}/{text}"))
    assert str(path) == "/" + expected.lstrip("/")


@settings(deadline=None)
@given(st.binary(max_size=5000), PATHS)
def test_any_bytes_give_a_path_or_a_refusal(raw: bytes, cwd: VirtualPath) -> None:
    try:
        path = parse(raw, cwd)
    except Refused as refused:
        assert refused.code == "bad_message"
    else:
        assert parse(str(path).encode()) == path
        assert len(str(path).encode()) <= MAX_PATH_BYTES


@settings(deadline=None)
@given(PATHS)
def test_parents_lead_to_the_root(path: VirtualPath) -> None:
    for _ in path.parts:
        assert path.is_within(path.parent)
        assert path.parent.child(path.name) == path
        path = path.parent
    assert path == ROOT == path.parent


LONG = [b"/" + b"a" * 256, "/é".encode() + b"a" * 254, b"/a" * (MAX_DEPTH + 1), b"x" * 5000]


@pytest.mark.parametrize("raw", [b"/a\0b", b"\xff", b"/\xed\xa0\x80", *LONG])
def test_refused(raw: bytes) -> None:
    with pytest.raises(Refused) as caught:
        parse(raw)
    assert caught.value.code == "bad_message"


def test_the_limits_themselves_are_allowed() -> None:
    assert parse(b"/" + b"a" * MAX_NAME_BYTES).parts == ("a" * MAX_NAME_BYTES,)
    assert len(parse(b"/a" * MAX_DEPTH).parts) == MAX_DEPTH
    longest = (b"/" + b"a" * 255) * (MAX_PATH_BYTES // 256)
    assert len(longest) == MAX_PATH_BYTES
    assert str(parse(longest)).encode() == longest
    with pytest.raises(Refused):
        parse(longest + b"/b")


def test_relative_and_empty() -> None:
    assert str(parse(b"")) == "/"
    assert str(parse(b"", "/inbox")) == "/inbox"
    assert str(parse(b"../x", "/inbox/a")) == "/inbox/x"
    assert str(parse(b"../../../etc/passwd", "/inbox")) == "/etc/passwd"


def test_a_path_cannot_be_made_that_leaves() -> None:
    for part in ("", ".", "..", "a/b", "a\0", "\ud800"):
        with pytest.raises(Refused):
            ROOT.child(part)


def test_within_is_by_component() -> None:
    assert not path_of("/inbox2").is_within(path_of("/inbox"))
    assert path_of("/inbox/a").is_within(path_of("/inbox"))
