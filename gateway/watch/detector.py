"""Judges events by the habits of who did them. Pure: records of the audit log go in, in the order of time; anomalies come out.

| kind | when |
| --- | --- |
| `mass_download` | papers read within an hour: `downloads_per_hour` or more, and more than `times_usual` of the person's own busiest hour |
| `mass_change` | names removed, overwritten or renamed within an hour: `changes_per_hour` or more, and likewise |
| `new_address` | a login from a network that was never seen, of somebody known for `learning_days` who does not move about |
| `odd_hour` | a login at an hour of the day that was never seen, nor the hours beside it; likewise |
| `many_clients` | somebody of the staff opened papers of `clients_per_day` clients or more in a day, and more than twice as many as ever |

Each is told once a day for a person. What nobody logged in can cause (failed logins under invented names) is not looked at.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Literal, get_args

from config.vigilance import WatchSettings
from config.words import counted
from gateway.audit.events import Event
from gateway.watch.habits import Habits

Kind = Literal["mass_download", "mass_change", "new_address", "odd_hour", "many_clients"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WATCHED = frozenset({Event.LOGIN_ACCEPTED, Event.PAPER_READ, Event.PAPER_DEPOSITED, Event.NAME_REMOVED, Event.NAME_RENAMED})
MOST_PEOPLE = 20_000
UNFINISHED_SUFFIXES = (".filepart", ".part", ".partial", ".tmp")  # as in gateway.jail.permissions; a test holds both together
TIMES_CLIENTS = 2


@dataclass(frozen=True)
class Anomaly:
    """Something that this person does not usually do. `count` and `usual` are numbers of whatever the kind counts; `at` is as in the log."""

    kind: Kind
    person: str
    at: str
    reason: str
    client: str = ""
    address: str = ""
    count: int = 0
    usual: int = 0


class Detector:
    """Holds the habits of everybody. `zone` is the firm's. `dirty` names those whose habits changed since it was last cleared."""

    def __init__(self, settings: WatchSettings, zone: tzinfo) -> None:
        self._settings = settings
        self._zone = zone
        self._people: OrderedDict[str, Habits] = OrderedDict()
        self.dirty: set[str] = set()

    def load(self, person: str, habits: Habits) -> None:
        """Habits that were kept."""
        self._people[person] = habits

    def habits(self, person: str) -> Habits | None:
        """What is known of somebody."""
        return self._people.get(person)

    def take(self, record: Mapping[str, Any]) -> list[Anomaly]:
        """One record; what is odd about it."""
        person, event = record.get("person"), record.get("event")
        if event not in WATCHED or not isinstance(person, str) or not person.isprintable() or record.get("role") != "gateway":
            return []
        try:
            moment = datetime.fromisoformat(str(record.get("time"))).astimezone(self._zone)
        except (ValueError, OverflowError):
            return []
        habits = self._habits(person)
        habits.begin(moment.date())
        found = [self._login(habits, record, moment)] if event == Event.LOGIN_ACCEPTED else [self._work(habits, record, moment)]
        found += [self._clients(habits, record)] if event == Event.PAPER_READ and record.get("person_role") == "staff" else []
        return [one for few in found for one in few if habits.tell(one.kind)]

    def _habits(self, person: str) -> Habits:
        habits = self._people.setdefault(person, Habits())
        self._people.move_to_end(person)
        self.dirty.add(person)
        while len(self._people) > MOST_PEOPLE:
            gone, _ = self._people.popitem(last=False)
            self.dirty.discard(gone)
        return habits

    def _login(self, habits: Habits, record: Mapping[str, Any], moment: datetime) -> list[Anomaly]:
        settings, address = self._settings, str(record.get("address", ""))
        learnt = habits.knows_for(moment.date()) >= settings.learning_days and habits.login_days >= settings.learning_logins
        roamed = habits.roams
        usual_hour, known = habits.log_in(moment), habits.come_from(address, moment.date())
        found = []
        if settings.new_address and learnt and not known and not roamed:
            found.append(_anomaly("new_address", record, f"a login from {address}, a network from which they never came"))
        if settings.odd_hours and learnt and not usual_hour:
            found.append(_anomaly("odd_hour", record, f"a login on a {moment:%A} at {moment:%H:%M}, an hour at which they never came"))
        return found

    def _work(self, habits: Habits, record: Mapping[str, Any], moment: datetime) -> list[Anomaly]:
        settings = self._settings
        if record["event"] == Event.PAPER_READ:
            count, least, usual = habits.reads.add(moment), settings.downloads_per_hour, habits.reads.usual
            if least and count >= least and count > settings.times_usual * usual:
                return [_anomaly("mass_download", record, f"{counted(count, 'paper')} read within an hour; at most {usual} so far", count, usual)]
        elif is_change(record):
            count, least, usual = habits.changes.add(moment), settings.changes_per_hour, habits.changes.usual
            if least and count >= least and count > settings.times_usual * usual:
                text = f"{counted(count, 'name')} removed, overwritten or renamed within an hour; at most {usual} so far"
                return [_anomaly("mass_change", record, text, count, usual)]
        return []

    def _clients(self, habits: Habits, record: Mapping[str, Any]) -> list[Anomaly]:
        least, usual = self._settings.clients_per_day, max(habits.client_days, default=0)
        count = habits.open_client(str(record.get("client", "")))
        if least and count >= least and count > TIMES_CLIENTS * usual:
            return [_anomaly("many_clients", record, f"papers of {counted(count, 'client')} opened in a day; at most {usual} so far", count, usual)]
        return []


def is_change(record: Mapping[str, Any]) -> bool:
    """Whether a record takes a name away from a whole paper: removed, overwritten, or renamed by hand (not by a tool that ends its upload so)."""
    if record["event"] == Event.NAME_RENAMED:
        return not str(record.get("path", "")).lower().endswith(UNFINISHED_SUFFIXES)
    return record["event"] == Event.NAME_REMOVED or (record["event"] == Event.PAPER_DEPOSITED and record.get("replaces") is True)


def _anomaly(kind: Kind, record: Mapping[str, Any], reason: str, count: int = 0, usual: int = 0) -> Anomaly:
    client, address = str(record.get("client") or ""), str(record.get("address") or "")
    return Anomaly(kind, str(record["person"]), str(record["time"]), reason, client, address, count, usual)
