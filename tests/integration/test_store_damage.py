"""Tampering with spool files: every flipped byte, every moved, missing, added or older block is refused. Wrong bytes never come out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.age import AgeError
from gateway.store import SpoolDamaged, SpoolGone, SpoolTorn, StoreError
from gateway.store.format import BLOCK, HEAD, HEADER_SIZE, STRIDE, TRAILER, slot_offset, slot_size
from tests.integration.store_parts import Place, arrival_of


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def drain(place: Place, paper: str, key: bytes) -> bytes:
    with place.spool.open_landed(paper, file_key=key) as landed:
        return landed.read()


def is_refused(place: Place, paper: str, key: bytes) -> bool:
    try:
        drain(place, paper, key)
    except SpoolDamaged:
        return True
    return False


def flips(path: Path, places: Iterator[int] | range) -> Iterator[int]:
    """Each place once, with that byte of the file flipped while it is looked at."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        for offset in places:
            old = os.pread(descriptor, 1, offset)
            os.pwrite(descriptor, bytes([old[0] ^ (1 << offset % 8)]), offset)
            yield offset
            os.pwrite(descriptor, old, offset)
    finally:
        os.close(descriptor)


def test_every_byte_of_a_small_paper(place: Place) -> None:
    paper = place.landed_paper(b"a small paper")
    key = place.key(paper)
    path = place.landed / paper
    missed = [offset for offset in flips(path, range(path.stat().st_size)) if not is_refused(place, paper, key)]
    assert missed == []
    assert drain(place, paper, key) == b"a small paper"


def test_every_byte_of_the_header_when_opened_with_an_identity(place: Place) -> None:
    paper = place.landed_paper(b"a small paper")
    for offset in flips(place.landed / paper, range(HEADER_SIZE)):
        with pytest.raises((SpoolDamaged, AgeError)):
            place.read(paper)
            raise AssertionError(offset)


def test_bytes_of_a_large_paper_with_a_gap(place: Place) -> None:
    file = place.new(os.urandom(2 * BLOCK))
    file.write(3 * BLOCK + 5, os.urandom(BLOCK))
    paper = place.land(file)
    key = place.key(paper)
    path = place.landed / paper
    size = path.stat().st_size
    edges = {slot_offset(block) + step for block in range(6) for step in range(-40, 40)}
    offsets = sorted({offset for offset in edges | set(range(HEADER_SIZE, size, 997)) | set(range(size - 700, size)) if HEADER_SIZE <= offset < size})
    assert [offset for offset in flips(path, iter(offsets)) if not is_refused(place, paper, key)] == []


Change = Callable[[bytearray], bytes | bytearray]


def _slot(block: int) -> slice:
    return slice(slot_offset(block), slot_offset(block + 1))


def _swap(data: bytearray) -> bytearray:
    data[_slot(0)], data[_slot(1)] = data[_slot(1)], data[_slot(0)]
    return data


def _copy(data: bytearray) -> bytearray:
    data[_slot(1)] = data[_slot(0)]
    return data


def _blank(data: bytearray) -> bytearray:
    data[_slot(1)] = bytes(STRIDE)
    return data


