"""Under which name a paper is recorded, when its client renames, overwrites and removes names meanwhile. The jail is a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ingest import names
from gateway.ingest.names import current_paths
from gateway.jail import Pointer, Tree, path_of

A, B, C = ("0190a1b2c3d4" + digit * 20 for digit in "abc")


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Tree.create(tmp_path / "acme") as made:
        made.make_folder(path_of("/inbox/old"))
        for paper, name in ((A, "/inbox/old/a.pdf"), (B, "/inbox/b.pdf")):
            put(made, name, paper)
        yield made


def put(tree: Tree, name: str, paper: str) -> None:
    tree.put(path_of(name), Pointer(paper, 10, "whole"), mtime=None, durable=False)


def test_a_name_that_stayed(tree: Tree) -> None:
    assert current_paths(tree, {A: "/inbox/old/a.pdf", B: "/inbox/b.pdf"}) == {A: "/inbox/old/a.pdf", B: "/inbox/b.pdf"}


def test_a_paper_and_a_folder_that_were_renamed(tree: Tree) -> None:
    tree.rename(path_of("/inbox/old"), path_of("/inbox/new"), replace=False)
    tree.rename(path_of("/inbox/b.pdf"), path_of("/inbox/new/β.pdf"), replace=False)
    assert current_paths(tree, {A: "/inbox/old/a.pdf", B: "/inbox/b.pdf"}) == {A: "/inbox/new/a.pdf", B: "/inbox/new/β.pdf"}


def test_overwritten_and_removed_papers_keep_the_name_they_landed_under(tree: Tree) -> None:
    put(tree, "/inbox/b.pdf", C)
    tree.remove(path_of("/inbox/old/a.pdf"))
    assert current_paths(tree, {A: "/inbox/old/a.pdf", B: "/inbox/b.pdf"}) == {A: "/inbox/old/a.pdf", B: "/inbox/b.pdf"}


def test_names_swapped(tree: Tree) -> None:
    put(tree, "/inbox/b.pdf", A)
    put(tree, "/inbox/old/a.pdf", B)
    assert current_paths(tree, {A: "/inbox/old/a.pdf", B: "/inbox/b.pdf"}) == {A: "/inbox/b.pdf", B: "/inbox/old/a.pdf"}


def test_a_path_that_no_jail_takes_is_kept(tree: Tree) -> None:
    assert current_paths(tree, {C: "/inbox/" + "x" * 300}) == {C: "/inbox/" + "x" * 300}


def test_the_search_is_bounded(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        put(tree, f"/inbox/{number}", f"{number:032x}")
    tree.rename(path_of("/inbox/b.pdf"), path_of("/inbox/z.pdf"), replace=False)
    monkeypatch.setattr(names, "MOST_NAMES", 0)
    looked_at = []
    original = tree.pointers
    monkeypatch.setattr(tree, "pointers", lambda: (looked_at.append(found) or found for found in original()))  # type: ignore[func-returns-value]
    assert current_paths(tree, {B: "/inbox/b.pdf"})[B] in ("/inbox/b.pdf", "/inbox/z.pdf")
    assert len(looked_at) == 1
