"""The soak can fail: a planted leak, a lost paper and an unexplained line are found, and noise is not."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.catalog.rows import Paper
from gateway.store.errors import spool_failure, vault_failure
from tests.soak.accounts import missing_and_strange
from tests.soak.deposits import Deposit, Ledger
from tests.soak.explained import Explained, bad_lines, unexplained
from tests.soak.watch import MIB, Sample, Watch, growths, kind_of, leaks, now, slope

HOUR = 3600
START = 100.0
DEPOSIT = Deposit("acme", "/inbox/a", 3, hashlib.sha256(b"abc").hexdigest(), "acknowledged", "/inbox/a")
PAPER = Paper(
    id="p1",
    client="acme",
    path="/inbox/a",
    person="acme",
    state="accepted",
    reason="",
    size=3,
    sha256=DEPOSIT.sha256,
    received_at=datetime(2026, 1, 2, tzinfo=UTC),
    sealed_at=datetime(2026, 1, 2, tzinfo=UTC),
    modified_at=None,
    session="s",
    address="192.0.2.1",
    version=1,
    receipted=True,
)


def series(leak_each_hour: float, seconds: int = 1200, role: str = "gateway", usual: float = 60.0) -> list[Sample]:
    """A process that breathes by 3 MiB, and loses so many MiB an hour."""
    chance = random.Random(1)
    return [
        Sample(START + at, role, 1, int((usual + chance.uniform(-3, 3) + leak_each_hour * at / HOUR) * MIB), 20, 5) for at in range(0, seconds, 5)
    ]


def test_the_slope_is_that_of_the_line() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == 2
    assert slope([(0, 1)]) == slope([(1, 1), (1, 5)]) == 0


def test_breathing_is_flat_and_a_leak_is_not() -> None:
    (steady,) = growths(series(0), START, START + 1200)
    (leaking,) = growths(series(60), START, START + 1200)
    assert steady.is_flat
    assert not leaking.is_flat
    assert 15 * MIB < leaking.grown < 25 * MIB
    assert len(leaking.course) == 8 and leaking.course[0] + 12 * MIB < leaking.course[-1], "how it went is told: growth for ever, or a step"
    assert "+60" in str(leaking) or "+59" in str(leaking) or "+61" in str(leaking)


@pytest.mark.parametrize("step_at", [200, 600, 1000])
def test_a_step_is_no_leak(step_at: int) -> None:
    stepping = [replace(sample, memory=sample.memory + 30 * MIB * (sample.at > START + step_at)) for sample in series(0)]
    (found,) = growths(stepping, START, START + 1200)
    assert found.is_flat, found
    leaking = [replace(sample, memory=int(sample.memory + 60 * MIB * (sample.at - START) / HOUR)) for sample in stepping]
    (found,) = growths(leaking, START, START + 1200)
    assert not found.is_flat, "and it hides none"


def test_the_time_before_the_watch_and_short_lives_do_not_count() -> None:
    warming = [replace(sample, at=sample.at - 1200, memory=10 * MIB) for sample in series(0)]
    passing = series(0, seconds=300, role="gateway/restic")
    (found,) = growths([*warming, *series(0), *passing], START, START + 1200)
    assert found.is_flat


def test_a_descriptor_that_stays_is_a_leak() -> None:
    before = {"gateway": Counter(socket=3, jails=100)}
    assert leaks(before, {"gateway": Counter(socket=5, jails=102)}) == []
    assert leaks({"gateway": Counter(threads=14)}, {"gateway": Counter(threads=60)}) == ["gateway: threads: 14 became 60"]
    assert leaks(before, {"gateway": Counter(socket=3, jails=100, spool=5)}) == ["gateway: spool: 0 became 5"]


def test_what_a_job_holds_for_a_while_is_no_leak() -> None:
    """The scheduler's jobs have pipes to restic."""
    watch = Watch(os.getpid(), seconds=1)
    before = watch.held(0.5)
    pipes = [end for _ in range(6) for end in os.pipe()]
    count = before["up"]["pipe"]
    assert watch.leaked(before, seconds=0.5) == [f"up: pipe: {count} became {count + 12}"]
    threading.Timer(0.5, lambda: [os.close(end) for end in pipes]).start()
    assert watch.leaked(before, seconds=30) == []


