"""Folders that are only looked at: plain files of the host below one folder (the evidence of drills), and folders that are mere names.

The same rules as in a jail: one component at a time by descriptor, no symbolic links, regular files and folders alone.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Protocol

from gateway.jail.descriptors import FOLDER_FLAGS, open_folder, open_regular
from gateway.jail.entries import Entry, Listing, entries, folder_entry, read_entry
from gateway.jail.paths import VirtualPath
from gateway.jail.refused import Refused, Translated

translated = Translated()


class Shelf(Protocol):
    """What can be looked at. Paths are below the shelf. Every error is Refused."""

    def stat(self, path: VirtualPath) -> Entry:
        """The entry at `path`."""
        ...

    def list(self, path: VirtualPath) -> Listing:
        """The entries of a folder."""
        ...

    def open_plain(self, path: VirtualPath) -> int:
        """A descriptor for reading a file; the caller closes it."""
        ...


class PlainShelf:
    """The files below `root`, which need not be there yet."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def stat(self, path: VirtualPath) -> Entry:
        """See Shelf."""
        with translated:
            folder = self._walk(path.parts[:-1])
            try:
                return read_entry(folder, path.name, plain=True) if path.parts else folder_entry("", os.fstat(folder))
            finally:
                os.close(folder)

    def list(self, path: VirtualPath) -> Listing:
        """See Shelf."""
        with translated:
            folder = self._walk(path.parts)
        return Listing(folder, entries(folder, plain=True))

    def open_plain(self, path: VirtualPath) -> int:
        """See Shelf."""
        with translated:
            folder = self._walk(path.parts[:-1])
            try:
                return open_regular(folder, path.name.encode())[0]
            finally:
                os.close(folder)

    def _walk(self, parts: tuple[str, ...]) -> int:
        root = os.open(self._root, FOLDER_FLAGS)
        try:
            return open_folder(root, parts)
        finally:
            os.close(root)


class NamesShelf:
    """Folders that are names and nothing else: each path and what it shows. The root is the empty path."""

    def __init__(self, folders: Mapping[tuple[str, ...], tuple[str, ...]], mtime: float) -> None:
        self._folders = folders
        self._mtime = mtime

    def stat(self, path: VirtualPath) -> Entry:
        """See Shelf."""
        if path.parts not in self._folders:
            raise Refused("no_such_file", "no such file or folder")
        return self._entry(path.name)

    def list(self, path: VirtualPath) -> Listing:
        """See Shelf."""
        self.stat(path)
        nothing = os.open("/", FOLDER_FLAGS)  # a listing owns a descriptor; this one reads none
        return Listing(nothing, self._entries(path.parts))

    def open_plain(self, path: VirtualPath) -> int:
        """See Shelf."""
        self.stat(path)
        raise Refused("failure", "this is a folder")

    def _entries(self, parts: tuple[str, ...]) -> Generator[Entry, None, None]:
        for name in self._folders[parts]:
            yield self._entry(name)

    def _entry(self, name: str) -> Entry:
        return Entry(name, "folder", 0, self._mtime, None)
