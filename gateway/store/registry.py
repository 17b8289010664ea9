"""OpenFiles: which papers this process has open, so that all its handles on one paper share one SpoolFile."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gateway.store.file import SpoolFile


class OpenFiles:
    """Thread-safe. A paper that is being opened or closed makes others wait until that is done."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._files: dict[str, SpoolFile | None] = {}  # None: being opened

    def join(self, paper: str) -> SpoolFile | None:
        """The open file with one more handle; None when it is not open."""
        with self._changed:
            return self._join(paper)

    def join_or_open(self, paper: str, opening: Callable[[], SpoolFile]) -> SpoolFile:
        """The open file with one more handle, or the one that `opening` makes."""
        with self._changed:
            held = self._join(paper)
            if held is not None:
                return held
            self._files[paper] = None
        file: SpoolFile | None = None
        try:
            file = opening()
            return file
        finally:
            with self._changed:
                if file is None:
                    del self._files[paper]
                else:
                    self._files[paper] = file
                self._changed.notify_all()

    def add(self, file: SpoolFile) -> None:
        """A file of a paper that nobody else knows of yet."""
        with self._changed:
            self._files[file.paper] = file

    def leave(self, file: SpoolFile) -> bool:
        """One handle fewer. True when it was the last: the file is then to be closed, and `closed` to be called."""
        with self._changed:
            if file.handles == 0:
                return False
            file.handles -= 1
            return file.handles == 0

    def closed(self, file: SpoolFile) -> None:
        """The file is closed; its paper may be opened again."""
        with self._changed:
            if self._files.get(file.paper) is file:
                del self._files[file.paper]
            self._changed.notify_all()

    def files(self) -> list[SpoolFile]:
        """Those that are open now."""
        with self._changed:
            return [file for file in self._files.values() if file is not None and file.handles]

    def _join(self, paper: str) -> SpoolFile | None:
        while paper in self._files:
            held = self._files[paper]
            if held is not None and held.handles:
                held.handles += 1
                return held
            self._changed.wait()
        return None
