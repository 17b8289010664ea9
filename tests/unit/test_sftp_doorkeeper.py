"""Who has to go when there are too many connections that have not logged in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from config.settings import GatewaySettings
from gateway.sftp.defender.bans import BanStore, Rules
from gateway.sftp.defender.defender import Defender
from gateway.sftp.defender.doorkeeper import FAREWELLS, YOUNG_SECONDS, Doorkeeper
from gateway.sftp.defender.tallies import Board, OwnTally
from gateway.sftp.transport.connection import FAREWELL_SECONDS, last_words


class Connection:
    """As much of a connection as a doorkeeper sees."""

    is_logged_in = False
    spoke = False
    failures = 0
    farewell = ""

    def __init__(self, address: str) -> None:
        self.address = address
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Door:
    """A doorkeeper with a clock."""

    def __init__(self, folder: Path, tally: Any = lambda _: OwnTally(), workers: int = 1, may_open: int = 1024, **settings: int) -> None:
        self.now = 0.0
        defender = Defender(BanStore(folder / "defender"), Rules(10, 600, 60, 3600), (), lambda _: None)
        found = GatewaySettings(**{"max_unauthenticated": 4, "max_unauthenticated_per_address": 3, **settings})
        self.keeper = Doorkeeper(lambda: found, defender, tally, workers, lambda: self.now, lambda: may_open)

    def come(self, address: str) -> Any:
        """A new connection; None when it is turned away. A moment passes."""
        connection = Connection(address)
        self.now += 0.2
        return connection if self.keeper.admit(cast(Any, connection)) else None

    def fill(self, *addresses: str) -> list[Any]:
        found = [self.come(address) for address in addresses]
        assert None not in found
        return found


def test_the_oldest_of_the_most_crowded_address_goes(tmp_path: Path) -> None:
    door = Door(tmp_path)
    lone, first, second, third = door.fill("192.0.2.1", "192.0.2.7", "192.0.2.7", "192.0.2.7")
    door.now += YOUNG_SECONDS
    assert door.come("192.0.2.2")
    assert (lone.aborted, first.aborted, second.aborted, third.aborted) == (False, True, False, False)


def test_among_equals_the_oldest_goes(tmp_path: Path) -> None:
    door = Door(tmp_path)
    waiting = door.fill(*(f"192.0.2.{number}" for number in range(4)))
    door.now += YOUNG_SECONDS
    newcomers = door.fill("198.51.100.1", "198.51.100.2")
    assert [one.aborted for one in waiting + newcomers] == [True, True, False, False, False, False]


def test_a_flood_throws_out_nobody_who_is_just_logging_in(tmp_path: Path) -> None:
    door = Door(tmp_path, max_unauthenticated=3)
    young = door.fill("192.0.2.1", "192.0.2.2", "192.0.2.3")
    assert door.come("198.51.100.1") is None
    assert not any(one.aborted for one in young)


def test_a_crowd_makes_room_among_itself(tmp_path: Path) -> None:
    door = Door(tmp_path, max_unauthenticated=3)
    lone, first, _ = door.fill("192.0.2.1", "192.0.2.7", "192.0.2.7")
    door.now += YOUNG_SECONDS
    assert door.come("192.0.2.7")  # as one of three it takes no place from one of one
    assert (lone.aborted, first.aborted) == (False, True)


def test_over_the_bound_of_one_address_its_own_oldest_goes(tmp_path: Path) -> None:
    door = Door(tmp_path, max_unauthenticated=100)
    other, first, *_ = door.fill("192.0.2.1", "192.0.2.7", "192.0.2.7", "192.0.2.7")
    assert door.come("192.0.2.7") is None  # all are young
    door.now += YOUNG_SECONDS
    assert door.come("192.0.2.7")
    assert (other.aborted, first.aborted) == (False, True)


def test_an_ipv6_network_and_a_mapped_address_are_one_place(tmp_path: Path) -> None:
    door = Door(tmp_path, max_unauthenticated=100)
    door.fill("2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.7", "::ffff:192.0.2.7", "192.0.2.7")
    assert door.come("2001:db8::4") is None
    assert door.come("::ffff:192.0.2.7") is None
    assert door.come("2001:db8:0:1::1")


def test_places_are_given_back_once(tmp_path: Path) -> None:
    door = Door(tmp_path)
    waiting = door.fill("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
    door.now += YOUNG_SECONDS
    fifth = door.come("192.0.2.5")
    waiting[1].is_logged_in = True
    door.keeper.has_logged_in(waiting[1])
    for one in [*waiting, fifth]:  # the dropped one has its end, too
        door.keeper.gone(one)
    assert (door.keeper._unauthenticated.total, door.keeper._everyone.total, door.keeper.connections) == (0, 0, set())


@pytest.mark.parametrize("mine", [0, 2])
def test_a_worker_has_its_share_while_others_hold_all_places(tmp_path: Path, mine: int) -> None:
    board = Board(2)
    others = board.tally("unauthenticated", 1)
    for number in range(4):
        others.add(f"198.51.100.{number}")
    door = Door(tmp_path, lambda kind: board.tally(kind, 0), 2)
    door.fill(*(f"192.0.2.{number}" for number in range(mine)))
    assert (door.come("203.0.113.1") is not None) == (mine < 2)


def test_where_all_have_logged_in_the_next_one_is_told_that_there_is_no_place(tmp_path: Path) -> None:
    door = Door(tmp_path, max_connections=2)
    for connection in door.fill("192.0.2.1", "192.0.2.2"):
        door.keeper.has_logged_in(connection)
    door.now += YOUNG_SECONDS
    refused = Connection("192.0.2.3")
    assert not door.keeper.admit(cast(Any, refused))
    assert "try again" in refused.farewell


def test_many_at_once_for_whom_there_is_no_place_are_told_nothing(tmp_path: Path) -> None:
    door = Door(tmp_path, max_connections=1)
    (inside,) = door.fill("192.0.2.1")
    door.keeper.has_logged_in(inside)
    refused = [Connection("192.0.2.3") for _ in range(FAREWELLS + 1)]
    assert not any(door.keeper.admit(cast(Any, connection)) for connection in refused)
    assert [bool(connection.farewell) for connection in refused] == [True] * FAREWELLS + [False]
    door.now += FAREWELL_SECONDS
    assert not door.keeper.admit(cast(Any, refused[-1]))
    assert refused[-1].farewell


def test_strangers_who_wait_keep_nobody_out(tmp_path: Path) -> None:
    door = Door(tmp_path, max_connections=2)
    inside, stranger = door.fill("192.0.2.1", "192.0.2.2")
    door.keeper.has_logged_in(inside)
    assert door.come("192.0.2.3") is None  # the stranger is young
    door.now += YOUNG_SECONDS
    assert door.come("192.0.2.3")
    assert (inside.aborted, stranger.aborted) == (False, True)


def test_a_flood_is_told_nothing(tmp_path: Path) -> None:
    door = Door(tmp_path, max_unauthenticated=1)
    door.fill("192.0.2.1")
    refused = Connection("192.0.2.3")
    assert not door.keeper.admit(cast(Any, refused))
    assert refused.farewell == ""


def test_there_are_no_more_connections_than_descriptors_for_their_work(tmp_path: Path) -> None:
    door = Door(tmp_path, may_open=11)
    for connection in door.fill("192.0.2.1", "192.0.2.2"):
        door.keeper.has_logged_in(connection)
    refused = Connection("192.0.2.3")
    assert not door.keeper.admit(cast(Any, refused))
    assert "try again" in refused.farewell


def test_last_words_are_a_packet_that_a_client_understands() -> None:
    words = last_words(b"Nightsafe", "full")
    version, _, packet = words.partition(b"\r\n")
    length, padding = int.from_bytes(packet[:4]), packet[4]
    assert version == b"SSH-2.0-Nightsafe"
    assert (len(packet), len(packet) % 8, padding >= 4) == (4 + length, 0, True)
    assert packet[5:-padding] == bytes([1, 0, 0, 0, 12, 0, 0, 0, 4]) + b"full" + bytes(4)
