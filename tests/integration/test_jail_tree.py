"""The tree on a real disk: what each request does, that it is durable, whole, and leaks nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.jail import ROOT, Pointer, Refused, Tree, descriptors, path_of

WHOLE = Pointer("ab" * 16, 20_000, "whole")
OTHER = Pointer("cd" * 16, 7, "partial")


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Tree.create(tmp_path / "acme") as made:
        yield made


def put(tree: Tree, path: str, pointer: Pointer = WHOLE, mtime: float | None = None, durable: bool = False) -> None:
    tree.put(path_of(path), pointer, mtime=mtime, durable=durable)


def names(tree: Tree, path: str) -> set[str]:
    return {entry.name for entry in tree.list(path_of(path))}


def refused(call: object, *arguments: object, **options: object) -> str:
    assert callable(call)
    with pytest.raises(Refused) as caught:
        call(*arguments, **options)
    return caught.value.code


def test_the_root_shows_its_three_folders_only(tree: Tree) -> None:
    assert [(entry.name, entry.kind) for entry in tree.list(ROOT)] == [("inbox", "folder"), ("outbox", "folder"), ("receipts", "folder")]
    assert tree.stat(ROOT).kind == "folder"
    assert refused(tree.stat, path_of("/.tmp")) == "no_such_file"
    assert refused(tree.list, path_of("/.tmp")) == "no_such_file"
    assert refused(tree.make_folder, path_of("/.tmp/x")) == "no_such_file"
    assert refused(put, tree, "/.tmp/x") == "no_such_file"


def test_create_again_changes_nothing(tree: Tree, tmp_path: Path) -> None:
    put(tree, "/inbox/a")
    with Tree.create(tmp_path / "acme") as again:
        assert again.stat(path_of("/inbox/a")).pointer == WHOLE


def test_a_missing_jail_says_nothing_of_the_host(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        Tree(tmp_path / "nobody")
    assert str(tmp_path) not in str(caught.value)


def test_a_jail_that_was_restored_lacks_its_hidden_folder_and_gets_it_again(tmp_path: Path) -> None:
    Tree.create(tmp_path / "acme").close()
    (tmp_path / "acme" / ".tmp").rmdir()
    with Tree(tmp_path / "acme") as restored:
        restored.put(path_of("/inbox/a"), WHOLE, mtime=None, durable=False)
        assert names(restored, "/inbox") == {"a"}


@pytest.mark.parametrize("durable", [False, True])
def test_put_and_stat(tree: Tree, durable: bool) -> None:
    put(tree, "/inbox/发票 \"1\" '[x]'\n.pdf", WHOLE, mtime=1_000_000_000.0, durable=durable)
    entry = tree.stat(path_of("/inbox/发票 \"1\" '[x]'\n.pdf"))
    assert (entry.kind, entry.size, entry.mtime, entry.pointer) == ("pointer", 20_000, 1_000_000_000.0, WHOLE)
    assert names(tree, "/inbox") == {entry.name}


def test_names_of_255_bytes_at_any_depth(tree: Tree) -> None:
    name = "测" * 85
    folder = "/inbox"
    for _ in range(5):
        folder += "/" + name
        tree.make_folder(path_of(folder))
    put(tree, f"{folder}/{name}", durable=True)
    tree.rename(path_of(f"{folder}/{name}"), path_of(f"{folder}/{'b' * 255}"), False)
    assert names(tree, folder) == {"b" * 255}


def test_put_replaces_whole(tree: Tree, tmp_path: Path) -> None:
    put(tree, "/inbox/a", OTHER)
    put(tree, "/inbox/a", WHOLE)
    assert tree.stat(path_of("/inbox/a")).pointer == WHOLE
    assert os.listdir(tmp_path / "acme/.tmp") == []


def test_put_refused_leaves_nothing(tree: Tree, tmp_path: Path) -> None:
    tree.make_folder(path_of("/inbox/d"))
    assert refused(put, tree, "/inbox/d") == "failure"
    assert refused(put, tree, "/inbox/none/a") == "no_such_file"
    assert refused(put, tree, "/inbox") == "permission"
    assert refused(put, tree, "/receipts/a") == "failure"
    assert refused(put, tree, "/inbox/a", mtime=float("nan")) == "bad_message"
    assert os.listdir(tmp_path / "acme/.tmp") == []
    assert names(tree, "/inbox") == {"d"}


def test_folders(tree: Tree) -> None:
    tree.make_folder(path_of("/inbox/d"))
    assert refused(tree.make_folder, path_of("/inbox/d")) == "exists"
    assert refused(tree.make_folder, path_of("/inbox/x/y")) == "no_such_file"
    put(tree, "/inbox/d/a")
    assert refused(tree.remove_folder, path_of("/inbox/d")) == "not_empty"
    assert refused(tree.remove, path_of("/inbox/d")) == "failure"
    assert tree.remove(path_of("/inbox/d/a")) == WHOLE
    assert refused(tree.remove, path_of("/inbox/d/a")) == "no_such_file"
    tree.remove_folder(path_of("/inbox/d"))
    assert names(tree, "/inbox") == set()
    for fixed in ("/", "/inbox", "/outbox", "/receipts"):
        assert refused(tree.remove_folder, path_of(fixed)) == "permission"
        assert refused(tree.make_folder, path_of(fixed)) == "permission"


@pytest.mark.parametrize("has_renameat2", [True, False])
def test_rename_without_replace(tree: Tree, monkeypatch: pytest.MonkeyPatch, has_renameat2: bool) -> None:
    if not has_renameat2:
        monkeypatch.setattr(descriptors, "_renameat2", lambda: None)
    tree.make_folder(path_of("/inbox/d"))
    put(tree, "/inbox/a")
    put(tree, "/inbox/b", OTHER)
    for source, target in (("/inbox/a", "/inbox/b"), ("/inbox/a", "/inbox/d"), ("/inbox/d", "/inbox/a"), ("/inbox/a", "/inbox/a")):
        assert refused(tree.rename, path_of(source), path_of(target), False) == "exists"
    assert tree.rename(path_of("/inbox/a"), path_of("/inbox/d/c"), False) is None
    assert tree.rename(path_of("/inbox/d"), path_of("/outbox/d"), False) is None
    assert names(tree, "/inbox") == {"b"}
    assert tree.stat(path_of("/outbox/d/c")).pointer == WHOLE
    assert tree.stat(path_of("/inbox/b")).pointer == OTHER


def test_rename_with_replace(tree: Tree) -> None:
    put(tree, "/inbox/a", WHOLE, mtime=5.0)
    put(tree, "/inbox/b", OTHER)
    tree.make_folder(path_of("/inbox/d"))
    tree.make_folder(path_of("/inbox/e"))
    put(tree, "/inbox/e/x")
    assert tree.rename(path_of("/inbox/a"), path_of("/inbox/a"), True) is None
    assert tree.rename(path_of("/inbox/a"), path_of("/inbox/b"), True) == OTHER
    assert tree.stat(path_of("/inbox/b")).mtime == 5.0
    assert refused(tree.rename, path_of("/inbox/b"), path_of("/inbox/d"), True) == "failure"
    assert refused(tree.rename, path_of("/inbox/d"), path_of("/inbox/b"), True) == "failure"
    assert refused(tree.rename, path_of("/inbox/d"), path_of("/inbox/e"), True) == "not_empty"
    assert refused(tree.rename, path_of("/inbox/nothing"), path_of("/inbox/b"), True) == "no_such_file"
    tree.rename(path_of("/inbox/e"), path_of("/inbox/d"), True)
    assert names(tree, "/inbox") == {"b", "d"}


def test_rename_stays_in_its_place(tree: Tree) -> None:
    tree.make_folder(path_of("/inbox/d"))
    tree.make_folder(path_of("/inbox/d/e"))
    put(tree, "/inbox/a")
    tree.write_plain(path_of("/receipts/r"), b"x")
    for replace in (False, True):
        assert refused(tree.rename, path_of("/inbox/d"), path_of("/inbox/d/e/f"), replace) == "failure"
        assert refused(tree.rename, path_of("/inbox/d"), path_of("/inbox/d/f"), replace) == "failure"
        assert refused(tree.rename, path_of("/inbox/a"), path_of("/receipts/a"), replace) == "permission"
        assert refused(tree.rename, path_of("/receipts/r"), path_of("/inbox/r"), replace) == "permission"
        assert refused(tree.rename, path_of("/inbox"), path_of("/outbox/i"), replace) == "permission"
        assert refused(tree.rename, path_of("/inbox/d"), path_of("/d"), replace) == "permission"


def test_renames_cannot_build_a_tree_that_backups_cannot_carry(tree: Tree) -> None:
    for top in ("/inbox/a", "/inbox/b"):
        for depth in range(40):
            tree.make_folder(path_of(top + "/d" * depth))
    assert refused(tree.rename, path_of("/inbox/a"), path_of("/inbox/b" + "/d" * 39 + "/a"), False) == "bad_message"
    long = "n" * 255
    path = "/inbox/w"
    tree.make_folder(path_of(path))
    for _ in range(11):
        path += "/" + long
        tree.make_folder(path_of(path))
    assert refused(tree.rename, path_of("/inbox/w"), path_of("/inbox/" + long), False) == "bad_message"
    tree.rename(path_of("/inbox/w"), path_of("/inbox/v"), False)


def test_times(tree: Tree) -> None:
    put(tree, "/inbox/a")
    tree.make_folder(path_of("/inbox/d"))
    for path in ("/inbox/a", "/inbox/d", "/inbox"):
        tree.set_times(path_of(path), 1.0, 2.0)
        assert tree.stat(path_of(path)).mtime == 2.0
    assert refused(tree.set_times, path_of("/inbox/a"), 0.0, 2.0**62) == "bad_message"
    assert refused(tree.set_times, path_of("/inbox/a"), 0.0, -1.0) == "bad_message"
    assert refused(tree.set_times, path_of("/inbox/x"), 0.0, 1.0) == "no_such_file"
    assert refused(tree.set_times, ROOT, 0.0, 1.0) == "permission"


def test_receipts(tree: Tree) -> None:
    folder = path_of("/receipts/2024-05-06")
    tree.write_plains([(folder.child("a.json"), b"one"), (folder.child("a.json.sig"), b"sig"), (path_of("/receipts/2024-05-07/deep/b"), b"")])
    tree.write_plain(folder.child("a.json"), b"two!")
    assert {(entry.name, entry.kind, entry.size) for entry in tree.list(folder)} == {("a.json", "plain", 4), ("a.json.sig", "plain", 3)}
    descriptor = tree.open_plain(folder.child("a.json"))
    try:
        assert os.read(descriptor, 100) == b"two!"
        with pytest.raises(OSError):
            os.write(descriptor, b"x")
    finally:
        os.close(descriptor)
    put(tree, "/inbox/a")
    assert refused(tree.open_plain, path_of("/inbox/a")) == "failure"
    assert refused(tree.open_plain, folder) == "failure"
    assert refused(tree.write_plain, path_of("/inbox/b"), b"") == "failure"
    assert refused(tree.write_plain, path_of("/receipts"), b"") == "failure"


def test_find_pointers_usage(tree: Tree) -> None:
    tree.make_folder(path_of("/inbox/d"))
    tree.make_folder(path_of("/inbox/d/e"))
    put(tree, "/inbox/d/e/a", WHOLE, mtime=9.0)
    put(tree, "/outbox/b", OTHER, mtime=8.0)
    tree.write_plain(path_of("/receipts/r"), WHOLE.encode())
    assert {(str(path), pointer, mtime) for path, pointer, mtime in tree.pointers()} == {("/inbox/d/e/a", WHOLE, 9.0), ("/outbox/b", OTHER, 8.0)}
    assert [str(path) for path, _, _ in tree.pointers("/inbox")] == ["/inbox/d/e/a"]
    assert tree.usage() == (20_007, 4)  # two papers, two folders
    assert tree.find(WHOLE.paper) == path_of("/inbox/d/e/a")
    assert tree.find(WHOLE.paper, hint=path_of("/inbox/d/e/a")) == path_of("/inbox/d/e/a")
    assert tree.find(OTHER.paper, hint=path_of("/inbox/d/e/a")) == path_of("/outbox/b")
    assert tree.find("ef" * 16, hint=path_of("/inbox/gone")) is None


def test_a_damaged_pointer_is_seen_and_can_be_mended(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "acme/inbox/empty").write_bytes(b"")
    (tmp_path / "acme/inbox/torn").write_bytes(WHOLE.encode()[:20])
    (tmp_path / "acme/inbox/huge").write_bytes(b"x" * 100_000)
    assert {(entry.name, entry.kind, entry.size, entry.pointer) for entry in tree.list(path_of("/inbox"))} == {
        (name, "pointer", 0, None) for name in ("empty", "torn", "huge")
    }
    assert list(tree.pointers()) == []
    assert tree.remove(path_of("/inbox/empty")) is None
    put(tree, "/inbox/torn")
    assert tree.stat(path_of("/inbox/torn")).pointer == WHOLE


def test_sweep_takes_only_what_is_old(tree: Tree, tmp_path: Path) -> None:
    for name, age in (("old", 10_000), ("new", 0)):
        path = tmp_path / "acme/.tmp" / name
        path.write_bytes(b"")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert tree.sweep() == 1
    assert os.listdir(tmp_path / "acme/.tmp") == ["new"]


def test_a_large_folder_is_listed_in_small_memory(tree: Tree, tmp_path: Path) -> None:
    for number in range(5000):
        (tmp_path / f"acme/inbox/{number:04d}").write_bytes(b"")
    tracemalloc.start()
    try:
        count = sum(1 for _ in tree.list(path_of("/inbox")))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 5000
    assert peak < 200_000


def test_no_descriptor_is_leaked(tree: Tree) -> None:
    put(tree, "/inbox/a")
    tree.make_folder(path_of("/inbox/d"))
    put(tree, "/inbox/d/b")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        refused(tree.stat, path_of("/inbox/none"))
        refused(tree.stat, path_of("/inbox/a/b/c"))
        refused(tree.list, path_of("/inbox/a"))
        refused(tree.rename, path_of("/inbox/d"), path_of("/inbox/none/x"), False)
        refused(tree.rename, path_of("/inbox/d"), path_of("/inbox/a"), True)
        refused(put, tree, "/inbox/d")
        refused(tree.remove, path_of("/inbox/d"))
        refused(tree.open_plain, path_of("/receipts/none"))
        tree.stat(path_of("/inbox/d/b"))
        tree.find("ef" * 16)
        next(tree.pointers())
        next(tree.list(path_of("/inbox/d")))
        with tree.list(path_of("/inbox")):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_closed_tree_meets_no_other_folder(tmp_path: Path) -> None:
    tree = Tree.create(tmp_path / "acme")
    tree.close()
    tree.close()
    with Tree.create(tmp_path / "other") as other:
        put(other, "/inbox/a")
        assert refused(tree.stat, path_of("/inbox/a")) == "failure"
        assert refused(put, tree, "/inbox/b") == "failure"


SCRIPT = """
import sys
from pathlib import Path
from gateway.jail import Pointer, Tree, path_of
tree = Tree(Path(sys.argv[1]))
tree.make_folder(path_of("/inbox/d"))
tree.put(path_of("/inbox/d/first"), Pointer("ab" * 16, 1, "whole"), mtime=1.0, durable=True)
tree.rename(path_of("/inbox/d/first"), path_of("/outbox/second"), True)
tree.write_plain(path_of("/receipts/today/r"), b"receipt")
"""


def test_durable_means_fsync_of_file_and_folder_in_this_order(tree: Tree, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    root = tmp_path / "acme"
    calls = "trace=fsync,rename,renameat,renameat2,mkdir,mkdirat"
    command = ["strace", "-f", "-y", "-o", str(trace), "-e", calls, sys.executable, "-c", SCRIPT, str(root)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    seen = []
    for line in trace.read_text().splitlines():
        if match := re.search(r"(fsync|mkdir\w*|rename\w*)\((.*)\) += 0", line):
            call, arguments = match[1].rstrip("2").removesuffix("at"), match[2].replace(str(root), "")
            arguments = re.sub(r"[0-9a-f]{16}", "TEMP", re.sub(r"\d+<([^>]*)>", r"\1", arguments))
            seen.append(f"{call} {arguments}")
    assert seen == [
        'mkdir /inbox, "d", 0770',
        "fsync /inbox",
        "fsync /.tmp/TEMP",
        'rename /.tmp, "TEMP", /inbox/d, "first"',
        "fsync /inbox/d",
        'rename /inbox/d, "first", /outbox, "second"',
        "fsync /outbox",
        "fsync /inbox/d",
        'mkdir /receipts, "today", 0770',
        "fsync /receipts",
        "fsync /.tmp/TEMP",
        'rename /.tmp, "TEMP", /receipts/today, "r"',
        "fsync /receipts/today",
    ]
