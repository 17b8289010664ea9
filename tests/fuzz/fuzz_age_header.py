"""Fuzz target for what `gateway.age` parses of a stranger's file: header, armour, and the file as a whole.

`python tests/fuzz/fuzz_age_header.py [CORPUS…] [-max_total_time=SECONDS]` (libFuzzer's options). Any exception but ours is a finding, and so is
a header that is taken but would be written otherwise, or armour on which the two readers disagree.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["gateway.age"]):
    from gateway.age import AgeError, Identity, open_bytes, open_stream, read_header
    from gateway.age.armor import ArmoredFile, ArmoredStream
    from gateway.age.header import parse

# the identity of the CCTV vectors, so that their files are a corpus that opens
IDENTITY = Identity.parse("AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0")


def header(data: bytes) -> None:
    """Parsing and writing are inverse; the reader stops where the parser does."""
    try:
        parsed = parse(data)
    except AgeError:
        return
    assert parsed.encode() == data
    file = io.BytesIO(data + b"payload")
    assert read_header(file) == data
    assert file.tell() == len(data)


def armor(data: bytes) -> None:
    """Both readers of armour give the same bytes, or both refuse."""
    results: list[bytes | None] = []
    for reader in (ArmoredFile, ArmoredStream):
        try:
            results.append(reader(io.BytesIO(data)).readall())
        except AgeError:
            results.append(None)
    assert results[0] == results[1]


def whole(data: bytes) -> None:
    """The seekable and the sequential reader agree on whether a file opens."""
    results: list[bytes | None] = []
    for attempt in (lambda: open_bytes(data, [IDENTITY]), lambda: b"".join(map(bytes, open_stream(io.BytesIO(data), [IDENTITY])))):
        try:
            results.append(attempt())
        except AgeError:
            results.append(None)
    assert results[0] == results[1]


def one_input(data: bytes) -> None:
    """What libFuzzer calls."""
    header(data)
    header(data[: data.rfind(b"\n") + 1])
    armor(data)
    whole(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
