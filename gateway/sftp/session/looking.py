"""The requests of a session on a shelf: what can be looked at and read, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from config.errors import NightsafeError
from gateway.audit.events import Event
from gateway.jail import Entry, Refused, VirtualPath, parse
from gateway.jail.shelf import Shelf
from gateway.sftp.papers.sources import PlainSource
from gateway.sftp.protocol import replies
from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.wire import MAX_PAYLOAD, OpenFlag, Status
from gateway.sftp.session.explaining import explain
from gateway.sftp.session.handles import FolderHandle, HandleTable, ReadingHandle
from gateway.sftp.session.operations import Reply, next_page
from gateway.sftp.session.recording import SessionRecord

log = structlog.get_logger()

_READ_ONLY = "this login may read here, and change nothing"


class Looking:
    """One shelf in one session. `shown` is the path under which the session sees it: for the audit log."""

    def __init__(
        self,
        shelf: Shelf,
        record: SessionRecord,
        run: Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]],
        handles: HandleTable,
        *,
        owner: str,
        session: str,
        shown: str = "",
    ) -> None:
        self._shelf = shelf
        self._record = record
        self._run = run
        self.handles = handles
        self._owner = owner
        self._session = session
        self._shown = shown

    def answer(self, request: Any) -> Reply:
        """The reply; never raises."""
        try:
            match request:
                case ask.Stat(number, path):
                    return replies.attributes(number, _facts(self._shelf.stat(parse(path))))
                case ask.OpenFolder(number, path):
                    self.handles.check_room()
                    where = parse(path)
                    return replies.handle(number, self.handles.add(FolderHandle(where, self._shelf.list(where))))
                case ask.ReadFolder(number, name):
                    return self._guarded(request, self._page(number, name))
                case ask.Open(number, path, flags):
                    return replies.handle(number, self.handles.add(self._open(parse(path), flags)))
                case ask.Read(number, name, offset, length):
                    return self._read(number, name, offset, length)
                case ask.HandleStat(number, name):
                    return self._handle_stat(number, name)
                case ask.Close(number, name):
                    self._release(self.handles.pop(name))
                    return replies.ok(number)
                case ask.FileSystem(number) | ask.HandleFileSystem(number):
                    return replies.space(number, replies.Space(0, 0, 0, 0, True))
            raise Refused("permission", _READ_ONLY)
        except Exception as error:  # noqa: BLE001 - one request's failure is its reply, not the session's end
            return self._refuse(request, error)

    async def abandon(self) -> None:
        """The connection is gone."""
        for handle in self.handles.drain():
            try:
                self._release(handle)
            except NightsafeError as error:  # that it was read cannot be recorded; the others are to be given up all the same
                log.warning("handle.not_released", error=error.message, session=self._session)

    def _open(self, path: VirtualPath, flags: int) -> ReadingHandle:
        self.handles.check_room()
        if flags & (OpenFlag.WRITE | OpenFlag.APPEND):
            raise Refused("permission", _READ_ONLY)
        mtime = self._shelf.stat(path).mtime
        return ReadingHandle(path, PlainSource(self._shelf.open_plain(path)), mtime, None)

    def _read(self, number: int, name: bytes, offset: int, length: int) -> bytes:
        handle = self.handles.get(name)
        if not isinstance(handle, ReadingHandle):
            raise Refused("permission", "the handle is not open for reading")
        data = handle.source.read(offset, min(length, MAX_PAYLOAD))
        handle.read += len(data)
        return replies.data(number, data) if data or not length else replies.status(number, Status.EOF)

    def _handle_stat(self, number: int, name: bytes) -> bytes:
        handle = self.handles.get(name)
        if isinstance(handle, ReadingHandle):
            return replies.attributes(number, replies.Facts(handle.source.size, 0o100400, handle.mtime))
        return replies.attributes(number, _facts(self._shelf.stat(handle.path if isinstance(handle, FolderHandle) else VirtualPath(()))))

    async def _page(self, number: int, name: bytes) -> bytes:
        handle = self.handles.get(name)
        if not isinstance(handle, FolderHandle):
            raise Refused("failure", "the handle is not of a folder")
        found = await self._run(lambda: next_page(handle))
        if not found:
            return replies.status(number, Status.EOF)
        now = time.time()
        return replies.names(number, [self._listed(entry, now) for entry in found])

    def _listed(self, entry: Entry, now: float) -> replies.Listed:
        facts, name = _facts(entry), entry.name.encode()
        return replies.Listed(name, replies.long_name(name, facts, self._owner, now), facts)

    def _release(self, handle: Any) -> None:
        if isinstance(handle, FolderHandle):
            handle.listing.close()
            return
        handle.source.close()
        seconds = round(time.monotonic() - handle.opened_at, 3)
        self._record.record(Event.PAPER_READ, path=f"{self._shown}{handle.path}", paper=None, bytes=handle.read, seconds=seconds)

    async def _guarded(self, request: Any, reply: Coroutine[Any, Any, bytes]) -> bytes:
        try:
            return await reply
        except Exception as error:  # noqa: BLE001 - as above
            return self._refuse(request, error)

    def _refuse(self, request: Any, error: Exception) -> bytes:
        code, text = explain(error, self._session)
        if code is Status.PERMISSION_DENIED:
            path: bytes = getattr(request, "path", b"") or getattr(request, "source", b"")
            self._record.refused(type(request).__name__, self._shown + path.decode("utf-8", "replace"), text)
        return replies.status(request.id, code, text)


def _facts(entry: Entry) -> replies.Facts:
    return replies.Facts(entry.size, 0o040500 if entry.kind == "folder" else 0o100400, entry.mtime)
