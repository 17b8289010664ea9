"""Opening papers and receipts for reading, wherever their content is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from gateway.jail import Refused, VirtualPath
from gateway.jail.paths import INBOX
from gateway.sftp.papers.book import Book
from gateway.sftp.papers.closing import Closing
from gateway.sftp.papers.drafts import Stage
from gateway.sftp.papers.opening import Opening
from gateway.sftp.papers.sources import MOVING_PAUSES, DraftSource, PlainSource, StoredSource, not_there
from gateway.sftp.session.handles import HandleTable, ReadingHandle
from gateway.sftp.session.visitor import Visitor


class Reading:
    """For one client."""

    def __init__(self, book: Book, opening: Opening, closing: Closing) -> None:
        self._book = book
        self._opening = opening
        self._closing = closing

    def open(self, path: VirtualPath, visitor: Visitor, handles: HandleTable) -> ReadingHandle | Coroutine[Any, Any, ReadingHandle]:
        """A handle on what is at `path`: on the older paper while a new one is written over it, unless one of the session's own `handles` writes
        it. Raises (or the awaitable does) Refused, KeydUnavailable, KeyRefused."""
        if visitor.role == "staff" and path.folder == INBOX:
            self._check_arrived(path)
        handle = self._at_once(path, handles) if self._book.turns.free(str(path)) else None
        return handle or self._waiting(path, visitor, handles)

    def _check_arrived(self, path: VirtualPath) -> None:
        """The firm reads what was accepted, never what nobody has looked at yet; what has landed is guarded by keyd."""
        draft, pointer = self._book.drafts.get(path), self._book.tree.stat(path).pointer
        if (draft is not None and draft.own_name) or (pointer is not None and pointer.state == "partial"):
            raise Refused("permission", "the paper is still arriving, or being checked; try again when it is accepted")

    def _at_once(self, path: VirtualPath, handles: HandleTable) -> ReadingHandle | None:
        entry = self._book.tree.stat(path)
        if entry.kind == "folder":
            raise Refused("failure", "this is a folder")
        if entry.kind == "plain":
            return ReadingHandle(path, PlainSource(self._book.tree.open_plain(path)), entry.mtime, None)
        if self._book.deposit_only and path.folder == INBOX:
            raise Refused("permission", "papers of this client can be deposited, not read; the firm cannot read them either")
        draft = self._book.drafts.get(path)
        if draft is None or draft.stage not in (Stage.OPEN, Stage.FINISHED):
            return None
        if not draft.own_name and (draft.base is not None or not handles.writes(draft)):
            return None
        draft.readers += 1
        return ReadingHandle(path, DraftSource(draft), draft.mtime, draft.paper, draft)

    async def _waiting(self, path: VirtualPath, visitor: Visitor, handles: HandleTable) -> ReadingHandle:
        async with self._book.turns.path(str(path)):
            await self._fill_own(path, handles)
            handle = self._at_once(path, handles)
            if handle is not None:
                return handle
            entry = self._book.tree.stat(path)
            pointer = entry.pointer
            if pointer is None:
                raise Refused("failure", "the name of this paper is damaged; the firm can restore it")
            if pointer.state == "partial":
                return await self._partial(path, visitor, handles)
            return ReadingHandle(path, await self._stored(pointer.paper, visitor), entry.mtime, pointer.paper)

    async def _stored(self, paper: str, visitor: Visitor) -> StoredSource:
        """A paper in the vault or the spool. No thread waits where it may be on its way between them: the names of papers that were refused stay, and
        whoever opens many of those would have all threads."""
        parts = self._book.parts
        for pause in MOVING_PAUSES:
            if pause:
                await asyncio.sleep(pause)
            if found := await parts.reading.run(lambda: parts.archive.look(paper, visitor, "download")):
                return found
        raise not_there()

    async def _fill_own(self, path: VirtualPath, handles: HandleTable) -> None:
        """What the session reads of a paper that it writes is all there: the older one's part of it is copied."""
        draft = self._book.drafts.get(path)
        if draft is not None and draft.base is not None and draft.stage is Stage.OPEN and handles.writes(draft):
            async with draft.content:
                await self._closing.fill(draft)

    async def _partial(self, path: VirtualPath, visitor: Visitor, handles: HandleTable) -> ReadingHandle:
        await self._opening.resume(path, visitor)
        handle = self._at_once(path, handles)
        if handle is None:
            raise Refused("failure", "the upload of this paper is not finished")
        return handle

    async def close(self, handle: ReadingHandle) -> None:
        """The handle is gone; a draft that only it kept open is closed."""
        draft = handle.draft
        if draft is None:
            handle.source.close()
            return
        draft.readers -= 1
        if draft.writers or draft.readers:
            return
        if draft.stage is Stage.LANDED:
            draft.file.close()
        elif draft.stage is Stage.OPEN:
            async with self._book.held(draft):
                if draft.stage is Stage.OPEN and not draft.writers and not draft.readers:
                    await self._closing.end_unwritten(draft)
