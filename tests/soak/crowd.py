"""The crowd: fifty clients of mixed kinds, set to work, sent home for a moment, and ended."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

from config.folder import DataFolder
from tests.e2e.clients import Curl, Driver, Lftp, OpenSsh, Rclone, Scp
from tests.e2e.house import House
from tests.integration.sftp_rig import Server
from tests.soak.deposits import Ledger
from tests.soak.members import AsyncsshMember, Member, Pace, ParamikoMember, ProgramMember

PROGRAMS: tuple[type[Driver], ...] = (OpenSsh, Scp, Rclone, Lftp, Curl)
OF_ASYNCSSH, OF_PARAMIKO, OF_EACH_PROGRAM = 28, 12, 2
HANDS = 2  # that start programs
SIZE = OF_ASYNCSSH + OF_PARAMIKO + OF_EACH_PROGRAM * len(PROGRAMS)


class Door(Server):
    """The running house as the drivers of programs want it, for one person."""

    def __init__(self, house: House, person: str) -> None:  # no other installation: this one is up
        self.home, self.key, self.folder, self.port, self.person = house.home, house.key, DataFolder(house.data), house.sftp_port, person


class Crowd:
    """Clients `names` at the door of `house`, which is up. `seconds` lie between two actions of one client, on average."""

    def __init__(self, house: House, names: list[str], seconds: float, seed: int) -> None:
        self.ledger = Ledger()
        self.pace = Pace(seconds, threading.Event(), threading.Event())
        scratch = house.home / "programs"
        scratch.mkdir()
        parts = iter(enumerate(names, seed))

        def take(count: int) -> list[tuple[int, str]]:
            return [next(parts) for _ in range(count)]

        self._async = [AsyncsshMember(house, self.ledger, self.pace, name, number) for number, name in take(OF_ASYNCSSH)]
        self._paramiko = [ParamikoMember(house, self.ledger, self.pace, name, number) for number, name in take(OF_PARAMIKO)]
        self._programs = [
            ProgramMember(house, self.ledger, self.pace, name, number, self._driver(kind, house, name), scratch)
            for kind in PROGRAMS
            for number, name in take(OF_EACH_PROGRAM)
        ]
        self.members: list[Member] = [*self._async, *self._paramiko, *self._programs]
        self._threads = [threading.Thread(target=self._live_async, name="crowd-asyncssh", daemon=True)]
        self._threads += [threading.Thread(target=one.live, name=f"crowd-{one.name}", daemon=True) for one in self._paramiko]
        self._threads += [threading.Thread(target=self._take_turns, args=(hand,), name=f"crowd-hand-{hand}", daemon=True) for hand in range(HANDS)]

    @staticmethod
    def _driver(kind: type[Driver], house: House, name: str) -> Driver:
        home: Path = house.home / "programs" / name
        home.mkdir()
        return kind(Door(house, name), home)

    def start(self) -> None:
        """Everybody begins."""
        for thread in self._threads:
            thread.start()

    def send_home(self, seconds: float = 300) -> None:
        """Return once nobody has a session open; they come again after `call_back`."""
        self.pace.pause.set()
        until = time.monotonic() + seconds
        while any(member.inside for member in self.members):
            assert time.monotonic() < until, [member.name for member in self.members if member.inside]
            time.sleep(0.2)

    def call_back(self) -> None:
        """The end of `send_home`."""
        self.pace.pause.clear()

    def everybody_has_worked(self, seconds: float) -> None:
        """Return once each client has done something more."""
        before = {member.name: member.count for member in self.members}
        until = time.monotonic() + seconds
        while missing := [member.name for member in self.members if member.count == before[member.name]]:
            assert time.monotonic() < until, f"these get nothing done: {missing}; {self.ledger.failed.most_common(10)}"
            time.sleep(0.5)

    def stop(self) -> None:
        """All end."""
        self.pace.stop.set()
        for thread in self._threads:
            thread.join(150)
            assert not thread.is_alive(), thread.name

    def _live_async(self) -> None:
        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for member in self._async:
                    group.create_task(member.live())

        try:
            asyncio.run(all_of_them())
        except BaseException as error:
            self.ledger.wrong.append(f"the clients of asyncssh broke: {error!r}")
            raise

    def _take_turns(self, hand: int) -> None:
        mine = self._programs[hand::HANDS]
        while not self.pace.stop.is_set():
            for member in mine:
                if self.pace.stop.wait(member.wait_seconds() / len(mine) * 1.5):
                    return
                if not member.resting:
                    member.turn()
