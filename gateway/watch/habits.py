"""What one person usually does, in a few hundred bytes that JSON can hold. Pure; every list and table here is bounded.

Counts are kept in slots of five minutes for the last hour; of each day the busiest hour is remembered, for the last DAYS days on which there was any.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from ipaddress import ip_address, ip_network
from typing import Any

DAYS = 28
SLOT_SECONDS, SLOTS = 300, 12
NETWORKS, NETWORK_DAYS = 64, 180
RECENT_LOGINS, ROAMING = 40, 3  # so many new networks among so many logins: this person moves about
MOST_CLIENTS = 2000
LATE_DAYS = 7  # so much older than the newest a line may be


@dataclass
class Rate:
    """How often something is done: in the last hour, and in the busiest hour of each day."""

    slots: dict[str, int] = field(default_factory=dict)
    peak: int = 0  # of the running day
    peaks: list[int] = field(default_factory=list)

    def add(self, moment: datetime) -> int:
        """Count one at `moment`; how many there were in the hour up to then."""
        slot = int(moment.timestamp()) // SLOT_SECONDS
        self.slots = {name: count for name, count in self.slots.items() if slot - SLOTS < int(name) <= slot}
        self.slots[str(slot)] = self.slots.get(str(slot), 0) + 1
        total = sum(self.slots.values())
        self.peak = max(self.peak, total)
        return total

    def end_day(self) -> None:
        """The running day is over."""
        if self.peak:
            self.peaks = [*self.peaks, self.peak][-DAYS:]
        self.peak = 0

    @property
    def usual(self) -> int:
        """The busiest hour of the days that are over."""
        return max(self.peaks, default=0)


@dataclass
class Habits:
    """One person's. Days are ISO dates in the firm's time zone; `hours` are those of the day at which there was ever a login."""

    day: str = ""
    first_login: str = ""
    login_days: int = 0
    login_day: str = ""  # the last one
    hours: list[int] = field(default_factory=list)
    networks: dict[str, str] = field(default_factory=dict)  # network → day it was seen last
    fresh: list[bool] = field(default_factory=list)  # of the last logins, whether the network was new
    reads: Rate = field(default_factory=Rate)
    changes: Rate = field(default_factory=Rate)
    clients: list[str] = field(default_factory=list)  # that somebody of the staff opened on the running day
    client_days: list[int] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)  # kind of anomaly → day on which it was told

    def begin(self, day: date) -> None:
        """Go on to `day`; an event of an earlier day (lines may come late) counts for the running one."""
        text = day.isoformat()
        if self.day and (date.fromisoformat(self.day) - day).days > LATE_DAYS:  # the clock had jumped ahead, and what was told "today" would
            self.day, self.told = "", {}  # silence all days up to then
        if text <= self.day:
            return
        self.reads.end_day()
        self.changes.end_day()
        if self.clients:
            self.client_days = [*self.client_days, len(self.clients)][-DAYS:]
        self.day, self.clients = text, []

    def knows_for(self, day: date) -> int:
        """Days since the first login."""
        return (day - date.fromisoformat(self.first_login)).days if self.first_login else 0

    def log_in(self, moment: datetime) -> bool:
        """A login at `moment` (local time); whether one at about that hour was ever seen before."""
        seen = any((moment.hour + step) % 24 in self.hours for step in (-1, 0, 1))
        if moment.hour not in self.hours:
            self.hours.append(moment.hour)
        if self.login_day != self.day:
            self.login_day = self.day
            self.login_days += 1
        self.first_login = self.first_login or moment.date().isoformat()
        return seen

    def come_from(self, address: str, day: date) -> bool:
        """A login from `address`; whether its network is known."""
        network, today = network_of(address), day.isoformat()
        known = network in self.networks
        self.fresh = [*self.fresh, not known][-RECENT_LOGINS:]
        self.networks.pop(network, None)
        self.networks[network] = today  # the last one seen stands last
        kept = {name: seen for name, seen in self.networks.items() if (day - date.fromisoformat(seen)).days <= NETWORK_DAYS}
        self.networks = dict(list(kept.items())[-NETWORKS:])
        return known

    @property
    def roams(self) -> bool:
        """Whether new networks are usual for this person; the first ones are not counted."""
        return sum(self.fresh) >= ROAMING

    def open_client(self, client: str) -> int:
        """Somebody of the staff opened a paper of `client`; how many clients it is today."""
        if client not in self.clients and len(self.clients) < MOST_CLIENTS:
            self.clients.append(client)
        return len(self.clients)

    def tell(self, kind: str) -> bool:
        """Whether an anomaly of this kind is to be told: once a day."""
        if self.told.get(kind) == self.day:
            return False
        self.told[kind] = self.day
        return True

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Habits:
        """Back from `as_json`. Raises TypeError, ValueError for what is not."""
        return cls(**{**values, "reads": Rate(**values["reads"]), "changes": Rate(**values["changes"])})


def network_of(address: str) -> str:
    """The neighbourhood of an address: a /24 of IPv4, a /48 of IPv6."""
    try:
        found = ip_address(address)
    except ValueError:
        return address[:64]
    return str(ip_network(f"{found}/{24 if found.version == 4 else 48}", strict=False))
