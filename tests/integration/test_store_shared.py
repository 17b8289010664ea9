"""One partial, open in two real processes: whatever they do in turn is as if one had done it; whatever they do at once loses nothing; and
when one is killed, the other goes on with what was there."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gateway.age import Identity
from gateway.store import SpoolBusy, SpoolDamaged, SpoolGone, new_paper_id
from gateway.store.format import BLOCK, SHARED, SHARED_SIZE
from tests.integration.store_hands import Hand, piece
from tests.integration.store_parts import Place

IDENTITY = Identity.generate()
TOP = 5 * BLOCK
edges = st.sampled_from([number * BLOCK + step for number in range(5) for step in (0, 1, BLOCK // 2, BLOCK - 1)])
places = edges | st.integers(0, TOP)
lengths = st.sampled_from([1, 100, BLOCK // 2, BLOCK - 1, BLOCK, BLOCK + 1]) | st.integers(0, 2 * BLOCK)
who = st.integers(0, 1)
Pair = tuple[Hand, Hand]


@pytest.fixture(scope="module")
def hands() -> Iterator[Pair]:
    pair = Hand(IDENTITY), Hand(IDENTITY)
    yield pair
    for hand in pair:
        hand.end()


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="store-shared-", dir="/dev/shm"))  # ciphertext only, and fast
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def place(root: Path) -> Place:
    return Place(root, IDENTITY)


def both_on(pair: Pair, root: Path) -> str:
    """A new paper that both hands have open."""
    paper = new_paper_id()
    for hand in pair:
        hand("go_to", str(root))
    pair[0]("create", paper)
    pair[1]("reopen", paper)
    return paper


class SharedMachine(RuleBasedStateMachine):
    pair: Pair

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="store-shared-", dir="/dev/shm"))
        self.data = bytearray()
        self.mask = bytearray()
        self.exact = True  # a finished paper's gaps are content

    @initialize()
    def begin(self) -> None:
        self.paper = both_on(self.pair, self.root)

    @rule(hand=who, offset=places, length=lengths, seed=st.integers(0, 1 << 30))
    def write(self, hand: int, offset: int, length: int, seed: int) -> None:
        self.pair[hand]("write", offset, seed, length)
        if length and offset + length > len(self.data):
            self._extend(offset + length)
        self.data[offset : offset + length] = piece(seed, length)
        self.mask[offset : offset + length] = b"\1" * length

    @rule(hand=who, size=places)
    def truncate(self, hand: int, size: int) -> None:
        self.pair[hand]("truncate", size)
        self._extend(max(size, len(self.data)))
        del self.data[size:], self.mask[size:]

    @rule(hand=who, offset=places, length=lengths)
    def read(self, hand: int, offset: int, length: int) -> None:
        assert self.pair[hand]("read", offset, length) == self.data[offset : offset + length]

    @rule(hand=who)
    def sync(self, hand: int) -> None:
        self.pair[hand]("sync")

    @rule(hand=who, other=who)
    def finish(self, hand: int, other: int) -> None:
        self.pair[hand]("finish")
        with pytest.raises(SpoolBusy):
            self.pair[other]("write", 0, 0, 1)
        assert all(one("state")[2] for one in self.pair)
        self.pair[other]("continue_writing")
        self.mask[:] = b"\1" * len(self.mask)
        self.exact = False

    @rule(hand=who)
    def close_and_come_back(self, hand: int) -> None:
        assert self.pair[hand]("close") is False
        assert self.pair[hand]("reopen", self.paper) == len(self.data)

    @invariant()
    def sizes_agree(self) -> None:
        if hasattr(self, "paper"):
            gap = self.mask.find(0)
            prefix = len(self.mask) if gap < 0 else gap
            for hand in self.pair:
                size, told, _, shared = hand("state")
                assert shared
                assert size == len(self.data)
                assert told == prefix if self.exact else told <= prefix

    def teardown(self) -> None:
        if hasattr(self, "paper"):
            one, two = self.pair
            assert one("read", 0, TOP * 2) == two("read", 0, TOP * 2) == self.data
            one("finish")
            assert one("close") is False
            two("land")
            assert two("close") is True
            assert Place(self.root, IDENTITY).read(self.paper) == self.data
        shutil.rmtree(self.root)

    def _extend(self, size: int) -> None:
        self.data.extend(bytes(size - len(self.data)))
        self.mask.extend(bytes(size - len(self.mask)))


def test_in_turn_they_are_as_one(hands: Pair) -> None:
    machine = type("Machine", (SharedMachine,), {"pair": hands})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=20, deadline=None, report_multiple_bugs=False))


@pytest.mark.long
def test_in_turn_they_are_as_one_at_length(hands: Pair) -> None:
    machine = type("Machine", (SharedMachine,), {"pair": hands})
    run_state_machine_as_test(machine, settings=settings(max_examples=600, stateful_step_count=30, deadline=None))


@pytest.mark.parametrize("length", [32 * 1024, 20_000, BLOCK, 100_001])
def test_interleaved_pieces_at_once(hands: Pair, place: Place, root: Path, length: int) -> None:
    paper = both_on(hands, root)
    offsets = [number * length for number in range(6 * 1024 * 1024 // length)]
    for number, hand in enumerate(hands):
        mine = offsets[number::2]
        random.Random(number).shuffle(mine)
        hand.send("write_each", mine, length)
    for number, hand in enumerate(hands):
        said = [hand.receive() for _ in range(len(offsets[number::2]) + 1)]
        assert said[-1] is None
    whole = b"".join(piece(offset, length) for offset in offsets)
    hands[0]("finish")
    assert sorted(hand("close") for hand in hands) == [False, True]
    place.spool.land(paper)
    assert place.read(paper) == whole


def test_the_landed_file_keeps_nothing_of_the_sharing(hands: Pair, place: Place, root: Path) -> None:
    paper = both_on(hands, root)
    hands[1]("write", 0, 1, 1000)
    assert (place.partial / paper).read_bytes()[SHARED : SHARED + SHARED_SIZE].strip(b"\0")
    hands[1]("finish")
    hands[0]("land")
    assert not (place.landed / paper).read_bytes()[SHARED : SHARED + SHARED_SIZE].strip(b"\0")
    for hand in hands:
        assert hand("read", 0, 2000) == piece(1, 1000)
        for refused in (("write", 0, 2, 10), ("truncate", 5), ("continue_writing",)):
            with pytest.raises(SpoolBusy):
                hand(*refused)
    assert [hand("close") for hand in hands] == [False, True]
    assert place.read(paper) == piece(1, 1000)


def test_what_one_discards_is_gone_for_the_other(hands: Pair, root: Path) -> None:
    both_on(hands, root)
    hands[0]("discard")
    with pytest.raises(SpoolGone):
        hands[1]("write", 0, 1, 10)
    for hand in hands:
        hand("close")


def test_a_record_that_was_changed_does_not_count(hands: Pair, place: Place, root: Path) -> None:
    paper = both_on(hands, root)
    hands[0]("write", 0, 1, 3 * BLOCK)
    with (place.partial / paper).open("r+b") as file:
        file.seek(SHARED + 15)  # the size
        file.write(b"\0" * 8)
    assert hands[1]("state")[:2] == (3 * BLOCK, 3 * BLOCK)
    assert hands[1]("read", 0, 4 * BLOCK) == piece(1, 3 * BLOCK)
    for hand in hands:
        hand("close")


@pytest.mark.parametrize("attempt", range(3))
def test_one_is_killed_and_the_other_goes_on(place: Place, root: Path, attempt: int, survivor: Hand) -> None:
    kill_one(place, root, attempt, survivor)


@pytest.mark.long
def test_one_is_killed_many_times(root: Path, survivor: Hand) -> None:
    for attempt in range(100):
        kill_one(Place(root, IDENTITY), root, attempt, survivor)


@pytest.fixture(scope="module")
def survivor() -> Iterator[Hand]:
    hand = Hand(IDENTITY)
    yield hand
    hand.end()


def kill_one(place: Place, root: Path, attempt: int, survivor: Hand) -> None:
    length = (20_000, 32 * 1024)[attempt % 2]
    offsets = [number * length for number in range(3_000_000 // length)]
    victim = Hand(IDENTITY)
    paper = both_on((victim, survivor), root)
    victim.send("write_each", offsets[::2], length)
    survivor.send("write_each", offsets[1::2], length)
    said = [victim.receive() for _ in range(random.randrange(len(offsets) // 2))]
    victim.process.kill()
    said += victim.heard()
    try:
        while survivor.receive() is not None:
            pass
        survivor("finish")
        survivor("land")
    except SpoolDamaged:  # a slot that the other was just writing over is torn: said, not hidden
        survivor("close")
        return
    finally:
        victim.end()
    assert survivor("close") is True
    content = place.read(paper)
    for offset in offsets[1::2]:
        assert content[offset : offset + length] == piece(offset, length)
    for offset in offsets[::2]:
        found = content[offset : offset + length]
        if found.strip(b"\0"):
            assert_begins(found, piece(offset, length))
    for offset in filter(None, said):
        assert content[offset : offset + length] == piece(offset, length)


def assert_begins(found: bytes, whole: bytes) -> None:
    """A piece that was not acknowledged may be there in part, by whole blocks; every byte is its own, or of a gap."""
    assert all(mine in (right, 0) for mine, right in zip(found, whole, strict=False))
