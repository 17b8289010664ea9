"""A paper while it is being written, up to its landing: content, the name it will have, and when it counts as whole.

A draft is shared by every handle on its name. Only the event loop changes its fields; `content` is held while a thread works on the file.

Whole or broken off: each event on a draft takes a tick. A handle that is closed cleanly vouches for what was there when it was opened and
for what it wrote; a handle that is lost takes its last write back into doubt. So a draft is whole when the last handle goes and some
handle was opened after the last tick of every lost one, and closed cleanly: a dead connection that lingers does not spoil the upload that
was resumed in its place, and a connection that dies half-way through always does. One that wrote nothing puts nothing in doubt.

Where papers may not be overwritten (a drop box) an upload is one session's at a time: another one that opens the name takes it over, as it has to
after a broken connection that nobody has noticed yet, and handles from before write no more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum
from typing import cast

from gateway.jail import VirtualPath
from gateway.sftp.limits.quota import Hold
from gateway.sftp.papers.alarms import Alarm
from gateway.sftp.session.visitor import Visitor
from gateway.store.spool import SpoolFile
from gateway.store.whole import MOST

COPY_PIECE = 1024 * 1024
MOST_PIECES = 16  # of a sketch: clients fill a block with two or three, and a piece costs memory beside its bytes
NEVER = -1


class Stage(Enum):
    """Where a draft is on its way."""

    OPEN = "open"  # partial: handles are open, or it waits for a reader to leave
    FINISHED = "finished"  # whole and durable; may be reopened until it lands
    LANDED = "landed"  # ingest's
    GONE = "gone"  # broken off or discarded


class Base:
    """The paper whose content a draft starts from. Opened and copied only when the draft needs it: scp overwrites all of it and never does."""

    def __init__(self, paper: str, size: int, copy: Callable[[int, int, Callable[[int, bytes], None]], None]) -> None:
        self.paper = paper
        self.size = size
        self._copy = copy

    def copy(self, start: int, write: Callable[[int, bytes], None]) -> None:
        """Blocking: hand everything from `start` up to `size` to `write(offset, data)`."""
        if start < self.size:
            self._copy(start, self.size, write)


class Sketch:
    """What has come of a small new paper, in memory alone: its name does not exist yet. See `sketches`."""

    __slots__ = ("_pieces", "appear", "began", "size")

    def __init__(self, appear: Callable[[Draft], None], began: float) -> None:
        self.appear = appear
        self.began = began
        self.size = 0
        self._pieces: list[bytes] = []

    def takes(self, offset: int, data: memoryview) -> bool:
        """Take what goes on where the last piece ended; False for everything else, which is for a file."""
        if offset != self.size or offset + len(data) > MOST or len(self._pieces) == MOST_PIECES:
            return False
        self._pieces.append(bytes(data))
        self.size += len(data)
        return True

    @property
    def content(self) -> bytes:
        """All of it."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


class Draft:
    """See the module. `own_name`: the name's pointer in the jail is this draft's already; else it still points at the older paper."""

    __slots__ = (
        "_file",
        "base",
        "clean_tick",
        "content",
        "hold",
        "lost_tick",
        "modified_at",
        "name_removed",
        "name_taken_by",
        "opened_by",
        "own_name",
        "paper",
        "path",
        "readers",
        "settling",
        "sketch",
        "stage",
        "taken_tick",
        "touched_at",
        "visitor",
        "vouched",
        "writers",
    )

    def __init__(
        self, paper: str, path: VirtualPath, file: SpoolFile | Sketch, visitor: Visitor, hold: Hold, *, own_name: bool, base: Base | None = None
    ) -> None:
        self.paper = paper
        self.hold = hold
        self.path = path
        self._file: SpoolFile | None = None if isinstance(file, Sketch) else file
        self.sketch: Sketch | None = file if isinstance(file, Sketch) else None
        self.visitor = visitor
        self.own_name = own_name
        self.base = base
        self.stage = Stage.OPEN
        self.writers = 0
        self.readers = 0
        self.modified_at: float | None = None  # the client's, seconds since the epoch
        self.touched_at = time.time()
        self.name_removed = False
        self.name_taken_by = ""  # the session that removed it, or gave it to another paper
        self.vouched = False  # a CLOSE was answered with OK while others still wrote
        self.opened_by = visitor.session
        self.taken_tick = NEVER
        self.clean_tick = NEVER
        self.lost_tick = NEVER
        self.content = asyncio.Lock()
        self.settling: Alarm | None = None

    @property
    def file(self) -> SpoolFile:
        """What is in the spool of it. A sketch becomes a file by this; raises what `Sketch.appear` does."""
        if self.sketch is not None:
            self.sketch.appear(self)
        return cast(SpoolFile, self._file)

    def is_in(self, file: SpoolFile) -> None:
        """What was a sketch is in the spool now."""
        self._file, self.sketch = file, None

    @property
    def received(self) -> int:
        """Plaintext bytes that came, and gaps between them."""
        return self.file.size if self.sketch is None else self.sketch.size

    @property
    def size(self) -> int:
        """Plaintext bytes, those of the base included."""
        if self.sketch is not None:
            return self.sketch.size
        return max(self.file.size, self.base.size) if self.base else self.file.size

    @property
    def resumable(self) -> int:
        """What a client that looks at the name is told: bytes from the start without a gap, from where an upload can go on."""
        if self.sketch is not None:
            return self.sketch.size
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

    def take_over(self, session: str, tick: int) -> None:
        """`session` goes on with the upload, alone."""
        if session != self.opened_by:
            self.opened_by, self.taken_tick = session, tick

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

    def fill(self, check: Callable[[], None]) -> None:
        """Blocking: copy what the base still owes. `check` raises when there is no room any more: it may have gone elsewhere meanwhile."""
        if self.base is not None:

            def write(offset: int, piece: bytes) -> None:
                check()
                self.file.write(offset, piece)

            self.base.copy(self.file.size, write)
            self.base = None

    def stop_settling(self) -> None:
        """It does not land by itself any more."""
        if self.settling is not None:
            self.settling.cancel()
            self.settling = None


def remove_file(file: SpoolFile) -> None:
    """Blocking: nothing is left of the paper."""
    try:
        file.discard()
    finally:
        file.close()
