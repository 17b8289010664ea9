"""What ties the names of one client to papers: opening, closing, renaming and removing while papers are being written.

Invariants kept here:
- CLOSE is answered with OK only after content (footer), pointer and folders are on the disk.
- A new name points at its partial paper from the start; an existing name keeps its older paper until the new one is whole.
- An acknowledged paper is never discarded: overwriting, replacing or removing its name lands it first.
- A broken upload of a new name stays, to be resumed; one that would have replaced a paper is discarded.

Requests that need no waiting are answered at once, by methods that return a value; those that wait return an awaitable and hold a turn
(see `turns`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

import structlog

from config.errors import NightsafeError
from gateway.audit.events import Event
from gateway.jail import Entry, Pointer, Refused, Tree, VirtualPath
from gateway.keys.errors import KeyGone
from gateway.sftp.drafts import COPY_PIECE, Base, Draft, Stage
from gateway.sftp.handles import ReadingHandle, WritingHandle
from gateway.sftp.pool import Pool
from gateway.sftp.recording import Recorder
from gateway.sftp.sources import Archive, DraftSource, PlainSource
from gateway.sftp.space import SpaceGuard
from gateway.sftp.turns import Turns
from gateway.sftp.visitor import Visitor
from gateway.sftp.wire import OpenFlag
from gateway.store.arrival import Arrival
from gateway.store.errors import SpoolGone
from gateway.store.ids import new_paper_id
from gateway.store.spool import Spool, SpoolFile

log = structlog.get_logger()

Slow = Coroutine[Any, Any, WritingHandle]
SlowRead = Coroutine[Any, Any, ReadingHandle]
_READS = OpenFlag.READ | OpenFlag.APPEND


@dataclass(frozen=True)
class Parts:
    """What all clients' papers share. `settle` tells for a path how many seconds a finished draft waits before it lands."""

    spool: Spool
    archive: Archive
    space: SpaceGuard
    pool: Pool
    recorder: Recorder
    settle: Callable[[VirtualPath], float]
    after: Callable[[float, Draft, Papers], Any]
    ticks: Iterator[int]


def tick_source() -> Iterator[int]:
    """Numbers that only grow."""
    return count()


