"""The open handles of one session: what a client's eight bytes stand for, and how many there may be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from gateway.jail import Listing, Refused, VirtualPath
from gateway.sftp.papers.drafts import Draft
from gateway.sftp.session.visitor import Visitor


class Source(Protocol):
    """Readable content. `read` may block for as long as a disk does, and returns b"" at the end; it raises NightsafeError."""

    @property
    def size(self) -> int:
        """Plaintext bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`."""
        ...

    def close(self) -> None:
        """Give back what is held; idempotent."""
        ...


@dataclass(slots=True)
class WritingHandle:
    """A paper open for writing (and reading, with `readable`). Ticks order what happens to a paper: see `drafts`."""

    draft: Draft
    visitor: Visitor
    appending: bool
    readable: bool
    opened_tick: int
    last_tick: int
    failed: bool = False  # a write was refused: whatever the client does next, its paper is not whole
    written: int = 0
    read: int = 0
    read_from: str = ""  # the paper that the first of it came from
    opened_at: float = field(default_factory=time.monotonic)

    @property
    def is_overtaken(self) -> bool:
        """Whether another session has gone on with the upload, alone."""
        return self.opened_tick < self.draft.taken_tick


@dataclass(slots=True)
class ReadingHandle:
    """Content open for reading; `draft` is set when it is still being written in this process."""

    path: VirtualPath
    source: Source
    mtime: float
    paper: str | None
    draft: Draft | None = None
    read: int = 0
    opened_at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class FolderHandle:
    """A folder being listed, page by page."""

    path: VirtualPath
    listing: Listing


Handle = WritingHandle | ReadingHandle | FolderHandle


class HandleCount:
    """How many handles all sessions of one client hold: each costs a descriptor or memory, which others need, too."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0


PREFIX_SHIFT = 40  # bits of a handle that count; those above say which of several tables it is of


def prefix_of(name: bytes) -> int:
    """The prefix of the table that gave out `name`, if any did."""
    return int.from_bytes(name, "big") >> PREFIX_SHIFT if len(name) == 8 else 0


class HandleTable:
    """At most `limit` handles. A handle's bytes are never given out twice in a session. `prefix` tells tables of one session apart."""

    def __init__(self, limit: int, of_all: HandleCount | None = None, *, prefix: int = 0) -> None:
        self._limit = limit
        self._prefix = prefix << PREFIX_SHIFT
        self._of_all = of_all or HandleCount(limit)
        self._open: dict[bytes, Handle] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Handle]:
        return iter(list(self._open.values()))

    @property
    def limit(self) -> int:
        """How many may be open."""
        return self._limit

    def check_room(self) -> None:
        """Raise Refused when no further handle may be opened."""
        if len(self._open) >= self._limit:
            raise Refused("failure", f"too many open files; at most {self._limit} in one session")
        if self._of_all.taken >= self._of_all.limit:
            raise Refused("failure", f"too many open files; at most {self._of_all.limit} in all your sessions together")

    def add(self, handle: Handle) -> bytes:
        """The bytes that the client will name it by."""
        self._last += 1
        name = (self._prefix | self._last).to_bytes(8, "big")
        self._open[name] = handle
        self._of_all.taken += 1
        return name

    def get(self, name: bytes) -> Handle:
        """The handle; Refused when it is not open."""
        handle = self._open.get(name)
        if handle is None:
            raise Refused("failure", "invalid handle")
        return handle

    def pop(self, name: bytes) -> Handle:
        """The handle, which is open no longer."""
        handle = self._open.pop(name, None)
        if handle is None:
            raise Refused("failure", "invalid handle")
        self._of_all.taken -= 1
        return handle

    def writes(self, draft: Draft) -> bool:
        """Whether one of these handles writes `draft`, and nothing was refused to it: the older paper is what will stay."""
        return any(isinstance(handle, WritingHandle) and handle.draft is draft and not handle.failed for handle in self._open.values())

    def drain(self) -> list[Handle]:
        """All handles, which are open no longer."""
        handles = list(self._open.values())
        self._of_all.taken -= len(handles)
        self._open.clear()
        return handles
