"""What a person may do where: by role and, for clients, by profile. Pure; the tree itself knows only what fits, not who may.

| role, profile | `/inbox` | `/outbox` | `/receipts` |
| --- | --- | --- | --- |
| client, `exchange` | everything | list, download | list, download |
| client, `drop` | list, upload, make folders; rename and delete what is unfinished; no download, no overwriting | | list, download |
| client, `read-only` | list, download | list, download | list, download |
| staff | list, download | everything | list, download |
| auditor | | | list, download |

Everybody may ask what a name is (STAT) wherever they may do anything at all. The root and the three folders in it are fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from gateway.jail.paths import INBOX, OUTBOX, RECEIPTS, TOP_FOLDERS, VirtualPath
from gateway.jail.refused import Refused

UNFINISHED_SUFFIXES = (".filepart", ".part", ".partial", ".tmp")  # WinSCP, curl and browsers, rclone, many


class Action(StrEnum):
    """What a request wants to do with one path."""

    STAT = "stat"
    LIST = "list"
    READ = "read"
    WRITE = "write"
    OVERWRITE = "overwrite"
    MAKE_FOLDER = "make_folder"
    REMOVE_FOLDER = "remove_folder"
    REMOVE = "remove"
    RENAME_FROM = "rename_from"
    RENAME_TO = "rename_to"
    SET_TIMES = "set_times"


_LOOKS = frozenset({Action.STAT, Action.LIST, Action.READ})
_EVERYTHING = frozenset(Action)
_DROPS = frozenset({Action.STAT, Action.LIST, Action.WRITE, Action.MAKE_FOLDER, Action.RENAME_TO, Action.SET_TIMES})
_OF_UNFINISHED = frozenset({Action.RENAME_FROM, Action.REMOVE})
_REFUSED_WORDS = {
    Action.LIST: "listed",
    Action.READ: "downloaded",
    Action.OVERWRITE: "replaced or changed",
    Action.REMOVE: "removed",
    Action.RENAME_FROM: "renamed",
    Action.REMOVE_FOLDER: "removed",
}


def is_unfinished_name(path: VirtualPath) -> bool:
    """Whether the name says that more is to come: its client will rename it."""
    return path.name.lower().endswith(UNFINISHED_SUFFIXES)


@dataclass(frozen=True)
class Rights:
    """What may be done in each of the top folders; `unfinished` counts besides for names that say that they are unfinished."""

    folders: Mapping[str, frozenset[Action]]
    unfinished: frozenset[Action] = field(default_factory=frozenset)

    def may(self, action: Action, path: VirtualPath) -> bool:
        """Whether `action` may be done at `path`, below a top folder."""
        granted = self.folders.get(path.folder, frozenset())
        return action in granted or (action in self.unfinished and Action.WRITE in granted and is_unfinished_name(path))

    def check(self, action: Action, path: VirtualPath) -> None:
        """Raise Refused, with a text that helps, unless `action` may be done at `path`."""
        if path.is_root:
            if action not in (Action.STAT, Action.LIST):
                _refuse_fixed(action)
            return
        if path.folder not in TOP_FOLDERS:
            if action in _LOOKS:
                raise Refused("no_such_file", "no such file or folder")
            raise Refused("permission", _elsewhere(action))
        if action is Action.STAT and len(path.parts) == 1:
            return
        if len(path.parts) == 1 and action not in _LOOKS:
            if action is Action.SET_TIMES and self.may(action, path):
                return  # copying tools give the folder they copied into the times of their own
            _refuse_fixed(action)
        if not self.may(action, path):
            raise Refused("permission", self._why(action, path))

    def check_rename(self, source: VirtualPath, target: VirtualPath) -> None:
        """Raise Refused unless `source` may be renamed to `target`, where nothing is."""
        self.check(Action.RENAME_FROM, source)
        self.check(Action.RENAME_TO, target)

    def mode_bits(self, path: VirtualPath, *, folder: bool) -> int:
        """The permission bits that are shown (without the type of file)."""
        if folder:
            return 0o700 if self.may(Action.WRITE, path) else 0o500
        read = 0o400 if self.may(Action.READ, path) else 0
        return read | (0o200 if self.may(Action.WRITE, path) else 0)

    def _why(self, action: Action, path: VirtualPath) -> str:
        granted = self.folders.get(path.folder, frozenset())
        if not granted:
            return f"/{path.folder} is not for this login"
        if granted == _LOOKS:
            writable = [name for name in TOP_FOLDERS if Action.WRITE in self.folders.get(name, frozenset())]
            return f"/{path.folder} can be read, not changed" + (f"; put papers into /{writable[0]}" if writable else "")
        return f"with this login papers can be put into /{path.folder}, but not {_REFUSED_WORDS.get(action, 'changed')}"


EXCHANGE = Rights({INBOX: _EVERYTHING, OUTBOX: _LOOKS, RECEIPTS: _LOOKS})
DROP = Rights({INBOX: _DROPS, RECEIPTS: _LOOKS}, _OF_UNFINISHED)
READ_ONLY = Rights({INBOX: _LOOKS, OUTBOX: _LOOKS, RECEIPTS: _LOOKS})
STAFF = Rights({INBOX: _LOOKS, OUTBOX: _EVERYTHING, RECEIPTS: _LOOKS})
AUDITOR = Rights({RECEIPTS: _LOOKS})

_OF_PROFILES = {"exchange": EXCHANGE, "drop": DROP, "read-only": READ_ONLY}
_OF_ROLES = {"staff": STAFF, "auditor": AUDITOR}


@lru_cache(maxsize=64)
def rights_of(role: str, profile: str, *, read_only: bool = False) -> Rights:
    """The rights of somebody of `role` in the jail of a client with `profile`. What is unknown may do nothing. `read_only`: nobody may change
    anything."""
    found = _OF_PROFILES.get(profile, Rights({})) if role == "client" else _OF_ROLES.get(role, Rights({}))
    return Rights({folder: granted & _LOOKS for folder, granted in found.folders.items()}) if read_only else found


def _refuse_fixed(action: Action) -> None:
    """The root and the three folders in it stay as they are."""
    if action is Action.MAKE_FOLDER:
        raise Refused("exists", "the folder exists already")
    if action is Action.WRITE:
        raise Refused("failure", f"this is a folder; put papers into /{INBOX}")
    raise Refused("permission", f"this folder is fixed; your papers live below /{INBOX}")


def _elsewhere(action: Action) -> str:
    if action is Action.MAKE_FOLDER:
        return f"folders can be made below /{INBOX} only"
    return f"put papers into /{INBOX}"
