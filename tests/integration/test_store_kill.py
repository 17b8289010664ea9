"""SIGKILL of a writing process at random moments: what is left of a partial is a true beginning of what was written."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.store import SpoolGone, SpoolTorn, new_paper_id
from gateway.store.format import BLOCK
from tests.integration.store_parts import Place

PIECE = 32 * 1024
SIZE = 48 * 1024 * 1024
WRITER = """
import sys
from pathlib import Path
from gateway.age import Recipient
from gateway.store import Spool
from tests.integration.test_store_kill import writes
root, recipient, paper, manner = sys.argv[1:]
spool = Spool(Path(root) / "partial", Path(root) / "landed", Recipient.parse(recipient))
file = spool.create(paper, "acme")
print("go", flush=True)
for number, (offset, data) in enumerate(writes(manner)):
    file.write(offset, data)
    if number % 16 == 15:
        file.sync()
        print(file.prefix, flush=True)
sys.stdin.read()  # to be killed, however late
"""


def pattern(offset: int, length: int) -> bytes:
    """The content of the paper at `offset`: every 8 bytes tell their own place."""
    first = offset // 8
    numbers = b"".join(number.to_bytes(8, "big") for number in range(first, (offset + length) // 8 + 1))
    return numbers[offset - first * 8 :][:length]


def writes(manner: str) -> list[tuple[int, bytes]] | object:
    """What the writer does: pieces in order, out of order within a window of 64, or odd pieces that overlap."""
    source = random.Random(7)
    if manner == "odd":
        offset = 0
        while offset < SIZE:
            length = source.randrange(1, 3 * PIECE)
            back = source.randrange(0, PIECE)
            start = max(0, offset - back)
            yield start, pattern(start, length)
            offset = max(offset, start + length)
        return
    window = 64 if manner == "shuffled" else 1
    for first in range(0, SIZE // PIECE, window):
        numbers = list(range(first, first + window))
        source.shuffle(numbers)
        for number in numbers:
            yield number * PIECE, pattern(number * PIECE, PIECE)


def kill_one(place: Place, root: Path, manner: str, seconds: float) -> tuple[str, int]:
    """Let a writer run, kill it; the paper, and how much it had called durable."""
    paper = new_paper_id()
    command = [sys.executable, "-c", WRITER, str(root), str(place.identity.recipient), paper, manner]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"go\n"
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    lines = [line for line in child.communicate()[0].splitlines(keepends=True) if line.endswith(b"\n")]
    assert child.returncode == -signal.SIGKILL
    return paper, int(lines[-1]) if lines else 0


def kept_for_sure(durable: int, manner: str) -> int:
    """What must be left of `durable` bytes. A block that is written again in its place can be torn by the kill, and what follows it is cut off
    then: writes that overlap reach at most one piece back. In order, a block that was durable is never written again."""
    return max(0, durable - PIECE) // BLOCK * BLOCK if manner != "sequential" else durable


def check_one(place: Place, paper: str, durable: int, manner: str) -> int:
    """Whether what is left is right; its size."""
    assert place.spool.finished_unlanded() == []
    promised = place.spool.prefix_size(paper)
    try:
        with contextlib.suppress(SpoolTorn):
            place.reopen(paper).close()
        file = place.reopen(paper)
    except SpoolGone:
        assert kept_for_sure(durable, manner) == promised == 0
        return 0
    size = file.size
    assert kept_for_sure(durable, manner) <= size <= promised
    for offset in range(0, size, 16 * BLOCK):
        assert file.read(offset, min(16 * BLOCK, size - offset)) == pattern(offset, min(16 * BLOCK, size - offset))
    if size <= SIZE - PIECE:  # it goes on from there, and lands whole
        file.write(size, pattern(size, PIECE))
        assert place.read(place.land(file)) == pattern(0, size + PIECE)
        place.spool.remove_landed(paper)
    else:
        file.discard()
        file.close()
    return size


def rounds(root: Path, count: int) -> list[int]:
    place = Place(root)
    source = random.Random()
    sizes = list[int]()
    while len(sizes) < count or not max(sizes):  # a machine that is busy writes nothing in so short a time: it gets longer
        manner = ("sequential", "shuffled", "odd")[len(sizes) % 3]
        paper, durable = kill_one(place, root, manner, source.uniform(0, 0.08 * (1 + len(sizes) // count)))
        sizes.append(check_one(place, paper, durable, manner))
    return sizes


def test_killed_writers_leave_true_beginnings(tmp_path: Path) -> None:
    rounds(tmp_path, 20)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_killed_writers_many_times(tmp_path: Path) -> None:
    rounds(tmp_path, 300)