CHANGES: dict[str, Change] = {
    "two blocks swapped": _swap,
    "a block in two places": _copy,
    "a block taken out": lambda data: data[: slot_offset(1)] + data[slot_offset(2) :],
    "a block blanked": _blank,
    "the last block cut off": lambda data: data[: slot_offset(2)] + data[slot_offset(2) + STRIDE :],
    "a byte appended": lambda data: data + b"\0",
    "a byte put before the footer": lambda data: data[: slot_offset(3)] + b"\0" + data[slot_offset(3) :],
    "a byte missing at the end": lambda data: data[:-1],
    "the trailer missing": lambda data: data[:-TRAILER],
    "the footer twice": lambda data: data + data[slot_offset(3) :],
    "only the header": lambda data: data[:HEADER_SIZE],
    "half a header": lambda data: data[: HEADER_SIZE // 2],
    "nothing": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_blocks_moved_missing_or_added(place: Place, name: str) -> None:
    paper = place.landed_paper(os.urandom(3 * BLOCK))
    key = place.key(paper)
    path = place.landed / paper
    path.write_bytes(CHANGES[name](bytearray(path.read_bytes())))
    assert is_refused(place, paper, key)


def test_a_byte_put_behind_a_short_last_block(place: Place) -> None:
    paper = place.landed_paper(b"short")
    key = place.key(paper)
    path = place.landed / paper
    data = path.read_bytes()
    end = slot_offset(0) + slot_size(5)
    path.write_bytes(data[:end] + b"\0" + data[end:])
    assert is_refused(place, paper, key)


def test_a_whole_file_under_another_name(place: Place) -> None:
    one, two = place.landed_paper(b"one"), place.landed_paper(b"two")
    (place.landed / one).write_bytes((place.landed / two).read_bytes())
    with pytest.raises(SpoolDamaged):
        place.read(one)
    with pytest.raises(SpoolDamaged):
        place.spool.header(one)


def test_an_older_block_of_the_same_place(place: Place) -> None:
    """It opens with the paper's key: only the digest in the footer tells."""
    file = place.new(bytes(3 * BLOCK))
    file.sync()
    older = (place.partial / file.paper).read_bytes()[_slot(1)]
    file.write(BLOCK, b"changed before it was finished")
    paper = place.land(file)
    path = place.landed / paper
    data = bytearray(path.read_bytes())
    data[_slot(1)] = older
    path.write_bytes(data)
    with pytest.raises(SpoolDamaged, match="put back"):
        place.read(paper)


def test_an_older_block_that_comes_back_after_opening(place: Place) -> None:
    file = place.new(bytes(3 * BLOCK))
    file.sync()
    older = (place.partial / file.paper).read_bytes()[_slot(1)]
    file.write(BLOCK, b"changed")
    paper = place.land(file)
    with place.spool.open_landed(paper, identities=[place.identity]) as landed:
        descriptor = os.open(place.landed / paper, os.O_WRONLY)
        os.pwrite(descriptor, older, slot_offset(1))
        os.close(descriptor)
        with pytest.raises(SpoolDamaged):
            landed.read()


def test_a_damaged_block_gives_nothing(place: Place) -> None:
    paper = place.landed_paper(b"x" * (2 * BLOCK))
    for _ in flips(place.landed / paper, iter([slot_offset(1) + HEAD + 5])):
        with place.spool.open_landed(paper, identities=[place.identity]) as landed:
            buffer = bytearray(b"-" * 2 * BLOCK)
            with pytest.raises(SpoolDamaged):
                landed.readinto(buffer)
            assert set(buffer[BLOCK:]) <= {0, ord("-")}
            assert landed.tell() == 0


TORN = [0, 1, HEAD - 1, HEAD, HEAD + 1, 4096, BLOCK // 2, HEAD + BLOCK, HEAD + BLOCK + 15, STRIDE - 12, STRIDE - 1]


@pytest.mark.parametrize("done", TORN)
def test_a_torn_last_block(place: Place, done: int) -> None:
    data = os.urandom(3 * BLOCK)
    file = place.new(data)
    file.sync()
    place.crash(file)
    os.truncate(place.partial / file.paper, slot_offset(2) + done)
    assert place.spool.prefix_size(file.paper) == 2 * BLOCK
    again = place.reopen(file.paper)
    assert again.read(0, 4 * BLOCK) == data[: 2 * BLOCK]
    again.write(again.size, data[2 * BLOCK :])
    assert place.read(place.land(again)) == data


@pytest.mark.parametrize("done", TORN)
def test_a_torn_overwrite(place: Place, done: int) -> None:
    """The new slot reached the disk up to `done` bytes; behind them is the old one."""
    old, new = os.urandom(3 * BLOCK), os.urandom(BLOCK)
    file = place.new(old)
    file.sync()
    path = place.partial / file.paper
    before = path.read_bytes()[_slot(1)]
    file.write(BLOCK, new)
    after = path.read_bytes()[_slot(1)]
    place.crash(file)
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, after[:done] + before[done:], slot_offset(1))
    os.close(descriptor)
    expected = 3 * BLOCK if done == 0 else BLOCK
    assert place.spool.prefix_size(file.paper) == expected
    again = place.reopen(file.paper)
    assert again.read(0, 4 * BLOCK) == old[:expected]


def test_a_block_that_only_the_key_finds_broken(place: Place) -> None:
    """After a power cut the middle of a block may be missing while its ends are there: the first reopening says so, and cuts."""
    data = os.urandom(3 * BLOCK)
    file = place.new(data)
    file.close()
    path = place.partial / file.paper
    for _ in flips(path, iter([slot_offset(1) + 5000])):
        assert place.spool.prefix_size(file.paper) == 3 * BLOCK
        key = place.key(file.paper)
        with pytest.raises(SpoolTorn):
            place.spool.reopen(file.paper, key)
        assert place.spool.prefix_size(file.paper) == BLOCK
        again = place.spool.reopen(file.paper, key)
        assert again.read(0, 4 * BLOCK) == data[:BLOCK]
        again.write(BLOCK, data[BLOCK:])
        assert again.read(0, 4 * BLOCK) == data
        again.discard()
        again.close()


@pytest.mark.parametrize("name", ["two blocks swapped", "a block in two places"])
def test_blocks_of_a_partial_keep_their_places(place: Place, name: str) -> None:
    data = os.urandom(3 * BLOCK)
    file = place.new(data)
    file.close()
    path = place.partial / file.paper
    path.write_bytes(CHANGES[name](bytearray(path.read_bytes())))
    with pytest.raises(SpoolTorn):
        place.reopen(file.paper)
    kept = 0 if name == "two blocks swapped" else BLOCK
    assert place.reopen(file.paper).read(0, 3 * BLOCK) == data[:kept]


def test_blocks_of_another_partial_do_not_open(place: Place) -> None:
    one, two = place.new(os.urandom(BLOCK)), place.new(os.urandom(BLOCK))
    one.close()
    two.close()
    stolen = bytearray((place.partial / one.paper).read_bytes())
    stolen[_slot(0)] = (place.partial / two.paper).read_bytes()[_slot(0)]
    (place.partial / one.paper).write_bytes(stolen)
    with pytest.raises(SpoolTorn):
        place.reopen(one.paper)


def test_a_forged_head_cannot_make_a_prefix_that_opens(place: Place) -> None:
    file = place.new(b"")
    file.write(100, b"island")
    file.close()
    path = place.partial / file.paper
    assert place.spool.prefix_size(file.paper) == 0
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, (106).to_bytes(4, "big") * 2, HEADER_SIZE + 16)
    os.close(descriptor)
    assert place.spool.prefix_size(file.paper) == 106
    with pytest.raises(SpoolTorn):
        place.reopen(file.paper)
    assert place.reopen(file.paper).size == 0


def test_a_torn_footer_is_no_footer(place: Place) -> None:
    data = os.urandom(BLOCK + 10)
    file = place.new(data)
    file.finish(arrival_of(file.paper))
    place.crash(file)
    path = place.partial / file.paper
    size = path.stat().st_size
    for _ in flips(path, iter([size - 100])):
        again = place.reopen(file.paper)
        assert not again.finished
        assert again.read(0, 2 * BLOCK) == data
        assert place.read(place.land(again)) == data
        break


@pytest.mark.parametrize("size", [0, 1, 100, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 10])
def test_partials_cut_off_early(place: Place, size: int) -> None:
    file = place.new(b"x" * 100)
    file.close()
    key = place.key(file.paper)
    os.truncate(place.partial / file.paper, size)
    assert place.spool.prefix_size(file.paper) == 0
    if size < HEADER_SIZE:
        with pytest.raises(SpoolGone):
            place.spool.reopen(file.paper, key)
        assert place.read(place.land(place.new(b"anew", file.paper))) == b"anew"
    else:
        assert place.spool.reopen(file.paper, key).size == 0


def test_random_files_are_refused(place: Place) -> None:
    paper = place.landed_paper(b"x")
    key = place.key(paper)
    for size in (0, 10, HEADER_SIZE, HEADER_SIZE + 1000):
        (place.landed / paper).write_bytes(os.urandom(size))
        with pytest.raises(StoreError):
            drain(place, paper, key)
        with pytest.raises((StoreError, AgeError)):
            place.read(paper)


def test_nothing_of_the_content_lies_in_clear(place: Place) -> None:
    canary = b"CANARY-of-the-spool"
    file = place.new(canary * 10_000)
    file.write(5 * BLOCK, canary)
    file.close()
    landed = place.landed_paper(canary * 10_000)
    for path in (place.partial / file.paper, place.landed / landed):
        data = path.read_bytes()
        assert canary not in data
        assert b"/inbox/a.pdf" not in data
