"""Any sequence of requests leaves the tree as a plain dictionary would have it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.jail import Pointer, Refused, Tree, VirtualPath

NAMES = st.sampled_from(["a", "b", "发票"])
PATHS = st.builds(lambda top, rest: VirtualPath((top, *rest)), st.sampled_from(["inbox", "outbox"]), st.lists(NAMES, min_size=1, max_size=3))
POINTERS = st.builds(Pointer, st.integers(0, 5).map(lambda number: f"{number:032x}"), st.integers(0, 99), st.just("whole"))
FOLDER = "folder"


class TreeLikeADictionary(RuleBasedStateMachine):
    """`model` maps a path to its pointer, or to FOLDER."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.tree = Tree.create(self.place / "jail")
        self.model: dict[VirtualPath, Pointer | str] = {VirtualPath((top,)): FOLDER for top in ("inbox", "outbox")}

    def teardown(self) -> None:
        self.tree.close()
        shutil.rmtree(self.place)

    def below(self, path: VirtualPath) -> list[VirtualPath]:
        return [other for other in self.model if other != path and other.is_within(path)]

    def agrees(self, expected: bool, refused: bool) -> None:
        assert expected == (not refused)

    @rule(path=PATHS, pointer=POINTERS)
    def put(self, path: VirtualPath, pointer: Pointer) -> None:
        allowed = self.model.get(path.parent) == FOLDER and self.model.get(path) != FOLDER
        self.agrees(allowed, self.refuses(lambda: self.tree.put(path, pointer, mtime=None, durable=False)))
        if allowed:
            self.model[path] = pointer

    @rule(path=PATHS)
    def make_folder(self, path: VirtualPath) -> None:
        allowed = self.model.get(path.parent) == FOLDER and path not in self.model
        self.agrees(allowed, self.refuses(lambda: self.tree.make_folder(path)))
        if allowed:
            self.model[path] = FOLDER

    @rule(path=PATHS)
    def remove_folder(self, path: VirtualPath) -> None:
        allowed = self.model.get(path) == FOLDER and not self.below(path)
        self.agrees(allowed, self.refuses(lambda: self.tree.remove_folder(path)))
        if allowed:
            del self.model[path]

    @rule(path=PATHS)
    def remove(self, path: VirtualPath) -> None:
        held = self.model.get(path)
        if isinstance(held, Pointer):
            assert self.tree.remove(path) == held
            del self.model[path]
        else:
            self.agrees(False, self.refuses(lambda: self.tree.remove(path)))

    @rule(source=PATHS, destination=PATHS, replace=st.booleans())
    def rename(self, source: VirtualPath, destination: VirtualPath, replace: bool) -> None:
        allowed = self.may_rename(source, destination, replace)
        self.agrees(allowed, self.refuses(lambda: self.tree.rename(source, destination, replace)))
        if allowed and source != destination:
            moved = {path: self.model.pop(path) for path in [source, *self.below(source)]}
            self.model.update({VirtualPath(destination.parts + path.parts[len(source.parts) :]): held for path, held in moved.items()})

    def may_rename(self, source: VirtualPath, target: VirtualPath, replace: bool) -> bool:
        if source not in self.model or self.model.get(target.parent) != FOLDER or (source != target and target.is_within(source)):
            return False
        if target not in self.model:
            return True
        if not replace:
            return False
        kinds_fit = (self.model[source] == FOLDER) == (self.model[target] == FOLDER)
        return source == target or (kinds_fit and not (self.model[target] == FOLDER and self.below(target)))

    @invariant()
    def same_names(self) -> None:
        assert {path: pointer for path, pointer, _ in self.tree.pointers()} == {path: held for path, held in self.model.items() if held != FOLDER}
        for path, held in self.model.items():
            if held == FOLDER:
                children = {other.name for other in self.model if other.parent == path}
                assert {entry.name for entry in self.tree.list(path)} == children

    def refuses(self, request: object) -> bool:
        assert callable(request)
        try:
            request()
        except Refused:
            return True
        return False


TestTreeLikeADictionary = TreeLikeADictionary.TestCase
TestTreeLikeADictionary.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
