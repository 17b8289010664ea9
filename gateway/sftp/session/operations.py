"""What each request of a session does: checks, the call into the client's papers or tree, the reply, the audit event.

`answer` returns the reply's bytes, or a coroutine of them where something has to be waited for. It never raises: whatever goes wrong
becomes a STATUS whose text tells nothing of the host.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

from config.errors import NightsafeError
from gateway.audit.events import Event
from gateway.jail import Entry, Refused, VirtualPath, parse
from gateway.jail.permissions import Action, Rights, rights_of
from gateway.sftp.limits.pace import DOWN, UP
from gateway.sftp.limits.space import SpaceGuard, roughly
from gateway.sftp.papers.drafts import Stage
from gateway.sftp.papers.papers import Papers
from gateway.sftp.protocol import replies
from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.wire import MAX_PAYLOAD, VERSION, OpenFlag, Status
from gateway.sftp.session.explaining import explain
from gateway.sftp.session.handles import FolderHandle, Handle, HandleTable, ReadingHandle, WritingHandle
from gateway.sftp.session.recording import SessionRecord
from gateway.sftp.session.visitor import Visitor

log = structlog.get_logger()

Reply = bytes | Coroutine[Any, Any, bytes]

PAGE_ENTRIES = 256
ENTRIES_AT_ONCE = 32  # put into words in one turn of the event loop
PAGE_BYTES = 64 * 1024
FILES_SHOWN = 2**31  # what statvfs tells of files where there is no quota of them

_CHANGES_NAMES = (ask.Remove, ask.Rename, ask.MakeFolder, ask.RemoveFolder, ask.SetStat)  # told of when they fail, too
_LEAVES_SKETCHES = frozenset({ask.Open, ask.Write, ask.Close, ask.HandleSetStat, ask.Limits, ask.RealPath, ask.Unsupported})  # as they are
_WRITES = OpenFlag.WRITE | OpenFlag.APPEND


class Operations:
    """The requests of one session."""

    def __init__(
        self,
        papers: Papers,
        visitor: Visitor,
        record: SessionRecord,
        run: Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]],
        space: SpaceGuard,
        max_handles: int,
        *,
        role: str = "client",
        number: int = 0,
        read_only: bool = False,
    ) -> None:
        self._role = role
        self._read_only = read_only
        self.pace = papers.pace
        self._papers = papers
        papers.users.add(self)
        self._visitor = visitor
        self._record = record
        self._run = run
        self._space = space
        self.handles = HandleTable(max_handles, papers.handles, prefix=number)
        self.is_ending = False  # the server stops: what is open goes on, nothing further is opened
        self._greeted = False
        self._actions: dict[type[Any], Callable[[Any], Reply]] = {
            ask.Write: self._write,
            ask.Read: self._read,
            ask.Open: self._open,
            ask.Close: self._close,
            ask.Stat: self._stat,
            ask.HandleStat: self._handle_stat,
            ask.SetStat: self._set_stat,
            ask.HandleSetStat: self._handle_set_stat,
            ask.OpenFolder: self._open_folder,
            ask.ReadFolder: self._read_folder,
            ask.Remove: self._remove,
            ask.MakeFolder: self._make_folder,
            ask.RemoveFolder: self._remove_folder,
            ask.RealPath: self._real_path,
            ask.Rename: self._rename,
            ask.Sync: self._sync,
            ask.FileSystem: self._file_system,
            ask.HandleFileSystem: self._handle_file_system,
            ask.Limits: self._limits,
            ask.Unsupported: self._unsupported,
        }

    @property
    def is_transferring(self) -> bool:
        """Whether a paper is open."""
        return any(not isinstance(handle, FolderHandle) for handle in self.handles)

    def answer(self, request: ask.Request) -> Reply:
        """The reply to `request`. Raises Malformed only when the session cannot go on: a request before the greeting, or a second greeting."""
        if isinstance(request, ask.Init):
            return self._greet(request)
        if not self._greeted:
            raise ask.Malformed("a request before the greeting")
        try:
            kind = type(request)
            if kind not in _LEAVES_SKETCHES:
                self._papers.book.sketches.appear()
            reply = self._actions[kind](request)
        except Exception as error:  # noqa: BLE001 - one request's failure is its reply, not the session's end
            return self._refuse(request, error)
        return reply if isinstance(reply, bytes) else self._guarded(request, reply)

    async def abandon(self) -> None:
        """The connection is gone: no handle was closed by the client."""
        for handle in self.handles.drain():
            try:
                await self._release(handle, clean=False)
            except NightsafeError as error:
                log.warning("handle.not_released", error=error.message, session=self._visitor.session)
            except Exception as error:  # the others are to be given up all the same: a writer that stays keeps its paper from landing
                log.exception("handle.release_crashed", exc_info=error, session=self._visitor.session)

    async def _guarded(self, request: ask.Request, reply: Coroutine[Any, Any, bytes]) -> bytes:
        try:
            return await reply
        except Exception as error:  # noqa: BLE001 - as above
            return self._refuse(request, error)

    def _refuse(self, request: Any, error: Exception) -> bytes:
        code, text = explain(error, self._visitor.session)
        if code is Status.PERMISSION_DENIED or isinstance(request, _CHANGES_NAMES):
            path: bytes = getattr(request, "path", b"") or getattr(request, "source", b"")
            self._record.refused(type(request).__name__, path.decode("utf-8", "replace"), text)
        return replies.status(request.id, code, text)

    # the session itself

    def _greet(self, request: ask.Init) -> bytes:
        if self._greeted or request.version < VERSION:
            raise ask.Malformed("a client that speaks SFTP 3 was expected, and one greeting")
        self._greeted = True
        return replies.version()

    def _limits(self, request: ask.Limits) -> bytes:
        return replies.limits(request.id, self.handles.limit)

    def _unsupported(self, request: ask.Unsupported) -> bytes:
        return replies.status(request.id, Status.OP_UNSUPPORTED, f"{request.what[:64]} is not offered here")

    # content

    def _open(self, request: ask.Open) -> Reply:
        path = parse(request.path)
        if self.is_ending:
            raise Refused("failure", "the server is stopping; try again in a minute")
        self.handles.check_room()
        flags = request.flags
        if flags & _WRITES:
            self._rights.check(Action.WRITE, path)
            if flags & OpenFlag.READ:
                self._rights.check(Action.READ, path)
            opened = self._papers.opening.open(path, flags, self._visitor, self._guard(path))
            return self._add(request.id, opened) if isinstance(opened, WritingHandle) else self._add_later(request.id, opened)
        if not flags & OpenFlag.READ:
            raise Refused("bad_message", "a file is opened for reading or for writing")
        self._papers.book.sketches.appear()
        self._rights.check(Action.READ, path)
        reading = self._papers.reading.open(path, self._visitor, self.handles)
        return self._add(request.id, reading) if isinstance(reading, ReadingHandle) else self._add_later(request.id, reading)

    @property
    def _rights(self) -> Rights:
        return rights_of(self._role, self._papers.limits.profile, read_only=self._read_only)

    def _check_overwriting(self, path: VirtualPath) -> None:
        """A paper that is whole may be changed only by those who may overwrite; a broken upload goes on."""
        if self._rights.may(Action.OVERWRITE, path):
            return
        try:
            pointer = self._papers.tree.stat(path).pointer
        except Refused as refused:
            if refused.code == "no_such_file":
                return
            raise
        if pointer is None or pointer.state == "whole":
            self._rights.check(Action.OVERWRITE, path)

    def _guard(self, path: VirtualPath) -> Callable[[], None] | None:
        """What refuses to change a whole paper at `path`; None for those who may."""
        rights = self._rights
        return None if rights.may(Action.OVERWRITE, path) else lambda: rights.check(Action.OVERWRITE, path)

    def _add(self, number: int, handle: Handle) -> bytes:
        return replies.handle(number, self.handles.add(handle))

    async def _add_later(self, number: int, opening: Coroutine[Any, Any, Handle]) -> bytes:
        return self._add(number, await opening)

    def _write(self, request: ask.Write) -> Reply:
        handle = self._writing(request.handle)
        waiting = self._papers.writing.write(handle, request.offset, request.data)
        self.pace.moved(UP, len(request.data))
        return replies.ok(request.id) if waiting is None else _done(request.id, waiting)

    def _read(self, request: ask.Read) -> Reply:
        handle = self.handles.get(request.handle)
        length = min(request.length, MAX_PAYLOAD)
        self.pace.moved(DOWN, length)
        if isinstance(handle, ReadingHandle):
            if handle.draft is not None and handle.draft.content.locked():
                return self._read_waiting(request.id, handle, request.offset, length)
            return _read_now(request.id, handle, request.offset, length)
        if isinstance(handle, WritingHandle) and handle.readable:
            return self._read_back(request.id, handle, request.offset, length)
        raise Refused("permission", "the handle is not open for reading")

    async def _read_waiting(self, number: int, handle: ReadingHandle, offset: int, length: int) -> bytes:
        """A thread works on the draft: reading now would hold up everybody until its disk has answered."""
        if handle.draft is None:
            return _read_now(number, handle, offset, length)
        async with handle.draft.content:
            return _read_now(number, handle, offset, length)

    async def _read_back(self, number: int, handle: WritingHandle, offset: int, length: int) -> bytes:
        data = await self._papers.writing.read(handle, offset, length)
        return _data(number, data, length)

    def _close(self, request: ask.Close) -> Reply:
        handle = self.handles.pop(request.handle)
        if isinstance(handle, FolderHandle):
            handle.listing.close()
            return replies.ok(request.id)
        if isinstance(handle, WritingHandle) and self._papers.closing.close_at_once(handle):
            return replies.ok(request.id)
        return _done(request.id, self._release(handle, clean=True))

    async def _release(self, handle: Handle, *, clean: bool) -> None:
        if isinstance(handle, WritingHandle):
            await self._papers.closing.close(handle, clean=clean)
        elif isinstance(handle, ReadingHandle):
            await self._papers.reading.close(handle)
            seconds = round(time.monotonic() - handle.opened_at, 3)
            self._record.record(Event.PAPER_READ, path=str(handle.path), paper=handle.paper, bytes=handle.read, seconds=seconds)
        else:
            handle.listing.close()

    def _sync(self, request: ask.Sync) -> Reply:
        return _done(request.id, self._papers.writing.sync(self._writing(request.handle)))

    def _writing(self, name: bytes) -> WritingHandle:
        handle = self.handles.get(name)
        if not isinstance(handle, WritingHandle):
            raise Refused("permission", "the handle is not open for writing")
        return handle

    # looking

    def _stat(self, request: ask.Stat) -> bytes:
        path = parse(request.path)
        self._rights.check(Action.STAT, path)
        return replies.attributes(request.id, self._facts(path, self._papers.names.stat(path, self.handles)))

    def _handle_stat(self, request: ask.HandleStat) -> bytes:
        handle = self.handles.get(request.handle)
        if isinstance(handle, FolderHandle):
            facts = self._facts(handle.path, self._papers.names.stat(handle.path, self.handles))
        elif isinstance(handle, WritingHandle):
            facts = replies.Facts(handle.draft.size, 0o100000 | self._rights.mode_bits(handle.draft.path, folder=False), handle.draft.mtime)
        else:
            facts = replies.Facts(handle.source.size, 0o100000 | self._rights.mode_bits(handle.path, folder=False), handle.mtime)
        return replies.attributes(request.id, facts)

    def _facts(self, path: VirtualPath, entry: Entry) -> replies.Facts:
        folder = entry.kind == "folder"
        kind = 0o040000 if folder else 0o100000
        return replies.Facts(entry.size, kind | self._rights.mode_bits(path, folder=folder), entry.mtime)

    def _real_path(self, request: ask.RealPath) -> bytes:
        return replies.real_path(request.id, str(parse(request.path)))

    def _open_folder(self, request: ask.OpenFolder) -> bytes:
        path = parse(request.path)
        self._rights.check(Action.LIST, path)
        self.handles.check_room()
        return self._add(request.id, FolderHandle(path, self._papers.tree.list(path)))

    async def _read_folder(self, request: ask.ReadFolder) -> bytes:
        handle = self.handles.get(request.handle)
        if not isinstance(handle, FolderHandle):
            raise Refused("failure", "the handle is not of a folder")
        entries = await self._run(lambda: next_page(handle))
        if handle.path.is_root:  # what leads nowhere for this login would stop whoever copies all that there is
            entries = [entry for entry in entries if self._rights.may(Action.LIST, handle.path.child(entry.name))]
        if not entries:
            return replies.status(request.id, Status.EOF)
        now = time.time()
        shown: list[replies.Listed] = []
        for start in range(0, len(entries), ENTRIES_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            shown += [self._listed(handle.path, entry, now) for entry in entries[start : start + ENTRIES_AT_ONCE]]
        return replies.names(request.id, shown)

    def _listed(self, folder: VirtualPath, entry: Entry, now: float) -> replies.Listed:
        path = folder.child(entry.name)
        facts = self._facts(path, self._papers.names.shown(path, entry, self.handles))
        name = entry.name.encode()
        return replies.Listed(name, replies.long_name(name, facts, self._visitor.client, now), facts)

    def _file_system(self, request: ask.FileSystem) -> Reply:
        path = parse(request.path)
        self._rights.check(Action.STAT, path)
        self._papers.names.stat(path, self.handles)
        return self._space_reply(request.id, path)

    def _handle_file_system(self, request: ask.HandleFileSystem) -> Reply:
        handle = self.handles.get(request.handle)
        return self._space_reply(request.id, handle.draft.path if isinstance(handle, WritingHandle) else handle.path)

    def _space_reply(self, number: int, path: VirtualPath) -> Reply:
        return self._space_now(number, path) if self._papers.quota.ready else self._space_counted(number, path)

    async def _space_counted(self, number: int, path: VirtualPath) -> bytes:
        await self._papers.book.count_room()
        return self._space_now(number, path)

    def _space_now(self, number: int, path: VirtualPath) -> bytes:
        total, free, names, free_names = self._papers.quota.room()
        total, free = min(total, roughly(self._space.total)), min(free, roughly(max(0, self._space.free)))
        shown = replies.Space(total, free, min(names, FILES_SHOWN), min(free_names, FILES_SHOWN), not self._rights.may(Action.WRITE, path))
        return replies.space(number, shown)

    # changing names

    async def _remove(self, request: ask.Remove) -> bytes:
        path = parse(request.path)
        self._rights.check(Action.REMOVE, path)
        if self._papers.tree.stat(path).kind == "folder":
            raise Refused("failure", "this is a folder")
        await self._papers.names.remove(path, self._visitor.session)
        self._record.record(Event.NAME_REMOVED, path=str(path))
        return replies.ok(request.id)

    async def _make_folder(self, request: ask.MakeFolder) -> bytes:
        path = parse(request.path)
        self._rights.check(Action.MAKE_FOLDER, path)
        self._space.check()
        await self._papers.names.make_folder(path)
        self._record.record(Event.FOLDER_MADE, path=str(path))
        return replies.ok(request.id)

    async def _remove_folder(self, request: ask.RemoveFolder) -> bytes:
        path = parse(request.path)
        self._rights.check(Action.REMOVE_FOLDER, path)
        await self._papers.names.remove_folder(path)
        self._record.record(Event.FOLDER_REMOVED, path=str(path))
        return replies.ok(request.id)

    async def _rename(self, request: ask.Rename) -> bytes:
        source, target = parse(request.source), parse(request.target)
        self._rights.check_rename(source, target)
        guard = self._guard(target)
        await self._papers.names.rename(source, target, replace=request.replace, session=self._visitor.session, guard=guard)
        self._record.record(Event.NAME_RENAMED, path=str(source), target=str(target))
        return replies.ok(request.id)

    # attributes

    def _set_stat(self, request: ask.SetStat) -> Reply:
        path = parse(request.path)
        wanted = request.attributes
        if wanted.size is None and wanted.mtime is None:  # modes and owners never matter
            self._rights.check(Action.STAT, path)
            self._papers.names.stat(path, self.handles)
            return replies.ok(request.id)
        self._rights.check(Action.SET_TIMES, path)
        return self._set_stat_waiting(request.id, path, wanted)

    async def _set_stat_waiting(self, number: int, path: VirtualPath, wanted: ask.Attributes) -> bytes:
        if wanted.size is not None:
            self._rights.check(Action.WRITE, path)
            self._check_overwriting(path)
            if self._papers.names.stat(path, self.handles).size != wanted.size:
                await self._resize(path, wanted.size)
        if wanted.mtime is not None:
            await self._papers.names.set_times(path, wanted.atime or wanted.mtime, wanted.mtime)
            self._record.record(Event.TIMES_SET, path=str(path), modified_at=wanted.mtime)
        return replies.ok(number)

    async def _resize(self, path: VirtualPath, size: int) -> None:
        """A new version of the paper, cut or extended."""
        opened = self._papers.opening.open(path, OpenFlag.WRITE, self._visitor, self._guard(path))
        handle = opened if isinstance(opened, WritingHandle) else await opened
        try:
            await self._papers.writing.truncate(handle, size)
        except BaseException:
            with suppress(NightsafeError):  # that says once more that the paper is not whole; why is what the client is to hear
                await self._papers.closing.close(handle, clean=False)
            raise
        await self._papers.closing.close(handle, clean=True)

    def _handle_set_stat(self, request: ask.HandleSetStat) -> Reply:
        handle, wanted = self.handles.get(request.handle), request.attributes
        if isinstance(handle, WritingHandle):
            if wanted.mtime is not None:
                handle.draft.modified_at = float(wanted.mtime)
            if wanted.size is not None and wanted.size != handle.draft.size:
                return _done(request.id, self._papers.writing.truncate(handle, wanted.size))
            if wanted.mtime is not None and handle.draft.stage is Stage.FINISHED:  # its pointer is written already
                return self._set_stat_waiting(request.id, handle.draft.path, wanted._replace(size=None))
            return replies.ok(request.id)
        if wanted.size is not None:
            raise Refused("permission", "the handle is not open for writing")
        if wanted.mtime is None:
            return replies.ok(request.id)
        self._rights.check(Action.SET_TIMES, handle.path)
        return self._set_stat_waiting(request.id, handle.path, wanted)


async def _done(number: int, waiting: Coroutine[Any, Any, None]) -> bytes:
    await waiting
    return replies.ok(number)


def _read_now(number: int, handle: ReadingHandle, offset: int, length: int) -> bytes:
    data = handle.source.read(offset, length)
    handle.read += len(data)
    return _data(number, data, length)


def _data(number: int, data: bytes, wanted: int) -> bytes:
    if not data and wanted:
        return replies.status(number, Status.EOF)
    return replies.data(number, data)


def next_page(handle: FolderHandle) -> list[Entry]:
    """Blocking: the next entries of a folder, a bounded number and amount."""
    entries: list[Entry] = []
    size = 0
    for entry in handle.listing:
        entries.append(entry)
        size += 2 * len(entry.name.encode()) + 128
        if len(entries) >= PAGE_ENTRIES or size >= PAGE_BYTES:
            break
    return entries
