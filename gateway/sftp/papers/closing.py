"""Closing what was written: whole and durable, broken off, dropped; and the landing that hands a paper to ingest.

Invariants kept here:
- CLOSE is answered with OK only after content (with footer), pointer and folders are on the disk.
- What was acknowledged is never discarded: it lands, whatever becomes of its name.
- A broken upload of a new name stays, to be resumed; one that would have replaced a paper is dropped.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import structlog

from config.errors import NightsafeError
from gateway.audit.events import Event
from gateway.jail import Pointer, Refused
from gateway.sftp.papers.book import Book
from gateway.sftp.papers.drafts import Draft, Stage, remove_file
from gateway.sftp.session.handles import WritingHandle
from gateway.sftp.session.visitor import Visitor
from gateway.store.arrival import Arrival

log = structlog.get_logger()

AT_ONCE_BYTES = 256 * 1024  # of a paper that is finished on the event loop: others wait meanwhile


class Closing:
    """For one client."""

    def __init__(self, book: Book) -> None:
        self._book = book

    async def close(self, handle: WritingHandle, *, clean: bool) -> None:
        """The handle is gone. `clean`: the client closed it; on return its bytes are durable, and published if this was the last handle.

        Raises Refused or another NightsafeError when the client must not believe that its paper is safe.
        """
        try:
            await self._close(handle, clean=clean)
        finally:
            if handle.read:
                self._record_reading(handle)

    async def _close(self, handle: WritingHandle, *, clean: bool) -> None:
        told_whole, clean = clean, clean and not (handle.failed or handle.is_overtaken)
        if handle.draft.sketch is not None:
            self._let_appear(handle)
        try:
            async with self._book.held(handle.draft):
                await self._close_held(handle, clean=clean)
        except BaseException:
            self._record(handle, clean=False)
            raise
        has_lost_name = clean and _has_lost_name(handle)
        if handle.written or clean:
            self._record(handle, clean=clean and not has_lost_name)
        if told_whole:
            check_not_overtaken(handle)
        if handle.failed:
            raise Refused("failure", "the paper is not whole: a write was refused before; upload it again")
        if has_lost_name:
            raise Refused("failure", "another session has removed or replaced this name meanwhile; upload the paper again")

    def close_at_once(self, handle: WritingHandle) -> bool:
        """The same for a handle that its client closed, without waiting: False, and nothing is done, when somebody is in the way or the disk is
        slow."""
        draft, cost = handle.draft, self._book.parts.sync_cost
        if not (cost.is_low and self._ends_cleanly(handle, draft)):
            return False
        began = time.monotonic()
        draft.writers -= 1
        draft.clean_tick = max(draft.clean_tick, handle.opened_tick)
        draft.visitor = handle.visitor
        try:
            self._write_whole(draft)
        except BaseException:
            draft.lost_tick = self._book.tick()
            self._break_off_at_once(draft)
            self._record(handle, clean=False)
            raise
        finally:
            cost.took(time.monotonic() - began)
        self._is_finished(draft)
        self._record(handle, clean=True)
        return True

    def _let_appear(self, handle: WritingHandle) -> None:
        """The paper is not closed as a sketch: make a partial of it. Raises what that does; nothing is left of the paper then."""
        draft = handle.draft
        try:
            self._book.sketches.appear_now(draft)
        except BaseException:
            draft.writers -= 1
            self._give_up(draft)
            self._record(handle, clean=False)
            raise

    def _give_up(self, draft: Draft) -> None:
        """Forget a paper that was never on the disk, and its name."""
        self._book.sketches.forget(draft)
        self._book.leave(draft, Stage.GONE)
        draft.hold.end(0)
        self._book.remove_name(draft.path)

    def _ends_cleanly(self, handle: WritingHandle, draft: Draft) -> bool:
        """Whether the draft is whole with this handle's end, small, and nobody else's at this moment."""
        return (
            draft.stage is Stage.OPEN
            and draft.writers == 1
            and draft.base is None
            and not (handle.failed or handle.read or handle.is_overtaken or draft.name_removed or draft.content.locked())
            and (draft.sketch is not None or not draft.file.is_shared)
            and max(draft.clean_tick, handle.opened_tick) > draft.lost_tick
            and draft.received <= AT_ONCE_BYTES
            and self._book.turns.free(str(draft.path))
        )

    async def _close_held(self, handle: WritingHandle, *, clean: bool) -> None:
        draft = handle.draft
        if draft.stage is not Stage.OPEN:  # opened again and not changed
            self.left(draft)
            return
        draft.writers -= 1
        if clean:
            draft.clean_tick = max(draft.clean_tick, handle.opened_tick)
            draft.visitor = handle.visitor
        else:
            draft.lost_tick = max(draft.lost_tick, handle.last_tick)
        async with draft.content:
            if draft.writers:
                if clean:
                    await self._secure(draft)
            else:
                await self._end(draft)

    async def _end(self, draft: Draft) -> None:
        """Nobody writes any more."""
        if draft.name_removed and not (draft.vouched and draft.is_whole):
            if not draft.readers:
                await self.drop(draft)
        elif draft.is_whole or draft.file.finished:  # a finished file: continued, but not changed
            await self._finish(draft)
            if draft.name_removed:
                await self._land_nameless(draft)
        elif not draft.readers:
            await self.break_off(draft)

    def _record(self, handle: WritingHandle, *, clean: bool) -> None:
        draft = handle.draft
        seconds = round(time.monotonic() - handle.opened_at, 3)
        self._book.parts.recorder.record(
            Event.PAPER_DEPOSITED if clean else Event.PAPER_BROKEN_OFF,
            handle.visitor,
            path=str(draft.path),
            paper=draft.paper,
            bytes=handle.written,
            size=draft.received,
            state=draft.stage.value,
            seconds=seconds,
            **({} if draft.own_name else {"replaces": True}),
        )

    def _record_reading(self, handle: WritingHandle) -> None:
        """Whoever opens a paper for both and writes nothing has read it like anybody else."""
        seconds = round(time.monotonic() - handle.opened_at, 3)
        path = str(handle.draft.path)
        self._book.parts.recorder.record(Event.PAPER_READ, handle.visitor, path=path, paper=handle.read_from, bytes=handle.read, seconds=seconds)

    async def _secure(self, draft: Draft) -> None:
        """Others write still: what is there is durable, as a partial under its name."""
        book, path, modified = self._book, draft.path, draft.modified_at

        def work() -> None:
            draft.file.sync()
            if draft.own_name and not draft.name_removed:
                book.tree.put(path, Pointer(draft.paper, draft.file.prefix, "partial"), mtime=modified, durable=True)

        await book.parts.pool.run(work)
        if not draft.name_removed:
            draft.vouched = True
        if draft.own_name and not draft.name_removed:
            draft.hold.shows(draft.file.prefix)

    async def _finish(self, draft: Draft) -> None:
        """Make the draft whole and durable, then let its name point at it, durably."""
        try:
            await self.fill(draft)
            await self._book.parts.pool.run(lambda: self._write_whole(draft))
        except BaseException:
            draft.lost_tick = self._book.tick()
            await self.break_off(draft)
            raise
        self._is_finished(draft)

    def _write_whole(self, draft: Draft) -> None:
        """Blocking."""
        if draft.sketch is not None:
            self._book.sketches.finish(draft, _arrival(draft, draft.visitor))
            return
        draft.file.finish(_arrival(draft, draft.visitor))
        if draft.name_removed:  # it was acknowledged before: it lands without a name
            return
        self._book.tree.put(draft.path, Pointer(draft.paper, draft.file.size, "whole"), mtime=draft.modified_at, durable=True)

    def _is_finished(self, draft: Draft) -> None:
        draft.stage = Stage.FINISHED
        if not draft.name_removed:
            draft.own_name = True
            draft.hold.shows(draft.file.size)
        self.settle(draft)

    async def fill(self, draft: Draft) -> None:
        """Copy what the base still owes; `content` is held. Raises Refused when there is no room for it, KeydUnavailable, KeyRefused."""
        if draft.base is not None:
            space = self._book.parts.space
            space.check_growth(draft.base.size - draft.file.size, 0)
            await self._book.parts.copying.run(self._book.client, lambda: draft.fill(space.check))

    async def end_unwritten(self, draft: Draft) -> None:
        """The last reader of a draft that nobody writes has left; the path is held."""
        async with draft.content:
            await self._end(draft)

    async def break_off(self, draft: Draft) -> None:
        """Nothing more comes: keep it for resuming when it has a name of its own."""
        if not draft.own_name:
            await self.drop(draft)
            return
        try:
            draft.hold.shows(await self._book.parts.pool.run(lambda: self._keep_partial(draft)))
        except NightsafeError as error:
            log.warning("partial.not_kept", paper=draft.paper, error=error.message)
        finally:
            self._is_broken_off(draft)

    def _break_off_at_once(self, draft: Draft) -> None:
        """The same, blocking."""
        try:
            if draft.sketch is not None:
                self._book.sketches.appear_now(draft)
        except NightsafeError as error:
            log.warning("partial.not_made", paper=draft.paper, error=error.message)
            self._give_up(draft)
            return
        try:
            if draft.own_name:
                draft.hold.shows(self._keep_partial(draft))
            else:
                remove_file(draft.file)
        except NightsafeError as error:
            log.warning("partial.not_kept", paper=draft.paper, error=error.message)
        finally:
            self._is_broken_off(draft)

    def _keep_partial(self, draft: Draft) -> int:
        """Blocking: close the file, and let its name show how much of it is there; that size."""
        draft.file.close()
        size = self._book.parts.spool.prefix_size(draft.paper)
        self._book.tree.put(draft.path, Pointer(draft.paper, size, "partial"), mtime=draft.modified_at, durable=False)
        return size

    def _is_broken_off(self, draft: Draft) -> None:
        draft.hold.end(self._book.parts.spool.partial_bytes(draft.paper))
        self._book.leave(draft, Stage.GONE)

    async def drop(self, draft: Draft) -> None:
        """Remove what nobody was promised."""
        self._book.leave(draft, Stage.GONE)
        draft.hold.end(0)
        await self._book.parts.pool.run(lambda: remove_file(draft.file))

    # landing

    def settle(self, draft: Draft) -> None:
        """Let a finished draft land once its name has been left alone for a while."""
        draft.stop_settling()
        if not draft.writers:
            wait = 0.0 if self._book.is_crowded else self._book.parts.settle(draft.path)
            draft.settling = self._book.parts.after(wait, draft, self._book)

    def left(self, draft: Draft) -> None:
        """A handle that changed nothing has left a finished (or landed) draft."""
        draft.writers -= 1
        if draft.stage is Stage.FINISHED:
            self.settle(draft)
        elif draft.stage is Stage.LANDED and not draft.writers and not draft.readers:
            draft.file.close()

    async def land(self, draft: Draft) -> None:
        """Hand a finished draft to ingest, unless it was opened again."""
        async with self._book.held(draft):
            if not draft.writers:
                await self.land_held(draft)

    async def land_held(self, draft: Draft) -> None:
        """The same, whoever has it open; its path, or every name, is held."""
        if draft.stage is not Stage.FINISHED:
            return
        draft.stop_settling()
        async with draft.content:
            await self._book.parts.pool.run(lambda: self._book.parts.spool.land(draft.paper))
        self._has_landed(draft)

    async def _land_nameless(self, draft: Draft) -> None:
        """Its name is gone, so there is nothing to wait for. What fails is tried again when it has settled."""
        try:
            await self._book.parts.pool.run(lambda: self._book.parts.spool.land(draft.paper))
        except NightsafeError as error:
            log.warning("paper.not_landed", paper=draft.paper, error=error.message)
        else:
            self._has_landed(draft)

    def land_at_once(self, draft: Draft) -> bool:
        """The same without waiting: False, and nothing is done, when somebody is in the way. A rename that nobody waits for is not synced, so it
        costs less than asking a thread for it."""
        if not self._book.turns.free(str(draft.path)) or draft.content.locked() or draft.file.is_shared:
            return False
        if draft.stage is Stage.FINISHED and not draft.writers:
            self._book.parts.spool.land_open(draft.file)
            self._has_landed(draft)
        return True

    def _has_landed(self, draft: Draft) -> None:
        book = self._book
        book.leave(draft, Stage.LANDED)
        draft.hold.end(draft.file.size)
        if not draft.writers and not draft.readers:
            draft.file.close()
        book.parts.recorder.record(Event.PAPER_LANDED, draft.visitor, path=str(draft.path), paper=draft.paper, size=draft.file.size)


def check_not_overtaken(handle: WritingHandle) -> None:
    """Raise Refused when another session goes on with the upload, alone."""
    if handle.is_overtaken:
        raise Refused("failure", "another session has gone on with this upload; upload your paper under another name")


def _has_lost_name(handle: WritingHandle) -> bool:
    """Whether the paper was dropped because somebody else took its name, whom its client knows nothing of."""
    draft = handle.draft
    return draft.name_removed and draft.stage in (Stage.OPEN, Stage.GONE) and draft.name_taken_by != handle.visitor.session


def _arrival(draft: Draft, visitor: Visitor) -> Arrival:
    return Arrival(
        paper=draft.paper,
        client=visitor.client,
        person=visitor.person,
        path=str(draft.path),
        received_at=datetime.now(UTC),
        modified_at=None if draft.modified_at is None else datetime.fromtimestamp(draft.modified_at, UTC),
        session=visitor.session,
        address=visitor.address,
        software=visitor.software,
    )
