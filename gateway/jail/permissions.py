"""What a client may do where: the profile `exchange`. Pure; the tree itself knows only what fits, not who may.

| folder | a client may |
| --- | --- |
| `/` | look |
| `/inbox` | put, read, rename, remove, make folders |
| `/outbox` | look and read: it is what the firm leaves for the client |
| `/receipts` | look and read |
"""

from __future__ import annotations

from enum import StrEnum

from gateway.jail.paths import INBOX, TOP_FOLDERS, VirtualPath
from gateway.jail.refused import Refused


class Action(StrEnum):
    """What a request wants to do with one path."""

    STAT = "stat"
    LIST = "list"
    READ = "read"
    WRITE = "write"
    MAKE_FOLDER = "make_folder"
    REMOVE_FOLDER = "remove_folder"
    REMOVE = "remove"
    RENAME_FROM = "rename_from"
    RENAME_TO = "rename_to"
    SET_TIMES = "set_times"


_LOOKS = frozenset({Action.STAT, Action.LIST, Action.READ})


def check(action: Action, path: VirtualPath) -> None:
    """Raise Refused, with a text that helps, unless the profile lets a client do `action` at `path`."""
    known = path.is_root or path.folder in TOP_FOLDERS
    if action in _LOOKS:
        if not known:
            raise Refused("no_such_file", "no such file or folder")
        return
    if not known:
        raise Refused("permission", _elsewhere(action))
    if len(path.parts) < 2:
        _check_fixed(action, path)
    elif path.folder != INBOX:
        raise Refused("permission", f"/{path.folder} can be read, not changed; put papers into /{INBOX}")


def check_rename(source: VirtualPath, target: VirtualPath) -> None:
    """Raise Refused unless a client may rename `source` to `target`."""
    check(Action.RENAME_FROM, source)
    check(Action.RENAME_TO, target)


def mode_bits(path: VirtualPath, *, folder: bool) -> int:
    """The permission bits that a client is shown (without the type of file)."""
    writable = path.folder == INBOX
    if folder:
        return 0o700 if writable else 0o500
    return 0o600 if writable else 0o400


def _check_fixed(action: Action, path: VirtualPath) -> None:
    """The root and the three folders in it stay as they are."""
    if action is Action.SET_TIMES and path.folder == INBOX:
        return  # copying tools give the folder they copied into the times of their own
    if action is Action.MAKE_FOLDER:
        raise Refused("exists", "the folder exists already")
    if action is Action.WRITE:
        raise Refused("failure", f"this is a folder; put papers into /{INBOX}")
    raise Refused("permission", f"this folder is fixed; your papers live below /{INBOX}")


def _elsewhere(action: Action) -> str:
    if action is Action.MAKE_FOLDER:
        return f"folders can be made below /{INBOX} only"
    return f"put papers into /{INBOX}"
