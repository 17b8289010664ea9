"""One client's jail on the disk: folders and pointers below /inbox and /outbox, plain files below /receipts.

Only the jail's root and its hidden temporary folder stay open. A folder is walked to anew for each request, one descriptor a component: to
remember the last one would need a check that it still hangs where it did, which costs what the walk costs (some 3 µs a component).

The tree knows what fits where; who may do what is `permissions`. Every error is Refused, with a text for the client. One Tree may be
used by several threads, and several processes may work on one jail.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from config.files import FOLDER_MODE
from config.files import make_folder as make_host_folder
from gateway.jail.descriptors import (
    FOLDER_FLAGS,
    create_file,
    open_any,
    open_folder,
    open_regular,
    scan,
    walk,
)
from gateway.jail.entries import Entry, Listing, entries, folder_entry, read_entry, read_pointer, read_pointer_at, top_entries
from gateway.jail.moving import check_below_top, check_rename, move
from gateway.jail.paths import INBOX, MAX_DEPTH, OUTBOX, RECEIPTS, ROOT, TOP_FOLDERS, VirtualPath, path_of
from gateway.jail.pointers import Pointer
from gateway.jail.refused import Refused, Translated

TEMPORARY = ".tmp"  # in the jail's root, where no client can look: the root shows its three folders only
_LAST_TIME = 2**32 - 1  # seconds: what SFTP v3 can say
translated = Translated()


class Tree:
    """The jail at `root` (a path of the host, made by `create`)."""

    def __init__(self, root: Path) -> None:
        try:
            self._root = os.open(root, FOLDER_FLAGS)
            try:
                self._temporary = _temporary(self._root)
            except BaseException:
                os.close(self._root)
                raise
        except OSError as error:
            raise Refused("failure", "your folders are not available at the moment") from error
        self._open = True

    @classmethod
    def create(cls, root: Path) -> Tree:
        """Make what is missing of a jail, durably, and open it."""
        with translated:
            for name in (*TOP_FOLDERS, TEMPORARY):
                make_host_folder(root / name)
        return cls(root)

    def close(self) -> None:
        """Give the descriptors back, once no request is under way; idempotent."""
        if self._open:
            self._open = False
            descriptors = self._temporary, self._root
            self._temporary = self._root = -1  # a request that comes too late fails; it must not meet a number that was given out anew
            for descriptor in descriptors:
                os.close(descriptor)

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # looking

    def stat(self, path: VirtualPath) -> Entry:
        """The entry at `path`."""
        if path.is_root:
            with translated:
                return folder_entry("", os.fstat(self._root))
        with translated:
            parent = self._parent(path)
            try:
                return read_entry(parent, path.name, plain=path.folder == RECEIPTS)
            finally:
                os.close(parent)

    def look(self, path: VirtualPath) -> Entry | None:
        """The same, below the root; None where the folder is there and the name is not."""
        with translated:
            parent = self._parent(path)
            try:
                return read_entry(parent, path.name, plain=path.folder == RECEIPTS)
            except FileNotFoundError:
                return None
            finally:
                os.close(parent)

    def list(self, path: VirtualPath) -> Listing:
        """The entries of a folder in no particular order; names that appear or go meanwhile may or may not be among them."""
        with translated:
            folder = self._walk(path)
        if path.is_root:
            return Listing(folder, top_entries(folder))
        return Listing(folder, entries(folder, plain=path.folder == RECEIPTS))

    def find(self, paper: str, hint: VirtualPath | None = None) -> VirtualPath | None:
        """Where a name for `paper` is; None when no name is left. `hint` is looked at first: without a hit there the whole jail is read."""
        if hint is not None:
            with suppress(Refused):
                pointer = self.stat(hint).pointer
                if pointer is not None and pointer.paper == paper:
                    return hint
        for path, pointer, _ in self.pointers():
            if pointer.paper == paper:
                return path
        return None

    def pointers(self, folder: VirtualPath | str = "/") -> Iterator[tuple[VirtualPath, Pointer, float]]:
        """(path, pointer, mtime) of every whole or partial paper's name below `folder`; damaged ones are left out."""
        start = folder if isinstance(folder, VirtualPath) else path_of(folder)
        tops = [ROOT.child(INBOX), ROOT.child(OUTBOX)] if start.is_root else [start]
        for top in tops:
            if top.folder == RECEIPTS:
                raise Refused("failure", "receipts are no papers")
            yield from self._pointers_below(top)

    def usage(self) -> tuple[int, int]:
        """(plaintext bytes, names) below /inbox and /outbox; folders are names, too."""
        size = count = 0
        for top in (INBOX, OUTBOX):
            with translated:
                start = self._walk(ROOT.child(top))
            try:
                for found in walk(start, MAX_DEPTH):
                    count += 1
                    with suppress(OSError):
                        pointer = None if found.is_folder else read_pointer_at(found.parent, found.name)
                        size += pointer.size if pointer else 0
            finally:
                os.close(start)
        return size, count

    def count(self, folder: VirtualPath) -> int:
        """How many names there are in a folder, whatever they stand for."""
        with translated:
            descriptor = self._walk(folder)
            try:
                return sum(1 for _ in scan(descriptor))
            finally:
                os.close(descriptor)

    def open_plain(self, path: VirtualPath) -> int:
        """A descriptor for reading a receipt; the caller closes it."""
        if path.folder != RECEIPTS or len(path.parts) < 2:
            raise Refused("failure", "this is no receipt")
        with translated:
            parent = self._parent(path)
            try:
                return open_regular(parent, path.name.encode())[0]
            finally:
                os.close(parent)

    # changing

    def make_folder(self, path: VirtualPath) -> None:
        """Make a folder, durably. Refused("exists") when the name is taken."""
        check_below_top(path)
        with translated:
            parent = self._parent(path)
            try:
                os.mkdir(path.name.encode(), FOLDER_MODE, dir_fd=parent)
                os.fsync(parent)
            finally:
                os.close(parent)

    def remove_folder(self, path: VirtualPath) -> None:
        """Remove an empty folder. Refused("not_empty")."""
        check_below_top(path)
        with translated:
            parent = self._parent(path)
            try:
                os.rmdir(path.name.encode(), dir_fd=parent)
            finally:
                os.close(parent)

    def remove(self, path: VirtualPath) -> Pointer | None:
        """Remove a name; the paper stays. The pointer that it held (None: damaged, or a receipt)."""
        check_below_top(path)
        name = path.name.encode()
        with translated:
            parent = self._parent(path)
            try:
                pointer = read_pointer_at(parent, name)
                os.unlink(name, dir_fd=parent)
            finally:
                os.close(parent)
        return pointer if path.folder != RECEIPTS else None

    def rename(self, source: VirtualPath, target: VirtualPath, replace: bool) -> Pointer | None:
        """Give a paper or a folder another name, durably. With `replace` an existing paper's name (or empty folder) gives way, and what it pointed
        at is returned; without, Refused("exists"). Nothing moves into or out of /receipts, and no folder into itself.
        """
        check_rename(source, target)
        with translated:
            source_parent = self._parent(source)
            try:
                target_parent = self._parent(target)
                try:
                    replaced = move(source_parent, source, target_parent, target, replace)
                    os.fsync(target_parent)
                    if source.parent != target.parent:
                        os.fsync(source_parent)
                finally:
                    os.close(target_parent)
            finally:
                os.close(source_parent)
        return replaced

    def put(self, path: VirtualPath, pointer: Pointer, *, mtime: float | None, durable: bool) -> None:
        """Let the name `path` stand for `pointer`; it appears whole, in place of the name's older pointer. `mtime` None means now.

        `durable`: returns after fsync of the pointer and of its folder. Missing folders are not made: Refused("no_such_file").
        """
        check_below_top(path)
        if path.folder == RECEIPTS:
            raise Refused("failure", "receipts hold no papers")
        when = None if mtime is None else _time(mtime)
        with translated:
            parent = self._parent(path)
            try:
                self._place(parent, path.name.encode(), pointer.encode(), when, durable)
                if durable:
                    os.fsync(parent)
            finally:
                os.close(parent)

    def set_times(self, path: VirtualPath, atime: float, mtime: float) -> None:
        """Set the times (seconds since the epoch, 0 to 2³²-1) of a paper's name, a receipt or a folder."""
        times = (_time(atime), _time(mtime))
        if path.is_root:
            raise Refused("permission", "this folder is fixed")
        with translated:
            parent = self._parent(path)
            try:
                descriptor, _ = open_any(parent, path.name.encode())
            finally:
                os.close(parent)
            try:
                os.utime(descriptor, times)
            finally:
                os.close(descriptor)

    def write_plain(self, path: VirtualPath, data: bytes) -> None:
        """Write one receipt; see `write_plains`."""
        self.write_plains([(path, data)])

    def write_plains(self, files: Sequence[tuple[VirtualPath, bytes]], *, durable: bool = True) -> None:
        """Write files below /receipts, each whole and replacing an older one, missing folders made. With `durable` the files are synced, and each
        folder once for all; without, the caller syncs the disk."""
        folders: dict[tuple[str, ...], int] = {}
        with translated:
            try:
                for path, data in files:
                    if path.folder != RECEIPTS or len(path.parts) < 2:
                        raise Refused("failure", "this is no place for a receipt")
                    parts = path.parent.parts
                    if parts not in folders:
                        folders[parts] = self._make_way(parts)
                    self._place(folders[parts], path.name.encode(), data, None, durable)
                if durable:
                    for descriptor in folders.values():
                        os.fsync(descriptor)
            finally:
                for descriptor in folders.values():
                    os.close(descriptor)

    def sweep(self, older_than_seconds: float = 3600.0) -> int:
        """Remove what crashes left in the temporary folder; how many."""
        oldest = time.time() - older_than_seconds
        removed = 0
        with translated:
            folder = open_folder(self._temporary, ())
            try:
                for entry in scan(folder):
                    with suppress(OSError):
                        if entry.stat(follow_symlinks=False).st_mtime < oldest:
                            os.unlink(entry.name, dir_fd=folder)
                            removed += 1
            finally:
                os.close(folder)
        return removed

    # steps

    def _walk(self, path: VirtualPath) -> int:
        """A descriptor of the folder at `path`. Only the three folders of the root exist."""
        _check_top(path)
        return open_folder(self._root, path.parts)

    def _parent(self, path: VirtualPath) -> int:
        """A descriptor of the folder that holds `path`, which itself need not exist."""
        _check_top(path)
        return open_folder(self._root, path.parts[:-1])

    def _place(self, parent: int, name: bytes, data: bytes, mtime: float | None, durable: bool) -> None:
        temporary = os.urandom(8).hex().encode()
        create_file(self._temporary, temporary, data, mtime=mtime, durable=durable)
        try:
            os.rename(temporary, name, src_dir_fd=self._temporary, dst_dir_fd=parent)
        except BaseException:
            os.unlink(temporary, dir_fd=self._temporary)
            raise

    def _make_way(self, parts: tuple[str, ...]) -> int:
        """A descriptor of the folder at `parts`; what is missing of it is made, durably."""
        current = open_folder(self._root, ())
        for part in parts:
            try:
                with suppress(FileExistsError):
                    os.mkdir(part.encode(), FOLDER_MODE, dir_fd=current)
                    os.fsync(current)
                following = os.open(part.encode(), FOLDER_FLAGS, dir_fd=current)
            finally:
                os.close(current)
            current = following
        return current

    def _pointers_below(self, top: VirtualPath) -> Iterator[tuple[VirtualPath, Pointer, float]]:
        with translated:
            start = self._walk(top)
        try:
            for found in walk(start, MAX_DEPTH - len(top.parts)):
                if found.is_folder:
                    continue
                try:
                    path = VirtualPath(top.parts + found.parts)
                    pointer, state = read_pointer(found.parent, found.name)
                except (OSError, Refused):
                    continue  # gone meanwhile, or beyond what a path may be
                if pointer is not None:
                    yield path, pointer, state.st_mtime
        finally:
            os.close(start)


def _check_top(path: VirtualPath) -> None:
    """In the root exist its three folders; the hidden one does not, for anybody who names it."""
    if path.parts and path.parts[0] not in TOP_FOLDERS:
        raise Refused("no_such_file", "no such file or folder")


def _time(seconds: float) -> float:
    if not math.isfinite(seconds) or not 0 <= seconds <= _LAST_TIME:
        raise Refused("bad_message", "the time cannot be stored")
    return seconds


def _temporary(root: int) -> int:
    """The folder of unfinished names; made where it is missing: no backup carries it, so a restored jail has none."""
    try:
        return os.open(TEMPORARY, FOLDER_FLAGS, dir_fd=root)
    except FileNotFoundError:
        with suppress(FileExistsError):  # another worker was quicker
            os.mkdir(TEMPORARY, 0o700, dir_fd=root)
        return os.open(TEMPORARY, FOLDER_FLAGS, dir_fd=root)
