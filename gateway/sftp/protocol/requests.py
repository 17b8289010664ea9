"""The requests of SFTP version 3, typed. What reads them off bytes is `protocol`; what they mean is decided by `operations`.

Fields keep the bytes of the client: a `path` is at most MAX_PATH long and otherwise unchecked, a `handle` is one that the client claims.
"""

from __future__ import annotations

from typing import NamedTuple


class Malformed(Exception):
    """What the client sent is not SFTP. `request_id` is None when not even that could be read: then the session cannot go on."""

    def __init__(self, text: str, request_id: int | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.request_id = request_id


class Attributes(NamedTuple):
    """What a client wants an entry to be; None: says nothing about it. Times are seconds since the epoch."""

    size: int | None = None
    permissions: int | None = None
    atime: int | None = None
    mtime: int | None = None


class Init(NamedTuple):
    """The client's greeting."""

    version: int


class Open(NamedTuple):
    """Open a file; `flags` are `OpenFlag` bits."""

    id: int
    path: bytes
    flags: int
    attributes: Attributes


class Close(NamedTuple):
    """Close a file or a folder."""

    id: int
    handle: bytes


class Read(NamedTuple):
    """Read `length` bytes from `offset`; `length` may be anything up to 2³²-1."""

    id: int
    handle: bytes
    offset: int
    length: int


class Write(NamedTuple):
    """Write `data` (a view of the packet) at `offset`."""

    id: int
    handle: bytes
    offset: int
    data: memoryview


class Stat(NamedTuple):
    """STAT or LSTAT: there are no links, so both are one."""

    id: int
    path: bytes


class HandleStat(NamedTuple):
    """FSTAT."""

    id: int
    handle: bytes


class SetStat(NamedTuple):
    """Set attributes by path."""

    id: int
    path: bytes
    attributes: Attributes


class HandleSetStat(NamedTuple):
    """Set attributes by handle."""

    id: int
    handle: bytes
    attributes: Attributes


class OpenFolder(NamedTuple):
    """OPENDIR."""

    id: int
    path: bytes


class ReadFolder(NamedTuple):
    """READDIR: the next page."""

    id: int
    handle: bytes


class Remove(NamedTuple):
    """Remove a file."""

    id: int
    path: bytes


class MakeFolder(NamedTuple):
    """MKDIR; its attributes are read and ignored."""

    id: int
    path: bytes


class RemoveFolder(NamedTuple):
    """RMDIR."""

    id: int
    path: bytes


class RealPath(NamedTuple):
    """Make a path canonical."""

    id: int
    path: bytes


class Rename(NamedTuple):
    """Rename; `replace` is true for posix-rename@openssh.com, which may replace a file."""

    id: int
    source: bytes
    target: bytes
    replace: bool


class Sync(NamedTuple):
    """fsync@openssh.com."""

    id: int
    handle: bytes


class FileSystem(NamedTuple):
    """statvfs@openssh.com."""

    id: int
    path: bytes


class HandleFileSystem(NamedTuple):
    """fstatvfs@openssh.com."""

    id: int
    handle: bytes


class Limits(NamedTuple):
    """limits@openssh.com."""

    id: int


class Unsupported(NamedTuple):
    """A well-framed request that this server does not offer; `what` names it for the refusal and the audit."""

    id: int
    what: str


Request = (
    Init
    | Open
    | Close
    | Read
    | Write
    | Stat
    | HandleStat
    | SetStat
    | HandleSetStat
    | OpenFolder
    | ReadFolder
    | Remove
    | MakeFolder
    | RemoveFolder
    | RealPath
    | Rename
    | Sync
    | FileSystem
    | HandleFileSystem
    | Limits
    | Unsupported
)
