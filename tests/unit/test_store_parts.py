"""The parts of the spool that need no disk: intervals against a plain set, the digest over slots against its definition, buffers."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from gateway.store.buffers import IDLE_LIMIT, Buffers
from gateway.store.format import STRIDE
from gateway.store.intervals import LIMIT, Intervals
from gateway.store.seals import GROUP, HOT, SEAL, SealTree, group_count, group_digest

places = st.integers(0, 60)
steps = st.lists(st.tuples(st.sampled_from(["add", "cut"]), places, places), max_size=40)


@given(steps)
def test_intervals_against_a_set(taken: list[tuple[str, int, int]]) -> None:
    intervals, model = Intervals(), set[int]()
    for kind, one, two in taken:
        if kind == "add":
            intervals.add(min(one, two), max(one, two))
            model |= set(range(min(one, two), max(one, two)))
        else:
            intervals.cut(one)
            model = {place for place in model if place < one}
        for place in range(62):
            end = place
            while end in model:
                end += 1
            start = place
            while start - 1 in model:
                start -= 1
            assert intervals.run_end(place) == end
            assert intervals.run_start(place) == start


def test_intervals_are_bounded_and_err_towards_not_written() -> None:
    intervals = Intervals(10)
    for place in range(20, 20 + 10 * LIMIT, 4):
        intervals.add(place, place + 2)
    assert len(intervals) <= LIMIT
    assert intervals.run_end(0) == 10
    assert intervals.run_end(20 + 9 * LIMIT) == 20 + 9 * LIMIT


class Disk:
    """What `read_group` would find: the seals by block."""

    def __init__(self) -> None:
        self.seals: dict[int, bytes] = {}
        self.read: list[int] = []

    def read_group(self, group: int, blocks: int) -> bytes:
        self.read.append(group)
        present = [block for block in self.seals if block // GROUP == group and block < blocks]
        return b"".join(self.seals.get(block, bytes(SEAL)) for block in range(group * GROUP, max(present, default=-1) + 1))

    def root(self, blocks: int) -> bytes:
        return sha256(b"".join(group_digest(self.read_group(group, blocks)) for group in range(group_count(blocks)))).digest()


@given(st.lists(st.tuples(st.sampled_from(["set", "cut", "root", "last"]), st.integers(0, (HOT + 4) * GROUP)), max_size=40))
def test_kept_digest_is_the_digest_of_the_disk(taken: list[tuple[str, int]]) -> None:
    disk = Disk()
    tree = SealTree(disk.read_group)
    top = (HOT + 4) * GROUP + 1
    for kind, block in taken:
        if kind == "set":
            disk.seals[block] = os.urandom(SEAL)
            tree.set(block, disk.seals[block])
        elif kind == "last":
            tree.cut(block)
            disk.seals = {number: seal for number, seal in disk.seals.items() if number < block} | {block: b"of an older write".ljust(SEAL)}
            fresh = os.urandom(SEAL)
            tree.set_last(block, fresh)
            disk.seals[block] = fresh
        elif kind == "cut":
            disk.seals = {number: seal for number, seal in disk.seals.items() if number < block}
            tree.cut(block)
        else:
            assert tree.root(top) == disk.root(top)
    assert tree.root(top) == disk.root(top)


def test_sequential_writing_reads_nothing_back() -> None:
    disk = Disk()
    tree = SealTree(disk.read_group)
    for block in range(20 * GROUP):
        disk.seals[block] = block.to_bytes(SEAL, "big")
        tree.set(block, disk.seals[block])
    root = tree.root(20 * GROUP)
    assert disk.read == []
    assert root == disk.root(20 * GROUP)


def test_every_seal_matters_and_its_place() -> None:
    def root(change: Callable[[dict[int, bytes]], None]) -> bytes:
        disk = Disk()
        disk.seals = {block: block.to_bytes(SEAL, "big") for block in range(1, GROUP + 10)}
        change(disk.seals)
        return SealTree(disk.read_group, GROUP + 11).root(GROUP + 11)

    def swap(seals: dict[int, bytes]) -> None:
        seals[5], seals[6] = seals[6], seals[5]

    roots = [root(lambda seals: None), root(swap), root(lambda seals: seals.__delitem__(7)), root(lambda seals: seals.__delitem__(GROUP + 9))]
    assert len(set(roots)) == 4


def test_buffers_are_reused_and_bounded() -> None:
    buffers = Buffers(limit=1)
    first = buffers.take()
    assert len(first) == STRIDE
    assert not buffers.scarce
    second = buffers.take()
    assert buffers.scarce
    buffers.give(first)
    assert not buffers.scarce
    assert buffers.take() is first
    buffers.give(first)
    buffers.give(second)
    many = [buffers.take() for _ in range(IDLE_LIMIT + 5)]
    for buffer in many:
        buffers.give(buffer)
    assert len(buffers._idle) == IDLE_LIMIT
