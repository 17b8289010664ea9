"""The watch, judged on half a year of a firm that was made up: how often it cries wolf, and whether it finds what was planted.

The numbers stand in docs/explanation/anomalies.md; `test_the_page_tells_these_numbers` holds them together.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.vigilance import WatchSettings
from gateway.jail.permissions import UNFINISHED_SUFFIXES
from gateway.watch import detector as detector_module
from gateway.watch.detector import KINDS, Anomaly, Detector
from gateway.watch.habits import Habits, network_of
from gateway.watch.store import Store

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "anomalies.md"
START, DAYS = date(2026, 1, 5), 182
Record = dict[str, Any]


@dataclass
class Worker:
    """Somebody with habits: office hours with exceptions, a few networks, reading that grows at the end of the month."""

    name: str
    role: str = "client"
    clients: tuple[str, ...] = ("acme",)
    hours: tuple[int, int] = (8, 18)
    weekends: float = 0.0  # how likely a login is on such a day
    networks: tuple[str, ...] = ("192.0.2",)
    roaming: float = 0.0  # how likely a login comes from a network that nobody saw before
    reads: tuple[int, int] = (0, 8)
    month_end: int = 1
    changes: tuple[int, int] = (0, 3)
    nightly: int = 0  # papers that a script fetches each night
    rng: random.Random = field(default_factory=random.Random)

    def day(self, day: date) -> Iterator[Record]:
        """What this person does on a day."""
        rng = self.rng
        if self.nightly:
            yield from self._session(day, 2, rng.randrange(60), self.nightly + rng.randrange(-20, 20), 0)
        elif (rng.random() < self.weekends) if day.weekday() >= 5 else rng.random() < 0.93:
            end = day + timedelta(days=3)
            busy = self.month_end if end.month != day.month else 1
            for _ in range(rng.randint(1, 2)):
                hour = rng.randrange(*self.hours)
                yield from self._session(day, hour, rng.randrange(60), rng.randint(*self.reads) * busy, rng.randint(*self.changes))

    def _session(self, day: date, hour: int, minute: int, reads: int, changes: int) -> Iterator[Record]:
        moment = datetime.combine(day, time(hour, minute), UTC)
        prefix = self.rng.choice(self.networks)
        if self.rng.random() < self.roaming:
            prefix = f"{self.rng.randrange(11, 200)}.{self.rng.randrange(256)}.{self.rng.randrange(256)}"
        facts = {"person": self.name, "person_role": self.role, "address": f"{prefix}.{self.rng.randrange(1, 255)}", "role": "gateway"}
        yield {**facts, "event": "login.accepted", "time": stamp(moment)}
        todays = self.rng.sample(self.clients, min(len(self.clients), self.rng.randint(1, 4)))
        for number in range(reads + changes):
            moment += timedelta(seconds=self.rng.uniform(1, 20))
            event = "paper.read" if number < reads else self.rng.choice(["name.removed", "paper.deposited"])
            client = self.rng.choice(todays)
            more = {"client": client, "path": f"/inbox/{number}", "replaces": event == "paper.deposited"}
            yield {**facts, **more, "event": event, "time": stamp(moment)}


def stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


CLIENTS = tuple(f"client{number}" for number in range(40))


def firm(seed: int) -> list[Worker]:
    """Twenty logins: clients' people, staff, scripts, somebody who travels, somebody with another address every week."""
    rng = random.Random(seed)

    def made(name: str, **habits: Any) -> Worker:
        return Worker(name, rng=random.Random(rng.random()), **habits)

    office = [made(f"office{n}", clients=(CLIENTS[n],), networks=(f"192.0.{n}",), weekends=0.02 * n) for n in range(11)]
    staff = [
        made(f"staff{n}", role="staff", clients=CLIENTS[n * 8 : n * 8 + 12], networks=("198.51.100", f"203.0.{n}"), reads=(5, 30), month_end=3)
        for n in range(4)
    ]
    return [
        *office,
        *staff,
        made("nightly", nightly=300, weekends=1.0),
        made("sync", nightly=60, weekends=1.0),
        made("traveller", role="staff", clients=CLIENTS[:10], roaming=0.3, hours=(6, 23), weekends=0.3, reads=(2, 12)),
        made("dynamic", roaming=0.1, clients=("client30",)),
        made("owl", hours=(13, 24), weekends=0.5, clients=("client31",)),
    ]


def months(seed: int, days: int = DAYS) -> Iterator[Record]:
    """All days of the firm, in the order of time."""
    workers = firm(seed)
    for number in range(days):
        yield from sorted((record for worker in workers for record in worker.day(START + timedelta(days=number))), key=lambda one: str(one["time"]))


