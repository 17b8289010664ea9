"""Under which name a paper lies now: a client may have renamed it, or a folder above it, since it landed."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.jail.paths import path_of
from gateway.jail.refused import Refused
from gateway.jail.tree import Tree

MOST_NAMES = 20_000  # pointers looked at for the displaced papers of one batch: a jail of millions must not hold up the others


def current_paths(tree: Tree, landed_as: Mapping[str, str]) -> dict[str, str]:
    """The path of each paper of one client; `landed_as` gives the paths at landing, which stay where no name is found any more.

    A paper without a name was overwritten or removed, or has more than MOST_NAMES others before it: its name at landing is the right one to
    keep its versions under.
    """
    paths = dict(landed_as)
    displaced = {paper for paper, path in landed_as.items() if not _holds(tree, path, paper)}
    if displaced:
        paths.update(_search(tree, displaced))
    return paths


def path_now(tree: Tree, paper: str, landed_as: str, *, search: bool) -> str:
    """Under which name a paper lies before it is checked: a client that uploads under a temporary name has renamed it by now.

    Without `search` only those names are tried that come of taking off an ending (`a.pdf.filepart`, `a.pdf.Xk3b.partial`).
    """
    candidates = [landed_as]
    for _ in range(2):
        candidates.append(candidates[-1].rpartition(".")[0] or landed_as)
    found = next((path for path in candidates if _holds(tree, path, paper)), None)
    if found is None and search:
        found = _search(tree, {paper}).get(paper)
    return found or landed_as


def _holds(tree: Tree, path: str, paper: str) -> bool:
    try:
        pointer = tree.stat(path_of(path)).pointer
    except Refused:
        return False
    return pointer is not None and pointer.paper == paper


def _search(tree: Tree, displaced: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for looked_at, (path, pointer, _) in enumerate(tree.pointers()):
        if pointer.paper in displaced:
            found[pointer.paper] = str(path)
        if len(found) == len(displaced) or looked_at >= MOST_NAMES:
            break
    return found
