"""One job over time: slept slots, clocks that are set, and tries after an outage. Both clocks are ours here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.clock.agenda import Agenda, Outcome, Patience
from backup.clock.schedule import Timetable

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOURLY = Timetable("15 * * * *")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class World:
    """A job, a time of day and a clock."""

    def __init__(self, timetable: Timetable = HOURLY, patience: Patience | None = None) -> None:
        self.now, self.clock = START, 1000.0
        self.agenda = Agenda(timetable, START, patience)
        self.begun: list[datetime] = []

    def live(self, span: timedelta, outcome: Outcome = "ended", takes: timedelta = timedelta(0)) -> int:
        """Time goes by in ticks; the job runs when it is due. How often it did."""
        before, end = len(self.begun), self.now + span
        while self.now < end:
            if self.agenda.is_due(self.now, self.clock):
                self.begun.append(self.now)
                self.agenda.begin(self.now, self.clock)
                self.now, self.clock = self.now + takes, self.clock + takes.total_seconds()
                self.agenda.end(outcome, self.clock)
            self.now, self.clock = self.now + timedelta(seconds=15), self.clock + 15
        return len(self.begun) - before


def test_each_slot_once() -> None:
    world = World()
    assert world.live(DAY) == 24
    assert {moment.minute for moment in world.begun} == {15}


def test_asleep_over_many_slots_is_caught_up_once() -> None:
    world = World()
    world.now += 9 * DAY  # the machine slept; its counting clock stood still
    assert world.live(10 * MINUTE) == 1
    assert world.live(DAY) == 24


def test_a_run_that_lasts_over_three_slots_is_followed_by_one() -> None:
    world = World()
    assert world.live(HOUR, takes=3 * HOUR + 30 * MINUTE) == 1
    assert world.live(MINUTE) == 1
    assert world.live(20 * MINUTE) == 0


def test_a_clock_that_is_set_back_stops_nothing_and_repeats_little() -> None:
    world = World()
    world.now += 400 * DAY  # the machine began its life with a clock that went wrong
    assert world.live(HOUR) == 2, "the slot that was missed, and the next"
    world.now -= 400 * DAY
    assert world.live(DAY) == 24, "backups go on at once, not in 400 days"


def test_a_clock_that_is_set_back_by_minutes() -> None:
    world = World()
    world.live(20 * MINUTE)
    world.now -= 10 * MINUTE  # 12:10 again: the slot comes a second time, as it does for cron
    assert world.live(20 * MINUTE) <= 1


def test_an_outage_is_tried_again_with_growing_waits_until_the_patience_ends() -> None:
    world = World(Timetable("0 0 * * *"), Patience(60, 240, 1000))
    world.now = START + 12 * HOUR
    assert world.live(6 * HOUR, "away") == 6
    waits = [(after - before).total_seconds() for before, after in zip(world.begun, world.begun[1:], strict=False)]
    assert waits == [60, 120, 240, 240, 240]
    assert world.live(DAY) == 1, "the next slot comes as ever"


def test_without_patience_there_is_one_try_a_slot() -> None:
    assert World(patience=Patience(total_seconds=0)).live(DAY, "away") == 24


def test_who_is_busy_is_asked_until_the_next_slot() -> None:
    world = World(Timetable("0 0 * * *"), Patience(60, 900, 600))
    world.now = START + 12 * HOUR
    assert world.live(5 * HOUR, "busy") > 20
    assert world.live(HOUR, "ended") == 1
    assert world.live(HOUR, "ended") == 0


def test_another_try_that_works_ends_it_and_the_next_outage_begins_anew() -> None:
    world = World(patience=Patience(60, 900, 1800))
    assert world.live(HOUR, "away") > 3
    world.live(10 * HOUR)
    assert world.agenda.tries == 0
    world.agenda.begin(world.now, world.clock)
    assert world.agenda.end("away", world.clock) == 60


@pytest.mark.parametrize(("tries", "wait"), [(1, 60), (2, 120), (3, 240), (5, 900), (10_000, 900)])
def test_waits(tries: int, wait: float) -> None:
    assert Patience().wait(tries) == wait


@given(st.timedeltas(timedelta(0), 3 * DAY), st.sampled_from(["15 * * * *", "30 2 * * *", "every 7 hours"]), st.floats(1, 600))
def test_who_sleeps_as_long_as_he_is_told_misses_nothing_and_never_spins(ahead: timedelta, rule: str, most: float) -> None:
    agenda = Agenda(Timetable(rule, "Europe/Zurich"), START)
    now = START + ahead
    left = agenda.seconds_left(now, 0, most)
    assert 0 <= left <= most
    if not agenda.is_due(now, 0):
        assert left > 0
    if 0 < left < most:
        assert agenda.is_due(now + timedelta(seconds=left), 0)