def planted(day: date) -> dict[str, tuple[str, list[Record]]]:
    """What must be found: name → (kind, events), each at its own time of `day`, a Wednesday."""

    def burst(
        person: str, event: str, count: int, hour: int, role: str = "client", clients: Sequence[str] = ("client1",), **more: Any
    ) -> list[Record]:
        moment = datetime.combine(day, time(hour), UTC)
        facts = {"person": person, "person_role": role, "event": event, "role": "gateway", "address": "192.0.1.7", **more}
        return [
            {**facts, "time": stamp(moment + timedelta(seconds=3 * number)), "client": clients[number % len(clients)], "path": f"/inbox/{number}.pdf"}
            for number in range(count)
        ]

    def login(person: str, address: str, hour: int) -> list[Record]:
        moment = datetime.combine(day, time(hour, 30), UTC)
        return [{"person": person, "event": "login.accepted", "role": "gateway", "address": address, "time": stamp(moment)}]

    return {
        "a client's login copies everything": ("mass_download", burst("office1", "paper.read", 400, 10)),
        "staff copies everything": ("mass_download", burst("staff0", "paper.read", 900, 11, "staff", CLIENTS[:3])),
        "the nightly script copies far more than ever": ("mass_download", burst("nightly", "paper.read", 1200, 3)),
        "ransomware overwrites": ("mass_change", burst("office2", "paper.deposited", 150, 12, replaces=True)),
        "ransomware renames": ("mass_change", burst("office3", "name.renamed", 150, 13, target="/inbox/x.locked")),
        "everything is deleted": ("mass_change", burst("office4", "name.removed", 150, 14)),
        "a stolen key from abroad": ("new_address", login("office5", "100.64.9.9", 10)),
        "staff's key from abroad": ("new_address", login("staff1", "100.64.9.9", 11)),
        "the script's key by hand": ("new_address", login("sync", "100.64.9.9", 2)),
        "an office at night": ("odd_hour", login("office6", "192.0.6.4", 3)),
        "staff at night": ("odd_hour", login("staff2", "198.51.100.4", 2)),
        "staff looks into every client": ("many_clients", burst("staff3", "paper.read", 40, 15, "staff", CLIENTS)),
    }


def judge(detector: Detector, records: Iterator[Record] | list[Record]) -> list[Anomaly]:
    return [one for record in records for one in detector.take(record)]


@dataclass
class Outcome:
    """Of one half-year: its events, false alarms by kind, and the planted incidents that were found."""

    events: int
    alarms: Counter[str]
    found: list[str]
    missed: list[str]


def half_year(seed: int) -> Outcome:
    detector, events, alarms = Detector(WatchSettings(), UTC), 0, Counter[str]()
    for record in months(seed):
        events += 1
        alarms.update(one.kind for one in detector.take(record))
    outcome = Outcome(events, alarms, [], [])
    for name, (kind, burst) in planted(START + timedelta(days=DAYS + 2)).items():
        hits = [one for one in judge(detector, burst) if one.kind == kind]
        (outcome.found if hits else outcome.missed).append(name)
    return outcome


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return half_year(1)


def test_what_was_planted_is_found(outcome: Outcome) -> None:
    assert outcome.missed == [] and len(outcome.found) == 12


def test_false_alarms_are_rare(outcome: Outcome) -> None:
    assert sum(outcome.alarms.values()) <= DAYS / 14, "at most one in two weeks, for twenty people"


