"""What a client does to a name while ingest has its paper in hand: stopped at every step, killed there or going on, all ends as a person expects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.jail import Tree, path_of
from tests.integration.ingest_world import World
from tests.integration.test_ingest_pipeline import STEPS

A, B = "/inbox/a.pdf", "/inbox/sub/b.pdf"
UNTIL_RECORDED = STEPS[: STEPS.index("recorded")]


class Killed(BaseException):
    """Ingest dies here."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.catalog.close()


def rename(world: World) -> None:
    with Tree(world.folder.jail("acme")) as tree:
        tree.make_folder(path_of("/inbox/sub"))
        tree.rename(path_of(A), path_of(B), replace=False)


def delete(world: World) -> None:
    with Tree(world.folder.jail("acme")) as tree:
        tree.remove(path_of(A))


def overwrite(world: World) -> None:
    world.land("a.pdf", b"second")


def replace_by_rename(world: World) -> None:
    """As WinSCP and rclone do: upload under another name, remove the old one, rename."""
    world.land("a.pdf.filepart", b"second")
    with Tree(world.folder.jail("acme")) as tree:
        tree.remove(path_of(A))
        tree.rename(path_of("/inbox/a.pdf.filepart"), path_of(A), replace=False)


def rename_and_reuse(world: World) -> None:
    rename(world)
    world.land("a.pdf", b"second")


def meanwhile(world: World, step: str, action: Callable[[World], None], *, killed: bool) -> str:
    """Land a paper; at `step` the client acts, and ingest dies or goes on. Then ingest works until nothing is left. The paper."""
    paper = world.land("a.pdf", b"first")
    acted = False

    def at(done: str) -> None:
        nonlocal acted
        if done == step and not acted:
            acted = True
            action(world)
            if killed:
                raise Killed

    try:
        world.ingest(after=at)
    except Killed:
        assert killed
    world.ingest()
    world.check_all_safe()
    return paper


def names(world: World) -> dict[str, str]:
    with Tree(world.folder.jail("acme")) as tree:
        return {str(path): pointer.paper for path, pointer, _ in tree.pointers()}


def versions(world: World, path: str) -> list[bytes]:
    return [world.contents[row.id] for row in world.catalog.versions("acme", path)]


@pytest.mark.parametrize("killed", [pytest.param(False, marks=pytest.mark.long), True])
@pytest.mark.parametrize("step", STEPS)
class TestMeanwhile:
    def test_renamed(self, world: World, step: str, killed: bool) -> None:
        """The new name shows the paper. Its versions are under the name that it had when it was recorded, and the receipt names that one."""
        paper = meanwhile(world, step, rename, killed=killed)
        assert names(world) == {B: paper}
        recorded = B if step in UNTIL_RECORDED else A
        assert (versions(world, recorded), world.receipts()[paper]["path"]) == ([b"first"], recorded)

    def test_overwritten(self, world: World, step: str, killed: bool) -> None:
        """The name shows the second, and both are versions of it, in order."""
        meanwhile(world, step, overwrite, killed=killed)
        (second,) = (paper for paper, content in world.contents.items() if content == b"second")
        assert names(world) == {A: second} and versions(world, A) == [b"first", b"second"]

    def test_replaced_by_a_rename(self, world: World, step: str, killed: bool) -> None:
        """The same, by way of another name."""
        meanwhile(world, step, replace_by_rename, killed=killed)
        (second,) = (paper for paper, content in world.contents.items() if content == b"second")
        assert names(world) == {A: second} and versions(world, A) == [b"first", b"second"]

    def test_deleted(self, world: World, step: str, killed: bool) -> None:
        """The name is gone. The paper is kept under the name that it had."""
        meanwhile(world, step, delete, killed=killed)
        assert names(world) == {} and versions(world, A) == [b"first"]

    def test_renamed_and_the_name_used_again(self, world: World, step: str, killed: bool) -> None:
        """Two names, two papers. Where the first was recorded before it was renamed, the old name has both as versions."""
        paper = meanwhile(world, step, rename_and_reuse, killed=killed)
        assert names(world).keys() == {A, B} and names(world)[B] == paper
        if step in UNTIL_RECORDED:
            assert (versions(world, A), versions(world, B)) == ([b"second"], [b"first"])
        else:
            assert (versions(world, A), versions(world, B)) == ([b"first", b"second"], [])
