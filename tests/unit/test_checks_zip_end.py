"""The end of a zip is found as Python's readers find it; what only looks like one is none."""

from __future__ import annotations

import io
import random
import zipfile

import pytest

from gateway.ingest.checks.archives import Limits, look_into
from gateway.ingest.checks.zip_end import END, LARGE_BYTES, TAIL_BYTES, end_in, is_ambiguous, is_zip


def zipped(comment: bytes = b"") -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a", b"x")
        archive.comment = comment
    return held.getvalue()


def told(content: bytes) -> bool:
    return is_zip(content[:4], content[-TAIL_BYTES:], len(content))


BARE, BEFORE = zipped(), b"MZ" + bytes(100_000)


WHOLE = {
    "bare": BARE,
    "comment": zipped(b"c" * 65_535),
    "bytes behind": BARE + b"signature",
    "half a record in it": zipped(b"PK\x05\x06 short"),
    "another record behind": BARE + b"PK\x05\x06" + bytes(30),
    "zeros behind": BARE + bytes(60_000),
    "empty": BARE[-22:],
}


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_a_zip_is_one_whatever_stands_before_it(content: bytes) -> None:
    assert told(content) and told(BEFORE + content)


def test_what_begins_as_a_zip_is_one_without_an_end() -> None:
    assert told(b"PK\x03\x04 cut")


@pytest.mark.parametrize("content", [b"", b"P", b"PK\x05", BEFORE, BEFORE + b"PK\x05\x06", BEFORE + b"PK\x05\x06" + b"letter " * 9])
def test_what_no_reader_takes_for_a_zip_is_none(content: bytes) -> None:
    assert not told(content)


def test_two_ends_that_readers_may_choose_from_are_told() -> None:
    assert not is_ambiguous(BARE) and not is_ambiguous(zipped(b"letter"))
    assert is_ambiguous(zipped(b"PK\x05\x06" + bytes(30)))
    twice = BARE[:-2] + len(BARE).to_bytes(2, "little") + BARE
    assert is_ambiguous(twice) and zipfile.ZipFile(io.BytesIO(twice)).namelist() == ["a"]
    late = zipped(b"PK\x05\x06" + bytes(16) + b"\5\0" + b"more")  # the last record lies about its comment; the first does not
    assert is_ambiguous(late)


def test_what_a_reader_opens_is_a_zip_to_us() -> None:
    dice = random.Random(7)
    for _ in range(400):
        content = bytearray(BEFORE[-50:] + zipped(dice.randbytes(dice.randrange(40))) + dice.randbytes(dice.randrange(3)))
        for _ in range(dice.randrange(4)):
            content[dice.randrange(len(content))] = dice.choice((0, 5, 6, 80, 75))
        try:
            names = zipfile.ZipFile(io.BytesIO(bytes(content))).namelist()
        except Exception:
            continue
        assert not names or told(bytes(content)), bytes(content)
        assert end_in(bytes(content)) is not None


LIMITS = Limits(100, 10_000_000, 100, 3, 1_000_000)


def large(monkeypatch: pytest.MonkeyPatch, name: str = "a") -> bytes:
    """A small archive with the end of a large one (zip64)."""
    held = io.BytesIO()
    with monkeypatch.context() as patch, zipfile.ZipFile(held, "w") as archive:
        patch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 0)
        archive.writestr(name, b"x")
        archive.close()
    return held.getvalue()


def fault(content: bytes) -> str:
    found = look_into(io.BytesIO(content), len(content), LIMITS)
    return found.code if found else ""


def test_the_end_of_a_large_archive_is_read_in_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = large(monkeypatch)
    end, locator, record = len(whole) - END.size, len(whole) - END.size - 20, len(whole) - END.size - LARGE_BYTES
    assert whole[locator:].startswith(b"PK\x06\x07") and whole[record:].startswith(b"PK\x06\x06")
    assert fault(whole) == fault(BEFORE + whole) == ""
    elsewhere = whole[: locator + 8] + (0).to_bytes(8, "little") + whole[locator + 16 :]
    hidden = b"PK\x06\x06" + whole[record + 4 : locator]  # another one, where the locator points: libarchive goes by that, Python by its place
    for name, content in {
        "the locator points elsewhere": elsewhere,
        "at another record": hidden + elsewhere,
        "no record before the locator": whole[:record] + b"XXXX" + whole[record + 4 :],
        "the two ends count differently": whole[: end + 8] + b"\5\0\5\0" + whole[end + 12 :],
        "a record that is longer": whole[:locator] + bytes(16) + whole[locator:],
    }.items():
        assert fault(content) == "archive-damaged", name


def test_two_directories_that_readers_may_choose_from_are_told() -> None:
    """Python takes the directory that lies before its end; others the one where it is said to be."""
    one, two = zipped(), zipped().replace(b"a", b"b")
    start = one.index(b"PK\x01\x02")
    both = one[:-22] + two
    told_first = both[:-6] + start.to_bytes(4, "little") + both[-2:]
    assert fault(told_first) == "archive-damaged"
    assert fault(BEFORE + two) == ""  # it only tells its places without what stands before it
