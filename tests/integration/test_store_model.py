"""A spool file against a plain bytearray: any order of writes, cuts, reads, finishes, resumes and crashes.

What a crash may take: whatever was not yet on the disk. What it may never do: give other bytes than the last ones that were written.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from gateway.age import Identity
from gateway.store import SpoolFile, SpoolGone
from gateway.store.format import BLOCK
from tests.integration.store_parts import Place, arrival_of

IDENTITY = Identity.generate()
TOP = 7 * BLOCK
edges = st.sampled_from([number * BLOCK + step for number in range(7) for step in (0, 1, 100, BLOCK // 2, BLOCK - 1)])
places = edges | st.integers(0, TOP)
lengths = st.sampled_from([1, 100, BLOCK // 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK]) | st.integers(0, 2 * BLOCK)


class SpoolMachine(RuleBasedStateMachine):
    """`data`: what the paper holds; `mask`: which bytes were written; `content`: up to where gaps count as content, because the paper was
    finished like that (a crash may still lose them); `floor`: how much must be left after a crash."""

    cache_blocks = 40
    scarce = False

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="store-model-", dir="/dev/shm"))  # ciphertext only, and fast
        self.patch = mock.patch("gateway.store.content.CACHE_BLOCKS", self.cache_blocks)
        self.patch.start()
        self.place = Place(self.root, IDENTITY)
        if self.scarce:
            self.place.use_no_cache()
        self.data = bytearray()
        self.mask = bytearray()
        self.floor = 0
        self.content = 0
        self.finished = False

    @initialize()
    def begin(self) -> None:
        self.file: SpoolFile = self.place.new()

    @rule(offset=places, length=lengths, seed=st.integers(0, 1 << 30))
    def write(self, offset: int, length: int, seed: int) -> None:
        piece = random.Random(seed).randbytes(length)
        self._changed()
        self.file.write(offset, piece)
        end = offset + length
        if length and end > len(self.data):
            self._extend(end)
        self.data[offset:end] = piece
        self.mask[offset:end] = b"\1" * length

    @rule(start=places, pieces=st.permutations(range(8)), seed=st.integers(0, 1 << 30))
    def write_out_of_order(self, start: int, pieces: list[int], seed: int) -> None:
        size = BLOCK // 2
        for number in pieces:
            self.write(start + number * size, size, seed + number)

    @rule(size=places)
    def truncate(self, size: int) -> None:
        self._changed()
        self.file.truncate(size)
        if size > len(self.data):
            self._extend(size)
        self._cut(size)

    @rule(offset=places, length=lengths)
    def read(self, offset: int, length: int) -> None:
        assert self.file.read(offset, length) == self.data[offset : offset + length]

    @rule()
    def sync(self) -> None:
        self.file.sync()
        self.floor = len(self.data) if self.finished else self._prefix()

    @rule()
    def finish(self) -> None:
        self.file.finish(arrival_of(self.file.paper))
        self.finished = True
        self.floor = len(self.data)
        self.content = len(self.data)  # gaps are content now
        landed = self.place.landed / self.file.paper
        os.link(self.place.partial / self.file.paper, landed)
        assert self.place.read(self.file.paper) == self.data
        landed.unlink()
        self.file.continue_writing()

    @rule()
    def close_and_reopen(self) -> None:
        self.file.close()
        promised = self.place.spool.prefix_size(self.file.paper)
        assert (len(self.data) if self.finished else self._prefix()) <= promised <= (len(self.data) if self.finished else self._most())
        self.file = self.place.reopen(self.file.paper)
        assert self.file.size == promised
        self._cut(promised)
        self.floor = self.content = promised
        self._check_all()

    @rule()
    def crash(self) -> None:
        self.place.crash(self.file)
        promised = self.place.spool.prefix_size(self.file.paper)
        try:
            self.file = self.place.reopen(self.file.paper)
        except SpoolGone:
            assert self.floor == promised == 0
            self.file = self.place.new(b"", self.file.paper)
        assert self.floor <= self.file.size == promised
        assert self.finished or self.file.size <= self._most()
        assert self.file.finished == self.finished
        self._cut(self.file.size)
        self.floor = self.content = self.file.size
        self._check_all()

    @precondition(lambda self: self.finished)
    @rule()
    def continue_without_a_change(self) -> None:
        self.file.continue_writing()
        assert self.file.finished

    @invariant()
    def sizes_agree(self) -> None:
        if hasattr(self, "file"):
            assert self.file.size == len(self.data)
            assert self._prefix() <= self.file.prefix <= self._most()

    def teardown(self) -> None:
        self._check_all()
        paper = self.place.land(self.file)
        assert self.place.read(paper) == self.data
        assert self.place.spool._buffers._taken == 0 or not self.file.handles
        self.patch.stop()
        self.place.spool.close()
        shutil.rmtree(self.root)

    def _check_all(self) -> None:
        assert self.file.read(0, TOP + 20 * BLOCK) == self.data

    def _changed(self) -> None:
        if self.finished:
            self.finished = False
            self.floor = 0  # a finished paper has gaps that were never written: nothing is promised until the next sync

    def _extend(self, size: int) -> None:
        self.data.extend(bytes(size - len(self.data)))
        self.mask.extend(bytes(size - len(self.mask)))

    def _cut(self, size: int) -> None:
        del self.data[size:]
        del self.mask[size:]
        self.floor = min(self.floor, size)
        self.content = min(self.content, size)

    def _prefix(self) -> int:
        gap = self.mask.find(0)
        return len(self.mask) if gap < 0 else gap

    def _most(self) -> int:
        gap = self.mask.find(0, self.content)
        return len(self.mask) if gap < 0 else gap


@pytest.mark.parametrize(("cache_blocks", "scarce"), [(40, False), (1, False), (2, False), (40, True)])
def test_any_order_of_operations(cache_blocks: int, scarce: bool) -> None:
    machine = type("Machine", (SpoolMachine,), {"cache_blocks": cache_blocks, "scarce": scarce})
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=25, deadline=None, report_multiple_bugs=False))


@pytest.mark.long
@pytest.mark.parametrize(("cache_blocks", "scarce"), [(40, False), (1, False), (2, False), (40, True)])
def test_any_order_of_operations_at_length(cache_blocks: int, scarce: bool) -> None:
    machine = type("Machine", (SpoolMachine,), {"cache_blocks": cache_blocks, "scarce": scarce})
    run_state_machine_as_test(machine, settings=settings(max_examples=1000, stateful_step_count=40, deadline=None))
