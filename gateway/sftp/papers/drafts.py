"""A paper while it is being written, up to its landing: content, the name it will have, and when it counts as whole.

A draft is shared by every handle on its name. Only the event loop changes its fields; `content` is held while a thread works on the file.

Whole or broken off: each event on a draft takes a tick. A handle that is closed cleanly vouches for what was there when it was opened and
for what it wrote; a handle that is lost takes its last write back into doubt. So a draft is whole when the last handle goes and some
handle was opened after the last tick of every lost one, and closed cleanly: a dead connection that lingers does not spoil the upload that
was resumed in its place, and a connection that dies half-way through always does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum

from gateway.jail import VirtualPath
from gateway.sftp.limits.quota import Hold
from gateway.sftp.session.visitor import Visitor
from gateway.store.spool import SpoolFile

COPY_PIECE = 1024 * 1024
NEVER = -1


class Stage(Enum):
    """Where a draft is on its way."""

    OPEN = "open"  # partial: handles are open, or it waits for a reader to leave
    FINISHED = "finished"  # whole and durable; may be reopened until it lands
    LANDED = "landed"  # ingest's
    GONE = "gone"  # broken off or discarded


class Base:
    """The paper whose content a draft starts from. Opened and copied only when the draft needs it: scp overwrites all of it and never does."""

    def __init__(self, size: int, copy: Callable[[int, int, Callable[[int, bytes], None]], None]) -> None:
        self.size = size
        self._copy = copy

    def copy(self, start: int, write: Callable[[int, bytes], None]) -> None:
        """Blocking: hand everything from `start` up to `size` to `write(offset, data)`."""
        if start < self.size:
            self._copy(start, self.size, write)


class Draft:
    """See the module. `own_name`: the name's pointer in the jail is this draft's already; else it still points at the older paper."""

    __slots__ = (
        "base",
        "clean_tick",
        "content",
        "file",
        "hold",
        "lost_tick",
        "modified_at",
        "name_removed",
        "own_name",
        "paper",
        "path",
        "readers",
        "settling",
        "stage",
        "touched_at",
        "visitor",
        "writers",
    )

    def __init__(
        self, paper: str, path: VirtualPath, file: SpoolFile, visitor: Visitor, hold: Hold, *, own_name: bool, base: Base | None = None
    ) -> None:
        self.paper = paper
        self.hold = hold
        self.path = path
        self.file = file
        self.visitor = visitor
        self.own_name = own_name
        self.base = base
        self.stage = Stage.OPEN
        self.writers = 0
        self.readers = 0
        self.modified_at: float | None = None  # the client's, seconds since the epoch
        self.touched_at = time.time()
        self.name_removed = False
        self.clean_tick = NEVER
        self.lost_tick = NEVER
        self.content = asyncio.Lock()
        self.settling: asyncio.TimerHandle | None = None

    @property
    def size(self) -> int:
        """Plaintext bytes, those of the base included."""
        return max(self.file.size, self.base.size) if self.base else self.file.size

    @property
    def resumable(self) -> int:
        """What a client that looks at the name is told: bytes from the start without a gap, from where an upload can go on."""
        prefix = self.file.size if self.content.locked() else self.file.prefix  # a thread that waits for the disk holds the file's own lock
        return max(prefix, self.base.size) if self.base else prefix

    @property
    def mtime(self) -> float:
        """What a client is shown."""
        return self.touched_at if self.modified_at is None else self.modified_at

    @property
    def is_whole(self) -> bool:
        """Whether what was closed and lost so far lets it be published."""
        return self.clean_tick > self.lost_tick

    def truncate(self, size: int) -> None:
        """Cut or extend to `size`. With a base: only when `size` is not beyond it; else `fill` comes first. Raises Refused over the quota."""
        if size > self.size:
            self.hold.resize(size)
        if self.base is None or size <= self.file.size:
            self.base = None
            self.file.truncate(size)
        else:
            self.base.size = min(self.base.size, size)
        self.hold.resize(self.size)

    def fill(self) -> None:
        """Blocking: copy what the base still owes."""
        if self.base is not None:
            self.base.copy(self.file.size, self.file.write)
            self.base = None

    def stop_settling(self) -> None:
        """It does not land by itself any more."""
        if self.settling is not None:
            self.settling.cancel()
            self.settling = None
