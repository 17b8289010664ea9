"""What the tree tells of a name, and how it is read from an open folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from gateway.jail.descriptors import open_any, open_regular, scan, text_name
from gateway.jail.paths import TOP_FOLDERS
from gateway.jail.pointers import MAX_POINTER_BYTES, Pointer, PointerDamaged, decode
from gateway.jail.refused import Translated

Kind = Literal["folder", "pointer", "plain"]
translated = Translated()


@dataclass(frozen=True, slots=True)
class Entry:
    """One name. `size` is the paper's plaintext size in bytes, `mtime` seconds since the epoch.

    `kind` "pointer" with `pointer` None: a name whose pointer is damaged. It is listed with size 0 and can be removed or written anew.
    """

    name: str
    kind: Kind
    size: int
    mtime: float
    pointer: Pointer | None


class Listing(Iterator[Entry]):
    """The entries of one folder, read as they are asked for; holds a descriptor until it ends or is closed."""

    def __init__(self, folder: int, entries: Generator[Entry, None, None]) -> None:
        self._folder: int | None = folder
        self._entries = entries

    def __next__(self) -> Entry:
        if self._folder is None:
            raise StopIteration
        try:
            with translated:
                return next(self._entries)
        except StopIteration:
            self.close()
            raise

    def close(self) -> None:
        """Give the descriptor back; nothing more comes out."""
        if self._folder is not None:
            self._entries.close()
            os.close(self._folder)
            self._folder = None

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def read_entry(parent: int, name: str, *, plain: bool) -> Entry:
    """The entry `name` of an open folder; with `plain` a file is what it is, and no pointer. Raises OSError."""
    descriptor, state = open_any(parent, name.encode())
    try:
        if stat.S_ISDIR(state.st_mode):
            return folder_entry(name, state)
        if plain:
            return Entry(name, "plain", state.st_size, state.st_mtime, None)
        pointer = _pointer_in(descriptor)
        return Entry(name, "pointer", pointer.size if pointer else 0, state.st_mtime, pointer)
    finally:
        os.close(descriptor)


def folder_entry(name: str, state: os.stat_result) -> Entry:
    """The entry of a folder in this state."""
    return Entry(name, "folder", 0, state.st_mtime, None)


def top_entries(root: int) -> Generator[Entry, None, None]:
    """The three folders of a jail's root. Raises OSError."""
    for name in TOP_FOLDERS:
        yield read_entry(root, name, plain=False)


def entries(folder: int, *, plain: bool) -> Generator[Entry, None, None]:
    """What is in an open folder, one by one; names that are no UTF-8, and what goes meanwhile, are left out."""
    for found in scan(folder):
        name = text_name(found)
        if name is None:
            continue
        with suppress(OSError):  # it went away, or was replaced by something that is nobody's
            yield read_entry(folder, name, plain=plain)


def read_pointer_at(parent: int, name: bytes) -> Pointer | None:
    """The pointer in a file of an open folder; None when it is damaged. Raises OSError."""
    return read_pointer(parent, name)[0]


def read_pointer(parent: int, name: bytes) -> tuple[Pointer | None, os.stat_result]:
    """The same, and the file's state."""
    descriptor, state = open_regular(parent, name)
    try:
        return _pointer_in(descriptor), state
    finally:
        os.close(descriptor)


def _pointer_in(descriptor: int) -> Pointer | None:
    try:
        return decode(os.read(descriptor, MAX_POINTER_BYTES + 1))
    except PointerDamaged:
        return None