class Papers:
    """One client's names and the papers being written behind them. Used on the event loop only, but for what the pool runs."""

    def __init__(self, client: str, tree: Tree, parts: Parts, *, deposit_only: bool = False) -> None:
        self.client = client
        self.tree = tree
        self.turns = Turns()
        self.deposit_only = deposit_only
        self._parts = parts
        self._drafts: dict[VirtualPath, Draft] = {}

    @property
    def drafts(self) -> list[Draft]:
        """Papers being written, or waiting to land."""
        return list(self._drafts.values())

    # looking

    def stat(self, path: VirtualPath) -> Entry:
        """The entry at `path`, as a client is to see it."""
        return self.shown(path, self.tree.stat(path))

    def shown(self, path: VirtualPath, entry: Entry) -> Entry:
        """`entry`, with the size that a paper has at this moment when it is not whole."""
        pointer = entry.pointer
        if pointer is None or pointer.state == "whole":
            return entry
        draft = self._drafts.get(path)
        if draft is not None and draft.paper == pointer.paper:
            return Entry(entry.name, entry.kind, draft.resumable, draft.mtime, pointer)
        return Entry(entry.name, entry.kind, self._prefix(pointer), entry.mtime, pointer)

    def _prefix(self, pointer: Pointer) -> int:
        try:
            return self._parts.spool.prefix_size(pointer.paper)
        except NightsafeError:
            return pointer.size

    # opening for writing

    def open_writing(self, path: VirtualPath, flags: int, visitor: Visitor) -> WritingHandle | Slow:
        """A handle on the paper at `path`, made when CREATE says so."""
        self._parts.space.check()
        if self.turns.free(str(path)):
            handle = self._open_at_once(path, flags, visitor)
            if handle is not None:
                return handle
        return self._open_waiting(path, flags, visitor)

    async def _open_waiting(self, path: VirtualPath, flags: int, visitor: Visitor) -> WritingHandle:
        async with self.turns.path(str(path)):
            while True:
                handle = self._open_at_once(path, flags, visitor)
                if handle is not None:
                    return handle
                draft = self._drafts.get(path)
                if draft is None:
                    await self._resume(path, visitor)
                elif flags & OpenFlag.TRUNCATE:
                    await self._land(draft)
                else:
                    await self._continue(draft)

    def _open_at_once(self, path: VirtualPath, flags: int, visitor: Visitor) -> WritingHandle | None:
        """A handle without waiting, or None where a key or a disk has to be waited for."""
        draft = self._drafts.get(path)
        if draft is not None:
            if flags & OpenFlag.EXCLUSIVE and flags & OpenFlag.CREATE:
                raise Refused("exists", "the name is taken already")
            return self._share(draft, flags, visitor) if draft.stage is Stage.OPEN and not draft.content.locked() else None
        try:
            entry = self.tree.stat(path)
        except Refused as refused:
            if refused.code != "no_such_file" or not flags & OpenFlag.CREATE:
                raise
            return self._begin(path, flags, visitor)
        return self._reopen(path, entry, flags, visitor)

    def _reopen(self, path: VirtualPath, entry: Entry, flags: int, visitor: Visitor) -> WritingHandle | None:
        if entry.kind != "pointer":
            raise Refused("failure", "a folder has this name")
        if flags & OpenFlag.EXCLUSIVE and flags & OpenFlag.CREATE:
            raise Refused("exists", "the name is taken already")
        pointer = entry.pointer
        if pointer is None:  # damaged: its paper is found by the catalog; the name is free for a new one
            return self._begin(path, flags, visitor)
        if pointer.state == "partial":
            if not flags & OpenFlag.TRUNCATE:
                return None
            handle = self._begin(path, flags, visitor)
            self._forget_partial(pointer.paper)
            return handle
        if flags & OpenFlag.TRUNCATE or pointer.size == 0:
            return self._replace(path, None, flags, visitor)
        if self.deposit_only and flags & _READS:
            raise Refused("permission", "papers of this client can be deposited, not read or continued; upload the whole paper anew")
        return self._replace(path, self._base(pointer, visitor), flags, visitor)

    def _share(self, draft: Draft, flags: int, visitor: Visitor) -> WritingHandle:
        if flags & OpenFlag.TRUNCATE:
            draft.truncate(0)
        return self._handle(draft, flags, visitor)

    def _begin(self, path: VirtualPath, flags: int, visitor: Visitor) -> WritingHandle:
        """A new paper under a name that points at it from the start."""
        paper = new_paper_id()
        file = self._parts.spool.create(paper, self.client)
        try:
            self.tree.put(path, Pointer(paper, 0, "partial"), mtime=None, durable=False)
        except BaseException:
            _remove(file)
            raise
        return self._handle(self._enter(Draft(paper, path, file, visitor, own_name=True)), flags, visitor)

    def _replace(self, path: VirtualPath, base: Base | None, flags: int, visitor: Visitor) -> WritingHandle:
        """A new paper whose name keeps the older one until this one is whole."""
        paper = new_paper_id()
        file = self._parts.spool.create(paper, self.client)
        return self._handle(self._enter(Draft(paper, path, file, visitor, own_name=False, base=base)), flags, visitor)

    def _enter(self, draft: Draft) -> Draft:
        self._drafts[draft.path] = draft
        return draft

    def _handle(self, draft: Draft, flags: int, visitor: Visitor) -> WritingHandle:
        draft.writers += 1
        draft.visitor = visitor
        tick = next(self._parts.ticks)
        return WritingHandle(draft, bool(flags & OpenFlag.APPEND), bool(flags & OpenFlag.READ), tick, tick)

    def _base(self, pointer: Pointer, visitor: Visitor) -> Base:
        archive = self._parts.archive

        def copy(start: int, end: int, write: Callable[[int, bytes], None]) -> None:
            source = archive.open(pointer.paper, visitor, "continue")
            try:
                while start < end:
                    piece = source.read(start, min(COPY_PIECE, end - start))
                    if not piece:
                        raise Refused("failure", "the paper is shorter than it should be; upload it anew")
                    write(start, piece)
                    start += len(piece)
            finally:
                source.close()

        if self.deposit_only:
            raise_refused = Refused("permission", "papers of this client can be deposited, not continued; upload the whole paper anew")

            def refuse(_start: int, _end: int, _write: Callable[[int, bytes], None]) -> None:
                raise raise_refused

            return Base(pointer.size, refuse)
        return Base(pointer.size, copy)

    async def _resume(self, path: VirtualPath, visitor: Visitor) -> None:
        """Open a broken upload again."""
        pointer = self.tree.stat(path).pointer
        if pointer is None or pointer.state != "partial":
            return  # it changed meanwhile: look again
        file = await self._parts.pool.run(lambda: self._reopen_file(pointer, visitor))
        if file is None:  # nothing is left of it in the spool: its name starts anew
            self.tree.put(path, Pointer(pointer.paper, 0, "partial"), mtime=None, durable=False)
            file = self._parts.spool.create(pointer.paper, self.client)
        self._enter(Draft(pointer.paper, path, file, visitor, own_name=True))

    def _reopen_file(self, pointer: Pointer, visitor: Visitor) -> SpoolFile | None:
        try:
            return self._parts.spool.reopen(pointer.paper, self._parts.archive.partial_key(pointer.paper, visitor))
        except (KeyGone, SpoolGone):
            return None

    async def _continue(self, draft: Draft) -> None:
        """Open a finished draft again: partial until it is closed once more."""
        if draft.stage is not Stage.FINISHED:
            async with draft.content:  # somebody fills or finishes it: wait for that
                return
        draft.stop_settling()
        path, size = draft.path, draft.file.size

        def work() -> None:
            self.tree.put(path, Pointer(draft.paper, size, "partial"), mtime=draft.modified_at, durable=True)
            draft.file.continue_writing()

        async with draft.content:
            await self._parts.pool.run(work)
        draft.stage = Stage.OPEN

    def _forget_partial(self, paper: str) -> None:
        try:
            self._parts.spool.remove_partial(paper)
        except NightsafeError as error:
            log.warning("partial.not_removed", paper=paper, error=str(error))

    # opening for reading

    def open_reading(self, path: VirtualPath, visitor: Visitor) -> ReadingHandle | SlowRead:
        """A handle for reading what is at `path`."""
        if not self.turns.free(str(path)):
            return self._read_waiting(path, visitor)
        return self._read_at_once(path) or self._read_waiting(path, visitor)

    def _read_at_once(self, path: VirtualPath) -> ReadingHandle | None:
        entry = self.tree.stat(path)
        if entry.kind == "folder":
            raise Refused("failure", "this is a folder")
        if entry.kind == "plain":
            return ReadingHandle(path, PlainSource(self.tree.open_plain(path)), entry.mtime, None)
        if self.deposit_only and path.folder == "inbox":
            raise Refused("permission", "papers of this client can be deposited, not read; the firm cannot read them either")
        draft = self._drafts.get(path)
        if draft is None or not draft.own_name or draft.stage not in (Stage.OPEN, Stage.FINISHED):
            return None
        draft.readers += 1
        return ReadingHandle(path, DraftSource(draft), draft.mtime, draft.paper, draft)

    async def _read_waiting(self, path: VirtualPath, visitor: Visitor) -> ReadingHandle:
        async with self.turns.path(str(path)):
            handle = self._read_at_once(path)
            if handle is not None:
                return handle
            entry = self.tree.stat(path)
            pointer = entry.pointer
            if pointer is None:
                raise Refused("failure", "the name of this paper is damaged; the firm can restore it")
            if pointer.state == "partial":
                await self._resume(path, visitor)
                handle = self._read_at_once(path)
                if handle is None:
                    raise Refused("failure", "the upload of this paper is not finished")
                return handle
            source = await self._parts.pool.run(lambda: self._parts.archive.open(pointer.paper, visitor, "download"))
            return ReadingHandle(path, source, entry.mtime, pointer.paper)

    async def close_reading(self, handle: ReadingHandle) -> None:
        """The handle is gone; a draft that only it kept open is closed."""
        draft = handle.draft
        if draft is None:
            handle.source.close()
            return
        draft.readers -= 1
        if draft.writers or draft.readers:
            return
        if draft.stage is Stage.LANDED:
            await self._parts.pool.run(draft.file.close)
        elif draft.stage is Stage.OPEN:
            async with _Held(self, draft):
                if not draft.writers and not draft.readers and draft.stage is Stage.OPEN:
                    await self._break_off(draft)

    # writing

    def write(self, handle: WritingHandle, offset: int, data: memoryview) -> Coroutine[Any, Any, None] | None:
        """Write at `offset` (at the end when appending). None when it is done, else an awaitable. Raises Refused, SpoolFull."""
        draft = handle.draft
        if draft.content.locked():
            return self._write_waiting(handle, offset, data)
        if handle.appending:
            offset = _end(handle, offset)
        if draft.needs_base(offset):
            return self._write_waiting(handle, offset, data)
        self._write_now(handle, offset, data)
        return None

    def _write_now(self, handle: WritingHandle, offset: int, data: memoryview) -> None:
        draft = handle.draft
        try:
            self._parts.space.check_growth(offset + len(data) - draft.file.size)
            draft.file.write(offset, data)
        except BaseException:
            handle.failed = True
            raise
        handle.last_tick = next(self._parts.ticks)
        handle.written += len(data)

    async def _write_waiting(self, handle: WritingHandle, offset: int, data: memoryview) -> None:
        draft = handle.draft
        async with draft.content:
            if handle.appending:
                offset = _end(handle, offset)
            if draft.needs_base(offset):
                try:
                    await self._parts.pool.run(draft.fill)
                except BaseException:
                    handle.failed = True
                    raise
            self._write_now(handle, offset, data)

    async def truncate(self, handle: WritingHandle, size: int) -> None:
        """Cut or extend the paper to `size` bytes."""
        draft = handle.draft
        async with draft.content:
            try:
                self._parts.space.check_growth(size - draft.size)
                if draft.base is not None and size > draft.base.size:
                    await self._parts.pool.run(draft.fill)
                draft.truncate(size)
            except BaseException:
                handle.failed = True
                raise
            handle.last_tick = next(self._parts.ticks)

    async def sync(self, handle: WritingHandle) -> None:
        """fsync@openssh.com: what was written is on the disk, though not published."""
        async with handle.draft.content:
            await self._parts.pool.run(handle.draft.file.sync)

    async def read(self, handle: WritingHandle, offset: int, length: int) -> bytes:
        """Read through a handle that also writes."""
        draft = handle.draft
        async with draft.content:
            if draft.base is not None:
                await self._parts.pool.run(draft.fill)
            return draft.file.read(offset, length)

    # closing

    async def close_writing(self, handle: WritingHandle, *, clean: bool) -> None:
        """The handle is gone. `clean`: the client closed it; on return its paper is durable, and published if this was the last handle.

        Raises Refused or NightsafeError when the client must not believe that its paper is safe.
        """
        draft = handle.draft
        clean = clean and not handle.failed
        async with _Held(self, draft):
            draft.writers -= 1
            if clean:
                draft.clean_tick = max(draft.clean_tick, handle.opened_tick)
            else:
                draft.lost_tick = max(draft.lost_tick, handle.last_tick)
            async with draft.content:
                await self._settle_close(handle, draft, clean)

    async def _settle_close(self, handle: WritingHandle, draft: Draft, clean: bool) -> None:
        path = draft.path
        if draft.writers:
            if clean:
                await self._parts.pool.run(draft.file.sync)
        elif draft.name_removed:
            await self._drop(draft)
        elif draft.is_whole or draft.file.finished:  # reopened, and not changed: what was acknowledged stays
            await self._finish(draft)
        elif not draft.readers:
            await self._break_off(draft)
        facts = {"path": str(path), "paper": draft.paper, "bytes": handle.written, "seconds": round(time.monotonic() - handle.opened_at, 3)}
        event = Event.PAPER_DEPOSITED if clean else Event.PAPER_BROKEN_OFF
        self._parts.recorder.record(event, draft.visitor, size=draft.file.size, state=draft.stage.value, **facts)
        if handle.failed:
            raise Refused("failure", "the paper is not whole: a write was refused before; upload it again")

    async def _finish(self, draft: Draft) -> None:
        """Make the draft whole and durable, then let its name point at it, durably."""
        path, visitor = draft.path, draft.visitor
        arrival = _arrival(draft, visitor)

        def work() -> None:
            draft.fill()
            draft.file.finish(arrival)
            self.tree.put(path, Pointer(draft.paper, draft.file.size, "whole"), mtime=draft.modified_at, durable=True)

        try:
            await self._parts.pool.run(work)
        except BaseException:
            draft.lost_tick = next(self._parts.ticks)
            await self._break_off(draft)
            raise
        draft.own_name = True
        draft.stage = Stage.FINISHED
        self.settle(draft)

    def settle(self, draft: Draft) -> None:
        """Let a finished draft land once its name has been left alone for a while."""
        draft.stop_settling()
        draft.settling = self._parts.after(self._parts.settle(draft.path), draft, self)

    async def _break_off(self, draft: Draft) -> None:
        """Keep a broken upload of a new name for resuming; drop one that would have replaced a paper."""
        if not draft.own_name:
            await self._drop(draft)
            return
        self._leave(draft, Stage.GONE)
        path, spool, mtime = draft.path, self._parts.spool, draft.modified_at

        def work() -> None:
            draft.file.close()
            self.tree.put(path, Pointer(draft.paper, spool.prefix_size(draft.paper), "partial"), mtime=mtime, durable=False)

        try:
            await self._parts.pool.run(work)
        except NightsafeError as error:
            log.warning("partial.not_kept", paper=draft.paper, error=error.message)

    async def _drop(self, draft: Draft) -> None:
        self._leave(draft, Stage.GONE)
        await self._parts.pool.run(lambda: _remove(draft.file))

    def _leave(self, draft: Draft, stage: Stage) -> None:
        draft.stop_settling()
        draft.stage = stage
        if self._drafts.get(draft.path) is draft:
            del self._drafts[draft.path]

    # landing

    async def land(self, draft: Draft) -> None:
        """Hand a finished draft to ingest, unless it was opened again."""
        async with _Held(self, draft):
            await self._land(draft)

    async def _land(self, draft: Draft) -> None:
        if draft.stage is not Stage.FINISHED:
            return
        draft.stop_settling()
        path = draft.path
        keep_open = draft.readers > 0

        def work() -> None:
            self._parts.spool.land(draft.paper)
            if not keep_open:
                draft.file.close()

        async with draft.content:
            await self._parts.pool.run(work)
        self._leave(draft, Stage.LANDED)
        if keep_open and not draft.readers:
            await self._parts.pool.run(draft.file.close)
        self._parts.recorder.record(Event.PAPER_LANDED, draft.visitor, path=str(path), paper=draft.paper, size=draft.size)

    # names

    async def rename(self, source: VirtualPath, target: VirtualPath, *, replace: bool) -> None:
        """Give another name; drafts follow. What loses its name by that is landed when it was acknowledged, else dropped."""
        async with self.turns.all():
            if source == target:
                self.tree.stat(source)
                return
            victim = self._drafts.get(target)
            if victim is not None and replace:
                await self._land(victim)
            replaced = await self._parts.pool.run(lambda: self.tree.rename(source, target, replace))
            self._lose_name(self._drafts.pop(target, None))
            self._follow(source, target)
        if replaced is not None and replaced.state == "partial" and (victim is None or victim.paper != replaced.paper):
            self._forget_partial(replaced.paper)

    async def remove(self, path: VirtualPath) -> None:
        """Remove a name. The paper stays when it was acknowledged."""
        async with self.turns.all():
            draft = self._drafts.get(path)
            if draft is not None:
                await self._land(draft)
            pointer = await self._parts.pool.run(lambda: self.tree.remove(path))
            self._lose_name(self._drafts.pop(path, None))
        if pointer is not None and pointer.state == "partial" and (draft is None or draft.paper != pointer.paper):
            self._forget_partial(pointer.paper)

    def _follow(self, source: VirtualPath, target: VirtualPath) -> None:
        """Drafts at or below `source` are at or below `target` now."""
        for draft in self.drafts:
            if draft.path.is_within(source):
                del self._drafts[draft.path]
                draft.path = VirtualPath(target.parts + draft.path.parts[len(source.parts) :])
                self._drafts[draft.path] = draft
                if draft.stage is Stage.FINISHED:
                    self.settle(draft)

    def _lose_name(self, draft: Draft | None) -> None:
        if draft is not None:
            draft.name_removed = True

    async def set_times(self, path: VirtualPath, atime: float, mtime: float) -> None:
        """Set times by path; a draft takes them along to its pointer."""
        async with self.turns.path(str(path)):
            self.tree.set_times(path, atime, mtime)
            draft = self._drafts.get(path)
            if draft is not None:
                draft.modified_at = mtime

    async def expire(self, stale: set[str]) -> int:
        """Remove broken uploads that nobody took up again, and their names; how many."""
        async with self.turns.all():
            gone = stale - {draft.paper for draft in self.drafts}
            await self._parts.pool.run(lambda: self._remove_partials(gone))
            return len(gone)

    def _remove_partials(self, papers: set[str]) -> None:
        for path, pointer, _ in list(self.tree.pointers()):
            if pointer.paper in papers and pointer.state == "partial":
                self.tree.remove(path)
        for paper in papers:
            self._forget_partial(paper)


