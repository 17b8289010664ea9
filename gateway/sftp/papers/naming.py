"""Names: looking at them, renaming, removing. Papers being written follow their names."""

from __future__ import annotations

from gateway.jail import Entry, Pointer, VirtualPath
from gateway.sftp.papers.book import Book
from gateway.sftp.papers.closing import Closing
from gateway.sftp.papers.drafts import Draft, Stage
from gateway.sftp.papers.opening import Guard, Opening, is_broken_upload
from gateway.sftp.session.handles import HandleTable


class Naming:
    """For one client."""

    def __init__(self, book: Book, opening: Opening, closing: Closing) -> None:
        self._book = book
        self._opening = opening
        self._closing = closing

    def stat(self, path: VirtualPath, handles: HandleTable) -> Entry:
        """The entry at `path`, as the session with these `handles` is to see it."""
        return self.shown(path, self._book.tree.stat(path), handles)

    def shown(self, path: VirtualPath, entry: Entry, handles: HandleTable) -> Entry:
        """`entry`, with the size that its paper has at this moment.

        A session that writes the paper sees what it wrote, as on any file system: sshfs and the like ask by name what they wrote by handle.
        Everybody else sees the older paper until the new one is whole; of a new name what is there from its start without a gap.
        """
        pointer, draft = entry.pointer, self._book.drafts.get(path)
        if draft is None or pointer is None:
            return entry  # a broken upload, too: its pointer was given the size when it broke off, or at the start
        if draft.stage is Stage.OPEN and handles.writes(draft):
            return Entry(entry.name, entry.kind, draft.size, draft.mtime, pointer)
        if pointer.state == "whole" or draft.paper != pointer.paper:
            return entry
        return Entry(entry.name, entry.kind, draft.resumable, draft.mtime, pointer)

    async def rename(self, source: VirtualPath, target: VirtualPath, *, replace: bool, session: str = "", guard: Guard | None = None) -> None:
        """Give another name. What loses its name by that lands when it was acknowledged, and is dropped when it was not; with a `guard` nothing
        that is whole does."""
        book = self._book
        async with book.turns.all():
            book.sketches.appear()
            if source == target:
                book.tree.stat(source)
                return
            if source.parent != target.parent:
                await self._learn(target)
                book.crowding.check(target)
            victim = book.drafts.get(target)
            if guard and replace:
                there = book.tree.look(target)
                if there is not None and (not is_broken_upload(there) or (victim is not None and victim.vouched)):
                    guard()
            if victim is not None and replace:
                await self._closing.land_held(victim)
            replaced = await book.parts.pool.run(lambda: book.tree.rename(source, target, replace))
            if replaced is not None:
                book.remove_name(target, replaced)
            book.crowding.moved(source, target)
            self._lose_name(book.drafts.pop(target, None), session)
            self._follow(source, target)
            self._forget(replaced, victim)

    async def remove(self, path: VirtualPath, session: str = "") -> None:
        """Remove a name. The paper stays when it was acknowledged."""
        book = self._book
        async with book.turns.all():
            book.sketches.appear()
            draft = book.drafts.get(path)
            if draft is not None:
                await self._closing.land_held(draft)
            pointer = await book.parts.pool.run(lambda: book.tree.remove(path))
            book.remove_name(path, pointer)
            self._lose_name(draft, session)
            book.drafts.pop(path, None)
            self._forget(pointer, draft)

    async def make_folder(self, path: VirtualPath) -> None:
        """Make a folder, durably."""
        book = self._book
        if not book.quota.ready:
            await book.count_room()
        async with book.turns.path(str(path)):  # a rename measures what it carries to a longer path: nothing is added meanwhile
            await self._learn(path)
            book.add_name(path)
            try:
                await book.parts.pool.run(lambda: book.tree.make_folder(path))
            except BaseException:
                book.remove_name(path)
                raise

    async def remove_folder(self, path: VirtualPath) -> None:
        """Remove an empty folder."""
        book = self._book
        async with book.turns.path(str(path)):
            await book.parts.pool.run(lambda: book.tree.remove_folder(path))
            book.remove_name(path)

    async def _learn(self, path: VirtualPath) -> None:
        """Let it be known how many names are beside `path`."""
        if not self._book.crowding.is_known(path):
            await self._book.parts.pool.run(lambda: self._book.crowding.learn(path))

    def _forget(self, pointer: Pointer | None, draft: Draft | None) -> None:
        """A broken upload has lost its name, and no handle holds it."""
        if pointer is not None and pointer.state == "partial" and (draft is None or draft.paper != pointer.paper):
            self._opening.forget_partial(pointer.paper)

    def _follow(self, source: VirtualPath, target: VirtualPath) -> None:
        """Drafts at or below `source` are at or below `target` now."""
        drafts = self._book.drafts
        for draft in list(drafts.values()):
            if draft.path.is_within(source):
                del drafts[draft.path]
                draft.path = VirtualPath(target.parts + draft.path.parts[len(source.parts) :])
                drafts[draft.path] = draft
                if draft.stage is Stage.FINISHED:
                    self._closing.settle(draft)

    def _lose_name(self, draft: Draft | None, session: str) -> None:
        if draft is not None:
            draft.name_removed, draft.name_taken_by = True, session
            draft.hold.lose_name()

    async def set_times(self, path: VirtualPath, atime: float, mtime: float) -> None:
        """Set times by path; a draft takes them along to its pointer."""
        book = self._book
        async with book.turns.path(str(path)):
            book.tree.set_times(path, atime, mtime)
            draft = book.drafts.get(path)
            if draft is not None:
                draft.modified_at = mtime

    async def expire(self, stale: set[str]) -> int:
        """Remove broken uploads that nobody took up again, and their names; how many."""
        book = self._book
        async with book.turns.all():
            book.sketches.appear()
            gone = stale - {draft.paper for draft in book.drafts.values()}
            await book.parts.pool.run(lambda: self._remove_partials(gone))
            return len(gone)

    def _remove_partials(self, papers: set[str]) -> None:
        for path, pointer, _ in list(self._book.tree.pointers()):
            if pointer.paper in papers and pointer.state == "partial":
                self._book.remove_name(path, self._book.tree.remove(path))
        for paper in papers:
            self._opening.forget_partial(paper)
