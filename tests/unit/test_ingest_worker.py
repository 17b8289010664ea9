"""Who is tried when: a failing paper never holds up the others, and nothing spins. The clock and the pipeline are simulated."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from config.errors import NightsafeError, OutOfReach
from gateway.ingest.backoff import Backoff
from gateway.ingest.outcome import Outcome
from gateway.ingest.worker import ATTEMPTS, TOLD_AGAIN_SECONDS, Sources, Worker, is_shortage
from gateway.jail import Refused
from gateway.store.errors import VaultTooNarrow

SWEEP = 20.0


class World:
    """A spool of papers, some of which fail, some of which spoil their batch, under a clock that tests move."""

    def __init__(self, papers: Sequence[str], batch: int = 64) -> None:
        self.now = 100.0
        self.landed = list(papers)
        self.lost_receipts: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.spoiling: dict[str, Exception] = {}
        self.busy: set[str] = set()
        self.batches: list[list[str]] = []
        self.done: list[str] = []
        self.worker = Worker(
            self,
            Sources(lambda: list(self.landed), lambda: list(self.lost_receipts)),
            batch=batch,
            sweep_seconds=SWEEP,
            clock=lambda: self.now,
        )

    def handle(self, papers: Sequence[str]) -> Outcome:
        self.batches.append(list(papers))
        for paper in papers:
            if paper in self.spoiling:
                raise self.spoiling[paper]
        failed = {paper: self.failing[paper] for paper in papers if paper in self.failing}
        busy = [paper for paper in papers if paper in self.busy]
        done = [paper for paper in papers if paper not in failed and paper not in self.busy]
        self.landed = [paper for paper in self.landed if paper not in done]
        self.lost_receipts = [paper for paper in self.lost_receipts if paper not in done]
        self.done += done
        return Outcome(done, failed, busy)

    def run(self, seconds: float, passes: int = 500) -> int:
        """Let the worker do what it wants for so long; the number of its passes."""
        end = self.now + seconds
        for number in range(passes):
            if self.now >= end:
                return number
            self.now = min(end, self.now + max(self.worker.work(), 0.001))
        raise AssertionError("the worker spins")


def test_everything_is_done_in_order_and_in_batches() -> None:
    world = World([f"{number:03}" for number in range(150)])
    world.worker.work()
    assert world.done == [f"{number:03}" for number in range(150)]
    assert [len(batch) for batch in world.batches] == [64, 64, 22]


def test_nothing_to_do_waits_for_the_sweep() -> None:
    world = World([])
    assert world.worker.work() == SWEEP
    assert world.batches == []


def test_a_failing_paper_is_tried_three_times_then_left_until_the_sweep() -> None:
    world = World(["a", "bad", "c"])
    world.failing["bad"] = ValueError("odd")
    world.worker.work()
    assert world.done == ["a", "c"]
    world.run(SWEEP - 1)
    assert sum("bad" in batch for batch in world.batches) == ATTEMPTS
    world.landed.append("later")
    world.worker.work()
    assert world.done == ["a", "c", "later"] and sum("bad" in batch for batch in world.batches) == ATTEMPTS
    world.run(SWEEP)
    assert sum("bad" in batch for batch in world.batches) == 2 * ATTEMPTS
    del world.failing["bad"]
    world.run(SWEEP)
    assert world.done[-1] == "bad"


def test_a_paper_that_waits_alone_for_room_is_told_of_once_and_then_rarely() -> None:
    world = World(["a", "gaps", "c"])
    world.failing["gaps"] = VaultTooNarrow("no room to seal a paper of 1 TiB; it waits in the spool")
    with capture_logs() as logs:
        world.worker.work()
        assert world.done == ["a", "c"] and world.worker.gave_up("gaps")
        world.run(3600, passes=5000)
        assert sum("gaps" in batch for batch in world.batches) == 3600 / SWEEP, "it is tried on each sweep"
        assert [(log["event"], log["log_level"], log["paper"]) for log in logs] == [("ingest.paper_set_aside", "error", "gaps")]
        world.run(TOLD_AGAIN_SECONDS, passes=5000)
    assert [log["paper"] for log in logs] == ["gaps"] * 2
    world.failing.clear()
    world.run(SWEEP)
    assert world.done[-1] == "gaps"


def test_new_papers_do_not_wait_for_a_failing_one() -> None:
    world = World(["bad"])
    world.failing["bad"] = ValueError("odd")
    assert 0 < world.worker.work() < 1
    world.landed.append("new")
    world.worker.work()  # the bell rang
    assert world.done == ["new"] and sum("bad" in batch for batch in world.batches) == 1


def test_a_shortage_pauses_everything_with_growing_waits_and_then_goes_on() -> None:
    world = World([f"{number:03}" for number in range(100)], batch=10)
    world.failing = dict.fromkeys(world.landed, OSError(errno.ENOSPC, "full"))
    first = world.worker.work()
    assert len(world.batches) == 1, "the rest of the pass was given up"
    assert world.worker.work() == first, "a bell does not end the pause"
    world.now += first
    assert world.worker.work() > first
    passes = world.run(3600)
    assert passes < 400 and len(world.batches) < 200
    world.failing = {}
    world.run(60)
    assert sorted(world.done) == [f"{number:03}" for number in range(100)]


def test_the_paper_that_spoils_a_batch_is_found_and_the_others_go_on() -> None:
    papers = [f"{number:03}" for number in range(64)]
    world = World(papers)
    world.spoiling["040"] = NightsafeError("the catalog will not take this one")
    world.run(SWEEP - 1)
    assert sorted(world.done) == [paper for paper in papers if paper != "040"]
    assert [batch for batch in world.batches if batch == ["040"]], "it was tried alone"
    assert len(world.batches) < 100


def test_a_catalog_out_of_reach_for_an_hour_loses_nothing() -> None:
    papers = [f"{number:03}" for number in range(64)]
    world = World(papers)
    world.spoiling = dict.fromkeys(papers, OutOfReach("locked"))
    assert world.run(3600) < 400
    world.spoiling = {}
    world.run(2 * SWEEP + 30)
    assert sorted(world.done) == papers


def test_papers_in_other_hands_are_not_asked_for_again_and_again() -> None:
    world = World(["a", "b"])
    world.busy = {"a"}
    assert world.worker.work() == SWEEP
    assert world.done == ["b"] and len(world.batches) == 1
    world.busy = set()
    world.run(SWEEP + 1)
    assert world.done == ["b", "a"]


def test_lost_receipts_are_finished_at_the_start() -> None:
    world = World([])
    world.lost_receipts = ["x"]
    world.worker.work()
    assert world.done == ["x"]


def test_a_listing_that_fails_pauses() -> None:
    def unreadable() -> list[str]:
        raise OSError(errno.EIO, "gone")

    worker = Worker(World([]), Sources(unreadable), batch=1, sweep_seconds=SWEEP, clock=lambda: 0.0)
    assert 0 < worker.work() <= 1


def test_stop_ends_the_pass_after_the_batch_in_hand() -> None:
    world = World([f"{number:03}" for number in range(100)], batch=10)
    world.worker.work(lambda: len(world.batches) >= 3)
    assert len(world.done) == 30


def test_run_works_on_the_bell_and_ends_on_stop() -> None:
    worked = threading.Event()

    class Once:
        def handle(self, papers: Sequence[str]) -> Outcome:
            landed.clear()
            worked.set()
            return Outcome(done=list(papers))

    landed: list[str] = []
    stop, bell = threading.Event(), threading.Event()
    thread = threading.Thread(target=Worker(Once(), Sources(lambda: list(landed)), batch=4, sweep_seconds=3600.0).run, args=(stop, bell))
    thread.start()
    landed.append("a")
    bell.set()
    assert worked.wait(240)
    stop.set()
    bell.set()
    thread.join(240)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (OSError(errno.ENOSPC, ""), True),
        (OSError(errno.EROFS, ""), True),
        (OSError(errno.EIO, ""), False),
        (OutOfReach("x"), True),
        (MemoryError(), True),
        (Refused("no_space", "full"), True),
        (Refused("failure", "odd"), False),
        (NightsafeError("x"), False),
        (ValueError("x"), False),
    ],
)
def test_what_is_a_shortage(error: Exception, short: bool) -> None:
    assert is_shortage(error) is short


def test_waits_double_up_to_the_most() -> None:
    backoff, waits = Backoff(1.0, 5.0), []
    for _ in range(5):
        waits.append(backoff.seconds)
        backoff = backoff.next(failed=True)
    assert waits == [0.0, 1.0, 2.0, 4.0, 5.0] and backoff.next(failed=False).seconds == 0.0
    assert Backoff(1.0, 5.0, 10_000).seconds == 5.0
