"""Renames: what may become of a name, and the step itself between two open folders."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from gateway.jail.descriptors import open_any, rename_exclusive, walk
from gateway.jail.entries import read_pointer_at
from gateway.jail.paths import MAX_DEPTH, MAX_PATH_BYTES, RECEIPTS, VirtualPath
from gateway.jail.pointers import Pointer
from gateway.jail.refused import Refused


def check_below_top(path: VirtualPath) -> None:
    """Refuse to change the root and its three folders, and whatever cannot exist beside them."""
    if len(path.parts) < 2:
        raise Refused("permission", "this folder is fixed; papers live below it")


def check_rename(source: VirtualPath, target: VirtualPath) -> None:
    """Refuse renames that can be told wrong by the names alone."""
    check_below_top(source)
    check_below_top(target)
    if RECEIPTS in (source.folder, target.folder):
        raise Refused("permission", f"/{RECEIPTS} stays as it is")
    if source != target and target.is_within(source):
        raise Refused("failure", "a folder cannot be moved into itself")


def move(source_parent: int, source: VirtualPath, target_parent: int, target: VirtualPath, replace: bool) -> Pointer | None:
    """The rename itself, after a look at both ends. What is replaced is read just before: another process may be faster."""
    descriptor, state = open_any(source_parent, source.name.encode())
    try:
        is_folder = stat.S_ISDIR(state.st_mode)
        if is_folder:
            _check_room(descriptor, source, target)
    finally:
        os.close(descriptor)
    old, new = source.name.encode(), target.name.encode()
    if not replace:
        rename_exclusive(source_parent, old, target_parent, new, is_folder=is_folder)
        return None
    if source == target:
        return None
    replaced = None
    if not is_folder:
        with suppress(FileNotFoundError):
            replaced = read_pointer_at(target_parent, new)
    try:
        os.rename(old, new, src_dir_fd=source_parent, dst_dir_fd=target_parent)
    except NotADirectoryError as error:
        raise Refused("failure", "a paper has this name") from error
    return replaced


def _check_room(folder: int, source: VirtualPath, target: VirtualPath) -> None:
    """Refuse to move a folder to where what lies below it would be too deep or have too long a path: backups could not carry it.

    Read only where the new place is deeper or longer than the old one.
    """
    if len(target.parts) <= len(source.parts) and target.size <= source.size:
        return
    levels = MAX_DEPTH - len(target.parts)
    room = MAX_PATH_BYTES - target.size
    for found in walk(folder, MAX_DEPTH):
        if len(found.parts) > levels or sum(1 + len(part.encode()) for part in found.parts) > room:
            raise Refused("bad_message", "the paths of what lies in this folder would become too long")
