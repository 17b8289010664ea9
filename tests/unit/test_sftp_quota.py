"""Quotas and their ledger, against real files: no overshoot, nothing that leaks, and a dead process that counts for nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalog.limits import Limits
from gateway.jail import Pointer, Refused
from gateway.sftp.limits.ledger import SLOTS, Ledger, LedgerFull
from gateway.sftp.limits.quota import Hold, Quota, Usage

MIB = 1024 * 1024


def quota(path: Path, limits: Limits, count: Callable[[], Usage] = lambda: Usage(0, 0, 0)) -> Quota:
    made = Quota(limits, lambda: Ledger(path), count)
    made.prepare()
    return made


def test_growth_is_refused_before_it_happens(tmp_path: Path) -> None:
    room = quota(tmp_path / "l", Limits(bytes=MIB))
    hold = room.hold()
    hold.resize(MIB)
    with pytest.raises(Refused, match="over the quota"):
        hold.resize(MIB + 1)
    assert room.room()[:2] == (MIB, 0)
    hold.resize(10)
    hold.shows(10)
    hold.end(10)
    assert room.room()[:2] == (MIB, MIB - 10)


def test_workers_share_one_quota(tmp_path: Path) -> None:
    first, second = quota(tmp_path / "l", Limits(bytes=100 * MIB)), quota(tmp_path / "l", Limits(bytes=100 * MIB))
    holds = [first.hold(), second.hold()]
    written = 0
    with pytest.raises(Refused):
        while True:
            for hold in holds:
                hold.resize(hold.size + MIB)
                written += MIB
    assert 100 * MIB - 2 * (100 * MIB // 64) - MIB <= written <= 100 * MIB
    holds[0].end(0)
    holds[1].resize(100 * MIB)  # what the other one gave back


def test_an_overwrite_needs_room_for_its_growth_alone(tmp_path: Path) -> None:
    room = quota(tmp_path / "l", Limits(bytes=100, stored_bytes=250), lambda: Usage(90, 1, 90))
    hold = room.hold(shown=90)
    hold.resize(100)
    hold.shows(100)
    hold.end(100)
    assert room.room()[:2] == (100, 0)
    again = room.hold(shown=100)
    with pytest.raises(Refused, match="older versions"):
        again.resize(100)
    again.end(0)
    room.remove_name(Pointer("ab" * 16, 100, "whole"))
    assert room.room()[:2] == (100, 60)  # versions are still there


def test_names_are_bounded(tmp_path: Path) -> None:
    room = quota(tmp_path / "l", Limits(names=2))
    room.add_name()
    room.add_name()
    with pytest.raises(Refused, match="2 files and folders"):
        room.add_name()
    room.remove_name()
    room.add_name()
    assert room.room()[2:] == (2, 0)


def test_a_broken_upload_stays_counted_and_goes_on(tmp_path: Path) -> None:
    room = quota(tmp_path / "l", Limits(bytes=100, stored_bytes=100))
    hold = room.hold()
    hold.resize(60)
    hold.shows(50)  # its prefix
    hold.end(50)
    assert room.room()[1] == 50
    resumed = room.adopt(shown=50, size=50)
    assert room.room()[1] == 50
    resumed.resize(100)
    with pytest.raises(Refused):
        resumed.resize(101)


def test_a_dead_process_counts_for_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from gateway.sftp.limits.quota import *; from gateway.sftp.limits.ledger import Ledger\n"
        "q = Quota(Limits(bytes=100), lambda: Ledger(Path(sys.argv[1])), lambda: Usage(0, 0, 0)); q.prepare(); q.hold().resize(90)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    room = quota(tmp_path / "l", Limits(bytes=100))
    hold = room.hold()
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "l")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    with pytest.raises(Refused):
        hold.resize(50)
    other.kill()
    other.communicate()
    hold.resize(100)


def test_what_nobody_watched_is_counted_anew(tmp_path: Path) -> None:
    first = quota(tmp_path / "l", Limits(bytes=100), lambda: Usage(10, 1, 10))
    second = quota(tmp_path / "l", Limits(bytes=100), lambda: pytest.fail("the first one has counted"))
    assert second.room()[1] == 90
    first.close()
    second.close()
    assert quota(tmp_path / "l", Limits(bytes=100), lambda: Usage(70, 1, 70)).room()[1] == 30


def test_what_comes_while_somebody_counts_is_not_lost(tmp_path: Path) -> None:
    rooms: list[Quota] = []

    def count() -> Usage:
        if rooms:
            rooms[0].book(40, 1, 40)
        return Usage(10, 1, 10)

    rooms.append(quota(tmp_path / "l", Limits(bytes=100), lambda: Usage(10, 1, 10)))
    ledger = Ledger(tmp_path / "l")
    since = ledger.look()
    usage = count()
    ledger.counted(since, usage.size, usage.names, usage.stored)
    assert rooms[0].room()[1] == 50


def test_a_limit_that_comes_later_knows_what_is_open(tmp_path: Path) -> None:
    room = Quota(Limits(), lambda: Ledger(tmp_path / "l"), lambda: Usage(0, 0, 0))
    hold = room.hold()
    hold.resize(80)
    room.limits = Limits(bytes=100)
    assert not room.ready
    room.prepare()
    hold.resize(100)
    with pytest.raises(Refused):
        room.hold().resize(1)


def test_a_count_that_fails_leaves_no_slot_taken(tmp_path: Path) -> None:
    """It is tried again with every upload, and every few seconds: a disk that failed for a while must not cost the client its slots."""
    works = False

    def count() -> Usage:
        if not works:
            raise OSError(errno.EIO, "Input/output error")
        return Usage(10, 1, 10)

    room = Quota(Limits(bytes=100), lambda: Ledger(tmp_path / "l"), count)
    before = os.listdir("/proc/self/fd")
    for _ in range(SLOTS + 1):
        with pytest.raises(Refused, match="cannot be told"):
            room.prepare()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    works = True
    room.prepare()
    assert room.room()[1] == 90
    room.close()


def test_too_many_processes_are_told(tmp_path: Path) -> None:
    ledgers = [Ledger(tmp_path / "l") for _ in range(SLOTS)]
    with pytest.raises(LedgerFull):
        Ledger(tmp_path / "l")
    with pytest.raises(Refused, match="cannot be told"):
        quota(tmp_path / "l", Limits(bytes=1))
    for ledger in ledgers:
        ledger.close()


KINDS = ["new", "over", "grow", "cut", "finish", "break", "drop", "resume"]
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 5), st.integers(0, 400)))


@settings(max_examples=40)
@given(STEPS)
def test_no_order_of_things_overshoots_or_leaks(steps: list[tuple[str, int, int]]) -> None:
    """A model beside it: names with their sizes, and drafts. In the end the ledger says what the model says."""
    with tempfile.TemporaryDirectory() as folder:
        workers = [quota(Path(folder) / "l", Limits(bytes=1000, stored_bytes=3000)) for _ in range(2)]
        names: dict[int, int] = {}
        stored = 0
        drafts: dict[int, tuple[Hold, Quota]] = {}
        for step, number, amount in steps:
            room = workers[amount % 2]
            draft = drafts.get(number)
            if step in ("new", "over") and draft is None:
                drafts[number] = (room.hold(shown=names.get(number, 0)), room)
                names.setdefault(number, 0)
            elif step == "resume" and draft is None and number in names:
                stored -= names[number]
                drafts[number] = (room.adopt(shown=names[number], size=names[number]), room)
            elif draft and step in ("grow", "cut"):
                with contextlib.suppress(Refused):
                    draft[0].resize(draft[0].size + amount if step == "grow" else max(0, draft[0].size - amount))
            elif draft and step in ("finish", "break"):
                names[number] = draft[0].size
                stored += draft[0].size
                draft[0].shows(draft[0].size)
                draft[0].end(draft[0].size)
                del drafts[number]
            elif draft and step == "drop":
                draft[0].end(0)
                del drafts[number]
            held = sum(hold.size for hold, _ in drafts.values())
            live = sum(max(size, drafts[n][0].size if n in drafts else 0) for n, size in names.items())
            assert live <= 1000 and stored + held <= 3000
        for hold, _ in drafts.values():
            hold.end(0)
        account = Ledger(Path(folder) / "l").look()
        assert (account.size, account.stored) == (sum(names.values()), max(0, stored))
        assert account.taken == (account.size, account.stored)
        for room in workers:
            room.close()