class _Held:
    """`async with`: hold the path that a draft has, wherever renames carry it meanwhile."""

    __slots__ = ("_draft", "_papers", "_path")

    def __init__(self, papers: Papers, draft: Draft) -> None:
        self._papers = papers
        self._draft = draft
        self._path = ""

    async def __aenter__(self) -> None:
        while True:
            self._path = str(self._draft.path)
            await self._papers.turns.take(self._path)
            if str(self._draft.path) == self._path:
                return
            self._papers.turns.give(self._path)

    async def __aexit__(self, *_: object) -> None:
        self._papers.turns.give(self._path)


def _end(handle: WritingHandle, offset: int) -> int:
    """Where an appending handle writes. A client that believes the paper longer than it is would leave a hole in it: it must look again."""
    size = handle.draft.size
    if offset > size:
        handle.failed = True
        raise Refused("failure", "the upload is shorter than that; look at its size again and resume from there")
    return size


def _remove(file: SpoolFile) -> None:
    """Blocking: nothing is left of a paper that nobody was promised."""
    try:
        file.discard()
    finally:
        file.close()


def _arrival(draft: Draft, visitor: Visitor) -> Arrival:
    modified = None if draft.modified_at is None else datetime.fromtimestamp(draft.modified_at, UTC)
    return Arrival(
        paper=draft.paper,
        client=visitor.client,
        person=visitor.person,
        path=str(draft.path),
        received_at=datetime.now(UTC),
        modified_at=modified,
        session=visitor.session,
        address=visitor.address,
        software=visitor.software,
    )
