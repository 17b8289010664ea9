"""How many names a folder holds, as it is kept between counts."""

from __future__ import annotations

import pytest

from gateway.jail import Refused, VirtualPath, parse
from gateway.sftp.limits.crowding import AGAIN_SECONDS, MOST_FOLDERS, Crowding

A = parse(b"/inbox/a")


class World:
    """Folders of so many names, and a clock."""

    def __init__(self, most: int = 3) -> None:
        self.names = {"/inbox": 2}
        self.now = 0.0
        self.counts = 0
        self.crowding = Crowding(self.count, lambda: most, lambda: self.now)

    def count(self, folder: VirtualPath) -> int:
        self.counts += 1
        return self.names.get(str(folder), 0)


def test_a_folder_is_counted_once_and_full_at_its_bound() -> None:
    world = World()
    assert not world.crowding.is_known(A)
    for _ in range(3):
        world.crowding.learn(A)
    assert world.counts == 1
    world.crowding.check(A)
    world.crowding.add(A)
    with pytest.raises(Refused, match="holds 3 names"):
        world.crowding.check(A)
    world.crowding.add(A, -1)
    world.crowding.check(A)


def test_a_full_folder_is_counted_anew() -> None:
    world = World()
    world.names["/inbox"] = 3
    world.crowding.learn(A)
    assert world.crowding.is_known(A)
    world.now = AGAIN_SECONDS
    world.names["/inbox"] = 1  # the firm has removed some
    assert not world.crowding.is_known(A)
    world.crowding.learn(A)
    world.crowding.check(A)


def test_names_that_move_and_folders_that_do() -> None:
    world = World()
    inside = parse(b"/inbox/folder/x")
    for path in (A, inside):
        world.crowding.learn(path)
    world.crowding.moved(A, inside)
    world.crowding.add(inside, 2)
    with pytest.raises(Refused):
        world.crowding.check(inside)
    world.crowding.moved(parse(b"/inbox/folder"), parse(b"/inbox/other"))
    assert not world.crowding.is_known(inside)


def test_few_folders_are_kept() -> None:
    world = World()
    for number in range(MOST_FOLDERS * 2):
        world.crowding.learn(parse(f"/inbox/{number}/x".encode()))
    assert len(world.crowding._known) == MOST_FOLDERS