def test_descriptors_are_named_by_what_they_lead_to() -> None:
    found = ["socket:[12]", "pipe:[3]", "anon_inode:[eventpoll]", "/x/data/jails/acme/.tmp", "/x/data/catalog.sqlite3-wal", "/dev/null"]
    assert [kind_of(one) for one in found] == ["socket", "pipe", "anon_inode", "jails", "catalog.sqlite3-wal", "null"]


def test_a_process_is_seen_with_its_memory_and_descriptors() -> None:
    mine = next(sample for sample in now(os.getpid()) if sample.role == "up")
    assert mine.memory > MIB
    assert mine.descriptors > 2
    assert mine.threads >= 1


def test_all_is_well_when_each_promise_is_kept_once() -> None:
    assert missing_and_strange([DEPOSIT], [PAPER]) == []
    broken = replace(DEPOSIT, sent_as="/inbox/b", sha256="b" * 64, phase="closing")
    assert missing_and_strange([DEPOSIT, broken], [PAPER]) == []  # nobody was promised anything
    assert missing_and_strange([DEPOSIT, broken], [PAPER, replace(PAPER, id="p2", sha256="b" * 64)]) == []  # and it may be there


def test_a_lost_paper_is_found() -> None:
    (found,) = missing_and_strange([DEPOSIT], [])
    assert "0 papers of 1 acknowledged" in found


def test_a_paper_that_is_there_twice_or_was_never_sent_whole_is_found() -> None:
    assert "2 papers of 1 acknowledged" in missing_and_strange([DEPOSIT], [PAPER, replace(PAPER, id="p2")])[0]
    assert "never sent like this" in missing_and_strange([DEPOSIT], [PAPER, replace(PAPER, id="p2", sha256="c" * 64)])[0]
    cut = replace(DEPOSIT, phase="writing")
    assert "1 papers of 0 acknowledged and 0 possible" in missing_and_strange([cut], [PAPER])[0]


def test_a_paper_that_still_waits_is_found() -> None:
    assert "ended held" in missing_and_strange([DEPOSIT], [replace(PAPER, state="held")])[0]


def test_other_content_than_was_sent_is_a_broken_promise() -> None:
    ledger = Ledger()
    with ledger.deposit("acme", "/inbox/a", b"abc") as deposit:
        deposit.phase = "closing"
    ledger.compare(deposit, b"abc")
    assert ledger.wrong == []
    ledger.compare(deposit, b"abd")
    assert len(ledger.wrong) == 1


def line(event: str, level: str = "warning", **more: str) -> str:
    return json.dumps({"event": event, "level": level, **more})


def test_a_line_that_nothing_explains_is_found() -> None:
    table = (Explained("role.died", ("keyd",), each=1), Explained("login.not_recorded", ("full",), "No space left"))
    died, space, other = line("role.died"), line("login.not_recorded", error="No space left on device"), line("login.not_recorded", error="gone")
    assert unexplained([died, space, space, line("fine", "info")], {"keyd": 1, "full": 1}, table) == []
    assert unexplained([died, died], {"keyd": 1}, table) == [died]
    assert unexplained([space, other], {"full": 1}, table) == [other]
    assert unexplained([space], {"keyd": 1}, table) == [space]  # the disk was never full
    assert unexplained([space], {}, [Explained("login.not_recorded", ())]) == []


@pytest.mark.parametrize("failure", [spool_failure, vault_failure])
def test_a_disk_that_is_full_is_explained_in_every_word_for_it(failure: Callable[[OSError, str], Exception]) -> None:
    said = str(failure(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "sealing a paper"))
    line = json.dumps({"event": "ingest.paper_failed", "level": "error", "error": said})
    assert unexplained([line], {"full": 1}) == []
    assert unexplained([line], {"keyd": 1}) == [line]


def test_what_is_no_line_of_the_log_at_all_is_bad() -> None:
    assert bad_lines(["Traceback (most recent call last):", "", line("x", "info"), "asyncio ERROR"]) == [
        "Traceback (most recent call last):",
        "asyncio ERROR",
    ]
