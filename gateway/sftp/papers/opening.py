"""Opening papers for writing: new ones, overwritten ones, broken uploads that go on, finished ones that are opened again.

| what is at the name | TRUNCATE | without |
| --- | --- | --- |
| nothing | a new paper, its name points at it at once (or see `sketches`) | the same (with CREATE) |
| a draft that is open | shared, and emptied | shared |
| a finished draft | it lands; a new paper | shared; see `writing` |
| a broken upload | dropped; a new paper | goes on |
| a whole paper | a new paper; the name keeps the older one until CLOSE | the same, starting from a copy |

Where whole papers may not be changed a `Guard` says so, at the moment of opening: what a request saw before it waited does not count.

What needs no waiting is done at once; what needs a key or a disk is an awaitable that holds the path meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from config.errors import NightsafeError
from gateway.jail import Entry, Pointer, Refused, VirtualPath
from gateway.jail.paths import INBOX
from gateway.keys.errors import KeyGone
from gateway.sftp.papers.book import Book
from gateway.sftp.papers.closing import Closing
from gateway.sftp.papers.drafts import COPY_PIECE, NEVER, Base, Draft, Stage, remove_file
from gateway.sftp.protocol.wire import OpenFlag
from gateway.sftp.session.handles import WritingHandle
from gateway.sftp.session.visitor import Visitor
from gateway.store.errors import SpoolGone, SpoolTorn
from gateway.store.ids import new_paper_id
from gateway.store.spool import SpoolFile

log = structlog.get_logger()

Guard = Callable[[], None]  # raises Refused: a whole paper is in the way, and it may not be changed

_CONTINUES = OpenFlag.READ | OpenFlag.APPEND
_ONLY_DEPOSITED = "papers of this client can be deposited, not read or continued; upload the whole paper anew"
_ONLY_WRITTEN = "papers of this client can be deposited, not read; open the file for writing alone"


class Opening:
    """For one client."""

    def __init__(self, book: Book, closing: Closing) -> None:
        self._book = book
        self._closing = closing

    def open(self, path: VirtualPath, flags: int, visitor: Visitor, guard: Guard | None = None) -> WritingHandle | Coroutine[Any, Any, WritingHandle]:
        """A handle on the paper at `path`. With a `guard` whole papers stay as they are, and an upload of another session is taken over. Raises (or
        the awaitable does) Refused, SpoolFull, KeydUnavailable, KeyRefused."""
        if flags & OpenFlag.READ and self._deposits_only(path):
            raise Refused("permission", _ONLY_WRITTEN)
        self._book.parts.space.check()
        if self._book.quota.ready and self._book.turns.free(str(path)):
            handle = self._at_once(path, flags, visitor, guard)
            if handle is not None:
                return handle
        return self._waiting(path, flags, visitor, guard)

    async def _waiting(self, path: VirtualPath, flags: int, visitor: Visitor, guard: Guard | None) -> WritingHandle:
        self._book.sketches.appear()
        if not self._book.quota.ready:
            await self._book.count_room()
        async with self._book.turns.path(str(path)):
            while True:
                if flags & OpenFlag.CREATE and not self._book.crowding.is_known(path):
                    await self._book.parts.pool.run(lambda: self._book.crowding.learn(path))
                handle = self._at_once(path, flags, visitor, guard)
                if handle is not None:
                    return handle
                draft = self._book.drafts.get(path)
                if draft is None:
                    await self.resume(path, visitor)
                elif draft.content.locked():
                    async with draft.content:
                        pass
                else:
                    await self._closing.land_held(draft)

    def _at_once(self, path: VirtualPath, flags: int, visitor: Visitor, guard: Guard | None) -> WritingHandle | None:
        """A handle without waiting, or None where something has to be waited for."""
        draft = self._book.drafts.get(path)
        if draft is not None:
            _check_exclusive(flags)
            return self._share(draft, flags, visitor, guard)
        entry = self._book.tree.look(path)
        if entry is None:
            if not flags & OpenFlag.CREATE:
                raise Refused("no_such_file", "no such file or folder")
            return self._begin_named(path, flags, visitor)
        _check_exclusive(flags)
        return self._again(path, entry, flags, visitor, guard)

    def _share(self, draft: Draft, flags: int, visitor: Visitor, guard: Guard | None) -> WritingHandle | None:
        if guard and (draft.stage is not Stage.OPEN or not draft.own_name or draft.vouched):
            guard()
        if draft.stage is not Stage.OPEN and flags & OpenFlag.APPEND and not flags & OpenFlag.TRUNCATE and self._deposits_only(draft.path):
            raise Refused("permission", _ONLY_DEPOSITED)  # whole already: that it is not sealed yet makes no difference to the client
        if draft.content.locked():
            return None
        if draft.sketch is not None:
            draft.sketch.appear(draft)
        if guard:
            draft.take_over(visitor.session, self._book.tick())
        if flags & OpenFlag.TRUNCATE:
            if draft.stage is not Stage.OPEN:
                return None
            draft.truncate(0)
        draft.stop_settling()
        return self._handle(draft, flags, visitor)

    def _again(self, path: VirtualPath, entry: Entry, flags: int, visitor: Visitor, guard: Guard | None) -> WritingHandle | None:
        if entry.kind != "pointer":
            raise Refused("failure", "a folder has this name")
        pointer = entry.pointer
        if guard and not is_broken_upload(entry):
            guard()
        if pointer is None:  # damaged: the catalog knows its paper still; the name is free for a new one
            return self._begin(path, flags, visitor)
        if pointer.state == "partial":
            if not flags & OpenFlag.TRUNCATE:
                return None
            handle = self._begin(path, flags, visitor)
            self._book.quota.book(-pointer.size, 0, 0)
            self.forget_partial(pointer.paper)
            return handle
        if flags & OpenFlag.TRUNCATE or pointer.size == 0:
            return self._handle(self.replace(path, None, pointer, visitor), flags, visitor)
        if self._deposits_only(path) and flags & _CONTINUES:
            raise Refused("permission", _ONLY_DEPOSITED)
        return self._handle(self.replace(path, self.base(path, pointer, visitor), pointer, visitor), flags, visitor)

    def _begin_named(self, path: VirtualPath, flags: int, visitor: Visitor) -> WritingHandle | None:
        """A new paper under a new name."""
        if not self._book.crowding.is_known(path):
            return None
        self._book.add_name(path)
        try:
            book = self._book
            return self._sketch(path, flags, visitor) if book.parts.sync_cost.is_low and book.sketches.has_room else self._begin(path, flags, visitor)
        except BaseException:
            self._book.remove_name(path)
            raise

    def _sketch(self, path: VirtualPath, flags: int, visitor: Visitor) -> WritingHandle:
        """A new paper that stays in memory at first."""
        book = self._book
        draft = book.enter(Draft(new_paper_id(), path, book.sketches.begin(), visitor, book.quota.hold(), own_name=True))
        book.sketches.keep(draft)
        return self._handle(draft, flags, visitor)

    def _begin(self, path: VirtualPath, flags: int, visitor: Visitor) -> WritingHandle:
        """A new paper under a name that points at it from the start."""
        file = self._named_file(path)
        return self._handle(self._book.enter(Draft(file.paper, path, file, visitor, self._book.quota.hold(), own_name=True)), flags, visitor)

    def _named_file(self, path: VirtualPath) -> SpoolFile:
        """An empty spool file of a new paper; the name points at it."""
        file = self._book.parts.spool.create(new_paper_id(), self._book.client)
        try:
            self._book.tree.put(path, Pointer(file.paper, 0, "partial"), mtime=None, durable=False)
        except BaseException:
            remove_file(file)
            raise
        return file

    def replace(self, path: VirtualPath, base: Base | None, older: Pointer, visitor: Visitor) -> Draft:
        """A new paper whose name keeps the `older` one until this one is whole."""
        paper = new_paper_id()
        hold = self._book.quota.hold(shown=older.size, size=base.size if base else 0)
        try:
            file = self._book.parts.spool.create(paper, self._book.client)
        except BaseException:
            hold.end(0)
            raise
        return self._book.enter(Draft(paper, path, file, visitor, hold, own_name=False, base=base))

    def _handle(self, draft: Draft, flags: int, visitor: Visitor) -> WritingHandle:
        draft.writers += 1
        tick = self._book.tick()
        last = tick if flags & OpenFlag.TRUNCATE else NEVER
        return WritingHandle(draft, visitor, bool(flags & OpenFlag.APPEND), bool(flags & OpenFlag.READ), tick, last)

    def base(self, path: VirtualPath, pointer: Pointer, visitor: Visitor) -> Base:
        """What a new paper starts from: the whole one at `pointer`."""
        archive = self._book.parts.archive

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

        def refuse(_start: int, _end: int, _write: Callable[[int, bytes], None]) -> None:
            raise Refused("permission", _ONLY_DEPOSITED)

        return Base(pointer.paper, pointer.size, refuse if self._deposits_only(path) else copy)

    async def resume(self, path: VirtualPath, visitor: Visitor) -> None:
        """Open the broken upload at `path` again, if it is one still; the path is held."""
        book = self._book
        pointer = book.tree.stat(path).pointer
        if pointer is None or pointer.state != "partial":
            return  # it changed meanwhile: the caller looks again
        taken = book.parts.spool.partial_bytes(pointer.paper)
        file = await book.parts.copying.run(book.client, lambda: self._reopen(path, pointer, visitor))
        if file is None:  # nothing is left of it in the spool: the name starts anew
            file = self._named_file(path)
            book.quota.book(-pointer.size, 0, -taken)
            hold = book.quota.hold()
        else:
            try:
                hold = book.quota.adopt(shown=pointer.size, size=file.size, booked=taken)
            except BaseException:
                file.close()  # else it would stay locked
                raise
        book.enter(Draft(file.paper, path, file, visitor, hold, own_name=True))

    def _reopen(self, path: VirtualPath, pointer: Pointer, visitor: Visitor) -> SpoolFile | None:
        spool = self._book.parts.spool
        try:
            return spool.reopen(pointer.paper, self._book.parts.archive.partial_key(pointer.paper, visitor))
        except (KeyGone, SpoolGone):
            return None
        except SpoolTorn:  # the client has to look again, and must then see what is there
            self._book.tree.put(path, Pointer(pointer.paper, spool.prefix_size(pointer.paper), "partial"), mtime=None, durable=False)
            raise

    def _deposits_only(self, path: VirtualPath) -> bool:
        """Whether what lies at `path` is never read back: the client's own papers, where the firm holds no key to them."""
        return self._book.deposit_only and path.folder == INBOX

    def forget_partial(self, paper: str) -> None:
        """Remove a broken upload that has lost its name. Not done: it expires."""
        try:
            taken = self._book.parts.spool.partial_bytes(paper)
            self._book.parts.spool.remove_partial(paper)
        except NightsafeError as error:
            log.warning("partial.not_removed", paper=paper, error=error.message)
        else:
            self._book.quota.book(0, 0, -taken)


def is_broken_upload(entry: Entry) -> bool:
    """Whether what is at a name was never whole, so that it may go on or be dropped."""
    return entry.pointer is not None and entry.pointer.state == "partial"


def _check_exclusive(flags: int) -> None:
    if flags & OpenFlag.EXCLUSIVE and flags & OpenFlag.CREATE:
        raise Refused("exists", "the name is taken already")
