"""How many names one folder holds: bounded, because whoever looks at a folder reads all of it, whatever the quotas say.

A folder is counted once, in a thread, when a first name is to be made in it; from then on its number is kept. What others do meanwhile (retention,
the firm's own commands) is not seen, so a folder that seems full is counted anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from config.words import counted
from gateway.jail import Refused, VirtualPath

MOST_FOLDERS = 256  # of one client whose number is kept
AGAIN_SECONDS = 30.0  # between two counts of a folder that seems full


class Crowding:
    """One client's folders, each told by a path in it. Used on the event loop; `learn` alone runs in a thread.

    `count` counts the names in a folder, `most` is how many may be there.
    """

    def __init__(self, count: Callable[[VirtualPath], int], most: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._most = most
        self._clock = clock
        self._known: dict[tuple[str, ...], tuple[int, float]] = {}  # by the folder's parts: names, and when they were counted

    def is_known(self, path: VirtualPath) -> bool:
        """Whether `check` needs no count before it."""
        found = self._known.get(path.parts[:-1])
        return found is not None and (found[0] < self._most() or self._clock() - found[1] < AGAIN_SECONDS)

    def learn(self, path: VirtualPath) -> None:
        """Blocking: count, unless that is known. Raises Refused when there is no such folder."""
        if self.is_known(path):
            return
        names = self._count(path.parent)
        while len(self._known) >= MOST_FOLDERS:
            self._known.pop(next(iter(self._known)), None)
        self._known[path.parts[:-1]] = names, self._clock()

    def check(self, path: VirtualPath) -> None:
        """Raise Refused when there is no place for one more name beside `path`, as far as is known."""
        names, _ = self._known.get(path.parts[:-1], (0, 0.0))
        if names >= self._most():
            raise Refused("failure", f"this folder holds {counted(names, 'name')}, and may hold no more; make another folder, or remove some")

    def add(self, path: VirtualPath, more: int = 1) -> None:
        """The name has come, or (-1) gone."""
        found = self._known.get(path.parts[:-1])
        if found is not None:
            self._known[path.parts[:-1]] = max(0, found[0] + more), found[1]

    def moved(self, source: VirtualPath, target: VirtualPath) -> None:
        """A name has become another one; it may be a folder's."""
        self.add(source, -1)
        self.add(target)
        depth = len(source.parts)
        for parts in [parts for parts in self._known if parts[:depth] == source.parts]:
            self._known.pop(parts, None)