def test_the_page_tells_these_numbers(outcome: Outcome) -> None:
    text = PAGE.read_text("utf-8")
    table = {name: int(count.replace(",", "")) for name, count in re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", text, re.MULTILINE)}
    assert table == {kind: outcome.alarms[kind] for kind in KINDS}
    assert f"{outcome.events:,} events" in text and f"{len(outcome.found)} of {len(outcome.found)} planted incidents" in text


@pytest.mark.long
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_other_years_are_no_worse(seed: int) -> None:
    outcome = half_year(seed)
    assert outcome.missed == [] and sum(outcome.alarms.values()) <= DAYS / 14


def test_it_tells_once_a_day_and_again_the_next() -> None:
    detector = Detector(WatchSettings(), UTC)
    day = START + timedelta(days=2)
    burst = planted(day)["everything is deleted"][1]
    assert [one.kind for one in judge(detector, burst)] == ["mass_change"]
    assert judge(detector, burst) == []
    assert [one.count for one in judge(detector, planted(day + timedelta(days=1))["everything is deleted"][1])] == [], "usual by now"


def test_an_upload_tool_s_renames_and_new_papers_are_no_changes() -> None:
    moment = datetime.combine(START, time(9), UTC)
    facts = {"person": "ann", "role": "gateway", "client": "acme", "time": stamp(moment)}
    uploads = [{**facts, "event": "name.renamed", "path": f"/inbox/{n}.filepart", "target": f"/inbox/{n}"} for n in range(500)]
    uploads += [{**facts, "event": "paper.deposited", "path": f"/inbox/{n}"} for n in range(500)]
    assert judge(Detector(WatchSettings(), UTC), uploads) == []
    assert detector_module.UNFINISHED_SUFFIXES == UNFINISHED_SUFFIXES


def test_settings_switch_each_off() -> None:
    off = WatchSettings(downloads_per_hour=0, changes_per_hour=0, clients_per_day=0, new_address=False, odd_hours=False)
    detector = Detector(off, UTC)
    judge(detector, months(5, 30))
    assert [one for _, burst in planted(START + timedelta(days=30)).values() for one in judge(detector, burst)] == []


def test_what_strangers_cause_is_not_looked_at_and_nonsense_breaks_nothing() -> None:
    detector = Detector(WatchSettings(), UTC)
    for record in (
        {"event": "login.failed", "person": "x", "role": "gateway", "time": stamp(datetime.now(UTC))},
        {"event": "login.accepted", "person": ["x"], "role": "gateway", "time": "1"},
        {"event": "login.accepted", "person": "x", "role": "gateway", "time": "yesterday"},
        {"event": "paper.read", "person": "x", "role": "ops", "time": stamp(datetime.now(UTC))},
    ):
        assert detector.take(record) == []
    assert detector.habits("x") is None
    odd = {"event": "login.accepted", "person": "y", "role": "gateway", "time": stamp(datetime.now(UTC)), "address": "no address"}
    assert detector.take(odd) == [] and detector.habits("y") is not None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.watch.detector.MOST_PEOPLE", 10)
    detector = Detector(WatchSettings(), UTC)
    moment = datetime(2026, 1, 5, tzinfo=UTC)
    for n in range(3000):
        moment += timedelta(hours=7)
        detector.take({"event": "login.accepted", "person": "a", "role": "gateway", "time": stamp(moment), "address": f"10.{n % 250}.{n // 250}.1"})
        detector.take({"event": "paper.read", "person": f"p{n}", "role": "gateway", "time": stamp(moment), "client": "x"})
    assert detector.habits("p1") is None and len(detector.dirty) <= 10
    habits = detector.habits("a")
    assert habits is not None and len(str(habits.as_json())) < 5000


def test_habits_are_kept_over_restarts(tmp_path: Path) -> None:
    detector = Detector(WatchSettings(), UTC)
    judge(detector, months(6, 20))
    store = Store(tmp_path / "watch.sqlite3")
    kept = {name: habits for name in detector.dirty if (habits := detector.habits(name)) is not None}
    store.keep(kept, {"gateway-x": 5})
    store.close()
    again = Store(tmp_path / "watch.sqlite3")
    assert dict(again.habits(100)) == kept and again.places() == {"gateway-x": 5}
    again._connection.execute("UPDATE habits SET habits = '{\"day\": 3, \"x\": 1}' WHERE person = 'nightly'")
    assert "nightly" not in dict(again.habits(100)) and len(dict(again.habits(3))) <= 3
    again.close()


@pytest.mark.parametrize(("address", "network"), [("192.0.2.77", "192.0.2.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48"), ("x" * 99, "x" * 64)])
def test_neighbours_share_a_network(address: str, network: str) -> None:
    assert network_of(address) == network


def test_a_late_line_counts_for_the_running_day() -> None:
    habits = Habits()
    habits.begin(date(2026, 1, 7))
    habits.begin(date(2026, 1, 6))
    assert habits.day == "2026-01-07"


def test_a_clock_that_jumped_ahead_does_not_silence_the_days_until_then() -> None:
    def burst(day: date) -> list[str]:
        moment = datetime.combine(day, time(10), UTC)
        times = [(moment + timedelta(seconds=n)).isoformat() for n in range(30)]
        return [one.kind for at in times for one in detector.take({"event": "paper.read", "person": "ann", "role": "gateway", "time": at})]

    detector = Detector(WatchSettings(downloads_per_hour=20), UTC)
    assert burst(START + timedelta(days=3650)) == ["mass_download"], "the clock was wrong for a minute"
    assert burst(START) == [], "thirty in an hour are a habit by now"
    detector.load("ann", Habits(day=(START + timedelta(days=3650)).isoformat(), told={"mass_download": (START + timedelta(days=3650)).isoformat()}))
    assert burst(START) == ["mass_download"]
    assert burst(START) == [], "once a day"
