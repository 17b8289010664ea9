"""Spool: the two folders in which papers arrive. `partial` holds what is being written or was broken off, `landed` what waits for ingest.

Every file that is open for writing is held by kernel locks, so that what a dead process left behind is told from what is alive. Several
processes may have one partial open at once (see `sharing`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType

from config.files import FILE_MODE, make_folder
from gateway.age import Identity, Recipient
from gateway.store import locks
from gateway.store.arrival import Arrival
from gateway.store.blocks import PaperCipher
from gateway.store.buffers import Buffers
from gateway.store.entries import exists, has_nothing, open_file, papers_in, read_header, read_partial_header, same_file, translated, unlink
from gateway.store.errors import SpoolBusy, SpoolGone, SpoolTorn
from gateway.store.file import SpoolFile
from gateway.store.format import SpoolHeader
from gateway.store.ids import check_client, check_paper
from gateway.store.landed import LandedPaper
from gateway.store.paper_keys import NewKeys, Unwrapper
from gateway.store.registry import OpenFiles
from gateway.store.resume import check_header, resume
from gateway.store.scan import gap_free_prefix, read_trailer
from gateway.store.sharing import JOIN_SECONDS, Attendant, Sharing, become_sole, clear_record
from gateway.store.slots import SlotStore, write_at
from gateway.store.whole import seal_whole

__all__ = ["Arrival", "LandedPaper", "Spool", "SpoolFile"]

_PREFIXES = 1024  # remembered prefix sizes


class Spool:
    """Thread-safe. `recipient` is ingest's: the only one that new papers are sealed to."""

    def __init__(self, partial: Path, landed: Path, recipient: Recipient) -> None:
        """Makes the folders when they are missing."""
        make_folder(partial)
        make_folder(landed)
        self._keys = NewKeys(recipient)
        self._unwrapper = Unwrapper()
        self._buffers = Buffers()
        self._open = OpenFiles()
        self._attendant = Attendant(self._open.files, self._is_wanted, self._keys.forget_old)
        self._prefixes: dict[tuple[str, int, int], int] = {}
        self._partial = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._landed = os.open(landed, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            os.close(self._partial)
            raise

    def close(self) -> None:
        """Close the folders. Files that are open stay usable for reading and writing, but cannot be finished."""
        for descriptor in (self._partial, self._landed):
            if descriptor >= 0:
                os.close(descriptor)
        self._partial = self._landed = -1

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- writing

    def create(self, paper: str, client: str) -> SpoolFile:
        """A new partial, open for writing; the shared one when this process has it open. One that a dead process left without anything in it
        is taken over. Raises SpoolBusy when the paper exists, SpoolFull."""
        check_paper(paper)
        check_client(client)
        with translated("opening a paper"):
            file = self._open.join_or_open(paper, lambda: self._create(paper, client))
        self._attendant.attend()
        return file

    def deposit(self, paper: str, client: str, content: bytes, arrival: Arrival) -> SpoolFile:
        """A new paper of at most `whole.MOST` bytes, all at once: the same as `create`, `write` and `finish`. Raises SpoolBusy when the paper exists,
        SpoolFull, StoreFailed; nothing is left of it then."""
        check_paper(paper)
        check_client(client)
        with translated("finishing a paper"):
            file = self._deposit(paper, client, content, arrival)
        self._open.add(file)
        self._attendant.attend()
        return file

    def reopen(self, paper: str, file_key: bytes) -> SpoolFile:
        """A partial, open for writing again; the shared one when this process has it open, or beside other processes that have.

        When nobody has it open, everything in its gap-free prefix is opened once, and what lies beyond is dropped. A footer stays until the
        first change. Raises SpoolGone (also for a partial that has not even its header yet), SpoolBusy when another process has it open and
        does not answer for seconds, SpoolDamaged when key and file do not match, and SpoolTorn when the prefix turned out shorter than
        `prefix_size` had said: it has been cut back, ask for the size again.
        """
        check_paper(paper)
        with translated("opening a paper"):
            file = self._open.join_or_open(paper, lambda: self._reopen(paper, file_key))
        self._attendant.attend()
        return file

    def opened(self, paper: str) -> SpoolFile | None:
        """One more handle on a paper that this process has open; None when it has not. No key is needed."""
        return self._open.join(paper)

    def land(self, paper: str) -> None:
        """Move a finished partial to the landed ones. Does nothing more when it has landed already.

        Not synced: a finished paper that a crash leaves among the partials lands at the next start, and ingest knows a paper that comes again.

        Raises SpoolGone, and SpoolBusy while it is unfinished, being written, or another process's.
        """
        held = self.opened(check_paper(paper))
        if held is not None:
            try:
                self.land_open(held)
            finally:
                held.close()
            return
        with translated("landing a paper"):
            if exists(self._partial, paper) or not exists(self._landed, paper):
                self._land_left_behind(paper)

    def land_open(self, file: SpoolFile) -> None:
        """The same for a paper that the caller has open."""
        file.land(lambda: self._move(file.paper))

    # --- looking

    def describe(self, paper: str) -> tuple[str, SpoolHeader]:
        """("partial" or "landed", what the header page says). Nothing of it is proven before a key opened the paper. Raises SpoolGone,
        SpoolDamaged."""
        for state, folder, read in (("partial", self._partial, read_partial_header), ("landed", self._landed, read_header)):
            with translated("reading a paper"):
                descriptor = open_file(folder, check_paper(paper), os.O_RDONLY)
                if descriptor is None:
                    continue
                try:
                    return state, read(paper, descriptor)
                finally:
                    os.close(descriptor)
        raise SpoolGone("the spool does not have this paper")

    def header(self, paper: str) -> tuple[str, bytes]:
        """("partial" or "landed", the age header). Raises SpoolGone, SpoolDamaged."""
        state, header = self.describe(paper)
        return state, header.age_header

    def prefix_size(self, paper: str) -> int:
        """Bytes of the gap-free prefix of a partial, told from the heads of its slots without a key; of a finished one its size. Raises
        SpoolGone."""
        with translated("reading a paper"):
            descriptor = open_file(self._partial, check_paper(paper), os.O_RDONLY)
            if descriptor is None:
                raise SpoolGone("the spool does not have this partial")
            try:
                state = os.fstat(descriptor)
                trailer = read_trailer(descriptor, state.st_size)
                if trailer is not None:
                    return trailer.size
                return self._prefix(descriptor, (paper, state.st_mtime_ns, state.st_size))
            finally:
                os.close(descriptor)

    def partial_bytes(self, paper: str) -> int:
        """What a partial takes on the disk, gaps and what lies behind them included; 0 when there is none."""
        try:
            return os.stat(check_paper(paper), dir_fd=self._partial, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0

    def finished_unlanded(self) -> list[str]:
        """Finished partials that no living process holds: their writer died before they landed. Oldest first."""
        return [paper for paper, descriptor in self._unheld() if read_trailer(descriptor, os.fstat(descriptor).st_size) is not None]

    def stale(self, older_than: datetime) -> list[str]:
        """Unfinished partials that nobody holds and nobody wrote since `older_than`. Oldest first."""
        limit = older_than.timestamp()
        found = []
        for paper, descriptor in self._unheld():
            state = os.fstat(descriptor)
            if state.st_mtime < limit and read_trailer(descriptor, state.st_size) is None:
                found.append(paper)
        return found

    def papers(self) -> list[str]:
        """Ids of all papers, partial and landed. One that lands meanwhile is among them."""
        with translated("listing the spool"):
            return sorted({*papers_in(self._partial), *papers_in(self._landed)})

    def landed_papers(self) -> list[str]:
        """Landed papers, oldest first."""
        with translated("listing the spool"):
            return papers_in(self._landed)

    def open_landed(self, paper: str, *, identities: Sequence[Identity] | None = None, file_key: bytes | None = None) -> LandedPaper:
        """A landed paper, verified against its footer. One of `identities` and `file_key` opens it. Raises SpoolGone, SpoolDamaged, and
        AgeError when none of the identities does."""
        with translated("reading a paper"):
            descriptor = open_file(self._landed, check_paper(paper), os.O_RDONLY)
            if descriptor is None:
                raise SpoolGone("the spool does not have this landed paper")
            try:
                if file_key is None:
                    file_key = self._unwrapper.file_key(read_header(paper, descriptor), identities or ())
                cipher = PaperCipher(paper, file_key)
            except BaseException:
                os.close(descriptor)
                raise
        return LandedPaper(descriptor, cipher)

    # --- removing

    def remove_partial(self, paper: str) -> None:
        """Remove a partial; nothing when there is none. One that this process has open is discarded. Raises SpoolBusy for another process's."""
        held = self.opened(check_paper(paper))
        if held is not None:
            try:
                held.discard()
            finally:
                held.close()
            return
        with translated("removing a paper"):
            descriptor = open_file(self._partial, paper, os.O_RDONLY)
            if descriptor is None:
                return
            try:
                if locks.is_held(descriptor):
                    raise _busy()
                self.unlink_partial(paper)
            finally:
                os.close(descriptor)

    def remove_landed(self, paper: str) -> None:
        """Remove a landed paper, once the vault has it; nothing when there is none."""
        with translated("removing a paper"):
            unlink(self._landed, check_paper(paper))

    # --- for SpoolFile

    def release(self, file: SpoolFile) -> bool:
        """Take one handle of `file` back; True when it was the last: the file is then to be closed, and others wait until it is."""
        return self._open.leave(file)

    def closed(self, file: SpoolFile) -> None:
        """`file` has been closed."""
        self._open.closed(file)

    def sync_partial(self) -> None:
        """Make the entries of the folder of partials durable."""
        with translated("making a paper durable"):
            os.fsync(self._partial)

    def is_partial(self, paper: str, descriptor: int) -> bool:
        """Whether this open file is the partial of that name."""
        return same_file(self._partial, paper, descriptor)

    def unlink_partial(self, paper: str) -> None:
        """Remove the file of a partial."""
        with translated("removing a paper"):
            unlink(self._partial, paper)

    # --- inside

    def _create(self, paper: str, client: str) -> SpoolFile:
        key = self._keys.make(paper, client)
        cipher = PaperCipher(paper, key.file_key)
        page = cipher.header_page(key.header)
        descriptor = self._new_file(paper)
        store = SlotStore(descriptor, cipher, self._buffers, new_page=page)
        return SpoolFile(self, paper, client, descriptor, cipher, store, self._buffers)

    def _deposit(self, paper: str, client: str, content: bytes, arrival: Arrival) -> SpoolFile:
        key = self._keys.make(paper, client)
        cipher = PaperCipher(paper, key.file_key)
        out = self._buffers.take()
        try:
            parts, end = seal_whole(cipher, cipher.header_page(key.header), content, arrival, out)
            descriptor = self._new_file(paper)
            try:
                write_at(descriptor, 0, parts)
                os.fsync(descriptor)
                os.fsync(self._partial)
            except BaseException:
                with suppress(OSError):  # the first error is the one to report
                    unlink(self._partial, paper)
                os.close(descriptor)
                raise
        finally:
            self._buffers.give(out)
        store = SlotStore(descriptor, cipher, self._buffers, end=end)
        file = SpoolFile(self, paper, client, descriptor, cipher, store, self._buffers, len(content))
        file.was_deposited()
        return file

    def _new_file(self, paper: str) -> int:
        """A held descriptor of an empty file."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(paper, flags | os.O_CREAT | os.O_EXCL, FILE_MODE, dir_fd=self._partial)
            fresh = True
        except FileExistsError:
            descriptor = os.open(paper, flags, dir_fd=self._partial)
            fresh = False
        try:
            if not (fresh or locks.hold(descriptor)):
                raise _busy()
            if not fresh and not (has_nothing(descriptor) and same_file(self._partial, paper, descriptor)):
                raise SpoolBusy("this paper exists already")
            if not (become_sole(descriptor, self._partial) and locks.share(descriptor)):
                raise _busy()
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _reopen(self, paper: str, file_key: bytes) -> SpoolFile:
        descriptor = open_file(self._partial, paper, os.O_RDWR)
        if descriptor is None:
            raise SpoolGone("the spool does not have this partial")
        try:
            if not locks.share_within(descriptor, JOIN_SECONDS) or not become_sole(descriptor, self._partial):
                raise _busy()
            cipher = PaperCipher(paper, file_key)
            sharing = Sharing(descriptor, cipher)
            sharing.take_turn()
            try:
                return self._take_up(paper, descriptor, cipher, sharing)
            finally:
                sharing.give_turn()
        except BaseException:
            os.close(descriptor)
            raise

    def _take_up(self, paper: str, descriptor: int, cipher: PaperCipher, sharing: Sharing) -> SpoolFile:
        """Nobody keeps anything of the file in memory, and it is our turn. Either others have it open, or it is left to us alone."""
        if not same_file(self._partial, paper, descriptor):
            raise SpoolGone("the spool has this partial no longer")
        header = read_partial_header(paper, descriptor)
        if locks.is_held(descriptor) and sharing.changed() and sharing.record() is not None:
            sharing.forget()
            check_header(descriptor, cipher)
            file = SpoolFile(self, paper, header.client, descriptor, cipher, SlotStore(descriptor, cipher, self._buffers), self._buffers)
            file.join(sharing)
            locks.release(descriptor, locks.SOLE)
            return file
        found = resume(descriptor, cipher, self._buffers)
        clear_record(descriptor)
        file = SpoolFile(self, paper, header.client, descriptor, cipher, found.store, self._buffers, found.size)
        if found.finished:
            file.assume_finished()
        else:
            file.drop_beyond()
        if found.torn:
            raise SpoolTorn("the end of this partial was torn and has been cut off", "look at its size again and go on from there")
        return file

    def _land_left_behind(self, paper: str) -> None:
        """Land a finished partial that no process holds."""
        descriptor = open_file(self._partial, paper, os.O_RDWR)
        if descriptor is None:
            raise SpoolGone("the spool does not have this partial")
        try:
            if not locks.hold(descriptor):
                raise _busy()
            if not same_file(self._partial, paper, descriptor):
                return  # someone else was faster
            if read_trailer(descriptor, os.fstat(descriptor).st_size) is None:
                raise SpoolBusy("this paper is unfinished", "it can be resumed, or removed")
            clear_record(descriptor)
            os.fsync(descriptor)  # its writer may have died before
            self._move(paper)
        finally:
            os.close(descriptor)

    def _move(self, paper: str) -> None:
        with translated("landing a paper"):
            try:
                os.rename(paper, paper, src_dir_fd=self._partial, dst_dir_fd=self._landed)
            except FileNotFoundError:
                if not exists(self._landed, paper):
                    raise SpoolGone("the spool has this paper no longer") from None

    def _is_wanted(self) -> bool:
        """Whether another process waits for a partial."""
        try:
            return self._partial < 0 or locks.is_held(self._partial, locks.WANT)
        except OSError:
            return True  # closed just now: the files know

    def _prefix(self, descriptor: int, key: tuple[str, int, int]) -> int:
        known = self._prefixes.get(key)
        if known is None:
            known = gap_free_prefix(descriptor, key[2])
            if locks.is_held(descriptor):
                return known
            if len(self._prefixes) >= _PREFIXES:
                self._prefixes.clear()
            self._prefixes[key] = known
        return known

    def _unheld(self) -> Iterator[tuple[str, int]]:
        """Partials that nobody holds, with a descriptor that lives until the next one."""
        with translated("listing the spool"):
            names = papers_in(self._partial)
            for paper in names:
                descriptor = open_file(self._partial, paper, os.O_RDONLY)
                if descriptor is None:
                    continue
                try:
                    if not locks.is_held(descriptor):
                        yield paper, descriptor
                finally:
                    os.close(descriptor)


def _busy() -> SpoolBusy:
    return SpoolBusy("another process holds this partial", "try again when it has ended")
