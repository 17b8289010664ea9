"""Writing through open handles.

A finished draft was acknowledged: it is never changed again. The first change through a handle on it lets it land as it is, and goes to a new
paper that starts from it; so whatever becomes of the change, what was acknowledged stays.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from gateway.jail import Refused
from gateway.sftp.papers.book import Book
from gateway.sftp.papers.closing import Closing, check_not_overtaken
from gateway.sftp.papers.drafts import Draft, Stage
from gateway.sftp.papers.opening import Opening
from gateway.sftp.session.handles import WritingHandle


class Writing:
    """For one client."""

    def __init__(self, book: Book, opening: Opening, closing: Closing) -> None:
        self._book = book
        self._opening = opening
        self._closing = closing

    def write(self, handle: WritingHandle, offset: int, data: memoryview) -> Coroutine[Any, Any, None] | None:
        """Write at `offset` (at the end when appending). None when it is done, else an awaitable.

        Raises (or the awaitable does) Refused, SpoolFull and other StoreErrors; the handle then no longer vouches for its paper.
        """
        draft = handle.draft
        if draft.stage is not Stage.OPEN or draft.content.locked():
            return self._write_waiting(handle, offset, data)
        if handle.appending:
            offset = _end(handle, offset)
        if draft.base is not None and offset > draft.file.size:
            return self._write_waiting(handle, offset, data)
        self._write_now(handle, draft, offset, data)
        return None

    def _write_now(self, handle: WritingHandle, draft: Draft, offset: int, data: memoryview) -> None:
        check_not_overtaken(handle)
        try:
            # what falls into a gap takes room, too
            end = offset + len(data)
            self._book.parts.space.check_growth(max(len(data), end - draft.received), len(data))
            if end > draft.hold.size:
                draft.hold.resize(max(draft.size, end))
            handle.last_tick = self._book.tick()  # even if it fails: some of it may have been written
            if draft.sketch is None or not draft.sketch.takes(offset, data):
                draft.file.write(offset, data)
        except BaseException:
            handle.failed = True
            raise
        handle.written += len(data)

    async def _write_waiting(self, handle: WritingHandle, offset: int, data: memoryview) -> None:
        async with self._changing(handle):
            draft = handle.draft
            if handle.appending:
                offset = _end(handle, offset)
            if offset > draft.file.size:
                await self._closing.fill(draft)
            self._write_now(handle, draft, offset, data)

    async def truncate(self, handle: WritingHandle, size: int) -> None:
        """Cut or extend the paper to `size` bytes."""
        if size == handle.draft.size and handle.draft.stage is Stage.FINISHED:
            return
        async with self._changing(handle):
            draft = handle.draft
            check_not_overtaken(handle)
            if size > draft.size:
                self._book.parts.space.check_growth(size - draft.size, 0)
                await self._closing.fill(draft)
            handle.last_tick = self._book.tick()
            draft.truncate(size)

    async def sync(self, handle: WritingHandle) -> None:
        """fsync@openssh.com: what was written is on the disk, though not published."""
        async with handle.draft.content:
            if handle.draft.stage is Stage.OPEN:
                await self._book.parts.pool.run(handle.draft.file.sync)

    async def read(self, handle: WritingHandle, offset: int, length: int) -> bytes:
        """Read through a handle that also writes."""
        draft = handle.draft
        async with draft.content:
            source = draft.base.paper if draft.base is not None else draft.paper
            await self._closing.fill(draft)
            data = draft.file.read(offset, length)
        handle.read_from = handle.read_from or source
        handle.read += len(data)
        return data

    def _changing(self, handle: WritingHandle) -> _Changing:
        return _Changing(handle, lambda: self._open_up(handle))

    async def _open_up(self, handle: WritingHandle) -> None:
        """Make the handle's draft one that may be changed."""
        while handle.draft.stage is not Stage.OPEN:
            draft = handle.draft
            async with self._book.held(draft):
                if draft.stage is Stage.FINISHED:
                    await self._closing.land_held(draft)
                elif draft.stage is Stage.LANDED and not draft.name_removed:
                    self._move_on(handle)
                else:
                    raise Refused("failure", "the paper has lost its name; upload it again")

    def _move_on(self, handle: WritingHandle) -> None:
        """The handle's paper has landed: it goes on with the draft that has taken its place, or starts one from it."""
        old = handle.draft
        draft = self._book.drafts.get(old.path)
        if draft is None:
            pointer = self._book.tree.stat(old.path).pointer
            if pointer is None or pointer.paper != old.paper:
                raise Refused("failure", "the paper has another name now; upload it again")
            base = self._opening.base(old.path, pointer, handle.visitor)
            draft = self._opening.replace(old.path, base, pointer, handle.visitor)
        draft.writers += 1
        handle.draft = draft
        self._closing.left(old)


class _Changing:
    """`async with`: the handle's draft may be changed and nobody else does; what goes wrong inside fails the handle."""

    def __init__(self, handle: WritingHandle, open_up: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._handle = handle
        self._open_up = open_up
        self._draft: Draft | None = None

    async def __aenter__(self) -> None:
        try:
            while True:
                await self._open_up()
                draft = self._handle.draft
                await draft.content.acquire()
                if draft is self._handle.draft and draft.stage is Stage.OPEN:
                    self._draft = draft
                    return
                draft.content.release()
        except BaseException:
            self._handle.failed = True
            raise

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._handle.failed = True
        if self._draft is not None:
            self._draft.content.release()


def _end(handle: WritingHandle, offset: int) -> int:
    """Where an appending handle writes. A client that believes the paper longer than it is would leave a hole in it: it must look again."""
    size = handle.draft.size
    if offset > size:
        handle.failed = True
        raise Refused("failure", "the upload is shorter than that; look at its size again and resume from there")
    return size
