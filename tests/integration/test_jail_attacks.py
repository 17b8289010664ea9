"""An outsider on the host plants things in a jail and moves folders about; nothing outside is read, written, listed or told of."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.jail import ROOT, Entry, Pointer, Refused, Tree, VirtualPath, path_of

WHOLE = Pointer("ab" * 16, 1, "whole")
SECRET = Pointer("5e" * 16, 4242, "whole")  # a neighbour's pointer: readable, were it reached


@dataclass(frozen=True)
class Scene:
    """A jail, its place on the host, and the place next to it that must stay untouched."""

    tree: Tree
    jail: Path
    outside: Path

    def outside_is_untouched(self) -> bool:
        return sorted(os.listdir(self.outside)) == ["folder", "secret"] and os.listdir(self.outside / "folder") == []


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "secret").write_bytes(SECRET.encode())
    with Tree.create(tmp_path / "acme") as tree:
        yield Scene(tree, tmp_path / "acme", outside)


def attempts(tree: Tree, path: VirtualPath) -> dict[str, Callable[[], object]]:
    """Every request that takes a path, on `path`."""
    return {
        "stat": lambda: tree.stat(path),
        "list": lambda: list(tree.list(path)),
        "make_folder": lambda: tree.make_folder(path),
        "remove_folder": lambda: tree.remove_folder(path),
        "remove": lambda: tree.remove(path),
        "rename_from": lambda: tree.rename(path, path_of("/inbox/moved"), True),
        "set_times": lambda: tree.set_times(path, 1.0, 1.0),
        "open_plain": lambda: os.close(tree.open_plain(path)),
        "pointers": lambda: list(tree.pointers(path)),
    }


@pytest.mark.parametrize("target", ["outside", "outside/secret", "outside/folder", "nowhere", "acme/inbox"])
@pytest.mark.parametrize("absolute", [True, False])
def test_planted_links_are_refused_as_last_component(scene: Scene, target: str, absolute: bool) -> None:
    for folder in ("inbox", "receipts"):
        link = scene.jail / folder / "link"
        link.symlink_to(scene.jail.parent / target if absolute else Path("../..") / target)
        for name, attempt in attempts(scene.tree, path_of(f"/{folder}/link")).items():
            with pytest.raises(Refused):
                attempt()
            assert link.is_symlink(), name
        assert list(scene.tree.list(path_of(f"/{folder}"))) == []
    assert list(scene.tree.pointers()) == []
    assert scene.outside_is_untouched()


@pytest.mark.parametrize("below", ["secret", "folder", "folder/new"])
def test_planted_links_are_refused_on_the_way(scene: Scene, below: str) -> None:
    (scene.jail / "inbox/link").symlink_to(scene.outside)
    (scene.jail / "receipts/link").symlink_to(scene.outside)
    scene.tree.put(path_of("/inbox/mine"), WHOLE, mtime=None, durable=False)
    for folder in ("inbox", "receipts"):
        path = path_of(f"/{folder}/link/{below}")
        for attempt in attempts(scene.tree, path).values():
            with pytest.raises(Refused):
                attempt()
        for replace in (True, False):
            with pytest.raises(Refused):
                scene.tree.rename(path_of("/inbox/mine"), path, replace)
        with pytest.raises(Refused):
            scene.tree.put(path, WHOLE, mtime=None, durable=True)
        with pytest.raises(Refused):
            scene.tree.write_plain(path, b"x")
    assert scene.outside_is_untouched()


def test_a_top_folder_that_became_a_link(scene: Scene) -> None:
    (scene.jail / "outbox").rmdir()
    (scene.jail / "outbox").symlink_to(scene.outside)
    for path in ("/outbox", "/outbox/secret"):
        for attempt in attempts(scene.tree, path_of(path)).values():
            with pytest.raises(Refused):
                attempt()
    with pytest.raises(Refused):
        list(scene.tree.list(ROOT))
    assert scene.outside_is_untouched()


def test_a_renamed_folder_takes_its_link_nowhere(scene: Scene) -> None:
    """`/a/b/l` → `../../secret` is harmless where it was made; after /a/b has become /b it points out of the jail."""
    tree = scene.tree
    tree.make_folder(path_of("/inbox/a"))
    tree.make_folder(path_of("/inbox/a/b"))
    (scene.jail / "inbox/a/b/l").symlink_to("../../../outside/secret")
    assert not (scene.jail / "inbox/a/b/l").exists()
    tree.rename(path_of("/inbox/a/b"), path_of("/inbox/b"), False)
    link = scene.jail / "inbox/b/l"
    assert link.read_bytes() == SECRET.encode(), "the link must work for those who follow it, or this test shows nothing"
    with pytest.raises(Refused):
        tree.stat(path_of("/inbox/b/l"))
    assert [entry.name for entry in tree.list(path_of("/inbox/b"))] == []
    assert tree.find(SECRET.paper) is None


def test_replacing_a_link_touches_the_link_only(scene: Scene) -> None:
    link = scene.jail / "inbox/link"
    link.symlink_to(scene.outside / "secret")
    scene.tree.put(path_of("/inbox/link"), WHOLE, mtime=1.0, durable=True)
    assert not link.is_symlink()
    assert scene.outside_is_untouched()
    assert (scene.outside / "secret").read_bytes() == SECRET.encode()


@pytest.mark.timeout(120)
def test_fifos_and_sockets_neither_block_nor_exist(scene: Scene) -> None:
    for folder in ("inbox", "receipts"):
        os.mkfifo(scene.jail / folder / "fifo")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(scene.jail / folder / "sock"))
        for name in ("fifo", "sock"):
            for attempt in attempts(scene.tree, path_of(f"/{folder}/{name}")).values():
                with pytest.raises(Refused):
                    attempt()
            with pytest.raises(Refused):
                scene.tree.rename(path_of(f"/{folder}/{name}"), path_of(f"/{folder}/x"), False)
        assert list(scene.tree.list(path_of(f"/{folder}"))) == []
    assert list(scene.tree.pointers()) == []


def test_names_that_are_no_utf8_are_passed_over(scene: Scene) -> None:
    (Path(os.fsencode(scene.jail).decode()) / "inbox" / os.fsdecode(b"\xff\xfe")).write_bytes(WHOLE.encode())
    assert list(scene.tree.list(path_of("/inbox"))) == []
    assert list(scene.tree.pointers()) == []


def test_no_refusal_tells_of_the_host(scene: Scene) -> None:
    (scene.jail / "inbox/link").symlink_to(scene.outside)
    (scene.jail / "inbox/plain").write_bytes(b"")
    told = []
    for path in ("/inbox/link", "/inbox/none", "/inbox/plain/x", "/none", "/.tmp", "/inbox", "/receipts/none"):
        for attempt in attempts(scene.tree, path_of(path)).values():
            try:
                attempt()
            except Refused as refused:
                told.append(f"{refused} {refused!r} {refused.text} {refused.hint}")
    assert len(told) > 20
    assert not [text for text in told if str(scene.jail.parent) in text or "acme" in text or "Errno" in text]


@contextmanager
def swapping(folder: Path, link: Path) -> Iterator[None]:
    """Another process keeps exchanging a folder and a link that leads outside."""
    spare = folder.with_name("spare")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(folder, spare)
            os.rename(link, folder)
            os.rename(folder, link)
            os.rename(spare, folder)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def naive_stat(root: Path, path: str) -> bytes:
    """What a jail of joined paths does: look whether it is a link, then open."""
    place = Path(f"{root}{path}")
    if place.parent.is_symlink():
        raise FileNotFoundError(path)
    return place.read_bytes()


def until_escape(attempt: Callable[[], bool], seconds: float) -> bool:
    """Try until `attempt` says that it reached the outside, or time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError, Refused):
            if attempt():
                return True
    return False


