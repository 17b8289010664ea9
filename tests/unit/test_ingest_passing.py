"""One pass over a paper: every piece once, in order, to both sides, and no writing goes on behind its end."""

from __future__ import annotations

import io
import os
import threading
import time
from hashlib import sha256
from typing import cast

import pytest

from gateway.ingest.passing import PIECE_BYTES, RING, pass_over
from gateway.store import LandedPaper, SpoolDamaged

CONTENT = os.urandom(5 * PIECE_BYTES + 7)


class Paper(io.BytesIO):
    """What the pass asks of a landed paper."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        super().__init__(content)
        self.size = len(content) if size is None else size


def paper(content: bytes, size: int | None = None) -> LandedPaper:
    return cast(LandedPaper, Paper(content, size))


def nothing(_: object = None) -> None:
    return


@pytest.mark.parametrize("length", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, len(CONTENT)])
@pytest.mark.parametrize("slow", ["take", "write"])
def test_both_sides_get_every_byte_in_order_whoever_is_slower(length: int, slow: str) -> None:
    taken, written = bytearray(), bytearray()

    def side(name: str, into: bytearray, piece: memoryview) -> None:
        if name == slow:
            time.sleep(0.005)
        into += piece

    told = pass_over(paper(CONTENT[:length]), lambda piece: side("take", taken, piece), lambda piece: side("write", written, piece), nothing)
    assert told == sha256(CONTENT[:length]).hexdigest()
    assert taken == written == CONTENT[:length]


def test_a_paper_of_several_pieces_is_written_by_another_thread_and_one_of_a_piece_is_not() -> None:
    threads = set[int]()
    pass_over(paper(CONTENT[:PIECE_BYTES]), nothing, lambda _: threads.add(threading.get_ident()), nothing)
    assert threads == {threading.get_ident()}
    pass_over(paper(CONTENT), nothing, lambda _: threads.add(threading.get_ident()), nothing)
    assert len(threads) == 2


def test_reading_waits_for_a_writer_that_stands_still() -> None:
    go_on, taken = threading.Event(), []

    def take(_: memoryview) -> None:
        taken.append(1)
        if len(taken) == RING:
            threading.Timer(0.05, go_on.set).start()
        assert len(taken) <= RING or go_on.is_set()

    pass_over(paper(CONTENT), take, lambda _: go_on.wait(240), nothing)
    assert len(taken) == 6


def test_what_the_writer_raises_is_raised_and_nothing_is_written_after_it() -> None:
    written = []

    def write(_: memoryview) -> None:
        written.append(1)
        if len(written) == 2:
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        pass_over(paper(CONTENT), lambda _: time.sleep(0.01), write, nothing)
    assert len(written) == 2
    with pytest.raises(OSError, match="no space"):  # also of the last piece
        pass_over(paper(CONTENT[: 2 * PIECE_BYTES]), nothing, lambda _: _fail(), nothing)


@pytest.mark.parametrize("where", ["take", "between"])
def test_no_writing_goes_on_when_the_pass_was_given_up(where: str) -> None:
    busy, gate = threading.Event(), threading.Event()

    def write(_: memoryview) -> None:
        busy.set()
        gate.wait(240)
        time.sleep(0.02)
        busy.clear()

    def stop(_: object = None) -> None:
        assert busy.wait(240)
        gate.set()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pass_over(paper(CONTENT), stop if where == "take" else nothing, write, stop if where == "between" else nothing)
    assert not busy.is_set()


def test_missing_bytes_are_damage() -> None:
    with pytest.raises(SpoolDamaged):
        pass_over(paper(CONTENT[:-1], len(CONTENT)), nothing, nothing, nothing)


def _fail() -> None:
    raise OSError("no space")