def test_a_race_of_folder_and_link_leads_nowhere(scene: Scene) -> None:
    tree = scene.tree
    tree.make_folder(path_of("/inbox/d"))
    (scene.jail / "inbox/link").symlink_to(scene.outside)
    number = 0

    def reach() -> bool:
        nonlocal number
        number += 1
        entries: list[Entry] = []
        for step in (
            lambda: entries.append(tree.stat(path_of("/inbox/d/secret"))),
            lambda: entries.extend(tree.list(path_of("/inbox/d"))),
            lambda: tree.put(path_of(f"/inbox/d/put{number % 10}"), WHOLE, mtime=None, durable=False),
            lambda: tree.make_folder(path_of("/inbox/d/made")),
            lambda: tree.remove(path_of("/inbox/d/secret")),
            lambda: tree.rename(path_of("/inbox/d/secret"), path_of("/inbox/stolen"), True),
        ):
            with suppress(Refused):
                step()
        return any(entry.name in ("secret", "folder") for entry in entries) or tree.find(SECRET.paper) is not None or not scene.outside_is_untouched()

    with swapping(scene.jail / "inbox/d", scene.jail / "inbox/link"):
        naive = until_escape(lambda: naive_stat(scene.jail, "/inbox/d/secret") == SECRET.encode(), 30)
        assert naive, "the race must be real, or this test shows nothing"
        assert not until_escape(reach, 1.5)
    assert number > 20
    assert scene.outside_is_untouched()


def test_two_sessions_that_move_folders_into_each_other_make_no_knot(scene: Scene) -> None:
    tree = scene.tree
    for name in ("a", "b"):
        tree.make_folder(path_of(f"/inbox/{name}"))
        tree.put(path_of(f"/inbox/{name}/paper-{name}"), WHOLE, mtime=None, durable=False)
    failures: list[BaseException] = []

    def move(name: str, other: str) -> None:
        try:
            for _ in range(150):
                with suppress(Refused):
                    tree.rename(path_of(f"/inbox/{name}"), path_of(f"/inbox/{other}/{name}"), False)
                with suppress(Refused):
                    tree.rename(path_of(f"/inbox/{other}/{name}"), path_of(f"/inbox/{name}"), False)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=move, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(path.name for path, _, _ in tree.pointers()) == ["paper-a", "paper-b"]


def test_of_two_that_rename_to_one_name_one_wins(scene: Scene) -> None:
    tree = scene.tree
    for turn in range(30):
        for name in ("a", "b"):
            tree.put(path_of(f"/inbox/{name}"), WHOLE, mtime=None, durable=False)
        won: list[str] = []

        def rush(name: str, target: str, winners: list[str]) -> None:
            with suppress(Refused):
                tree.rename(path_of(f"/inbox/{name}"), path_of(target), False)
                winners.append(name)

        threads = [threading.Thread(target=rush, args=(name, f"/inbox/target{turn}", won)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert {entry.name for entry in tree.list(path_of("/inbox"))} & {"a", "b"} == {"a", "b"} - set(won)
