"""POSIX access control lists, as Linux keeps them in two extended attributes of a file: who besides its owner may read, write and pass.

No library and no tool is needed: the attribute is a version and a list of (tag, rights, user id), sorted.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config.errors import SettingsError

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
READ, WRITE, PASS = 4, 2, 1
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NOBODY_IN_PARTICULAR = 0xFFFFFFFF


@dataclass(frozen=True)
class Acl:
    """Rights (sums of READ, WRITE and PASS) of the owner and of users by their number; the owner's group and all others have none."""

    owner: int
    users: Mapping[int, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        """As the kernel takes it."""
        mask = 0
        for rights in self.users.values():
            mask |= rights
        entries = [(_OWNER, self.owner, _NOBODY_IN_PARTICULAR)]
        entries += [(_USER, rights, user) for user, rights in sorted(self.users.items())]
        entries += [(_GROUP, 0, _NOBODY_IN_PARTICULAR), (_MASK, mask, _NOBODY_IN_PARTICULAR), (_OTHER, 0, _NOBODY_IN_PARTICULAR)]
        return _VERSION + b"".join(_ENTRY.pack(*entry) for entry in entries)

    @classmethod
    def decode(cls, data: bytes) -> Acl | None:
        """What a list grants in effect: the mask cuts what users have. None when it grants anything to a group or to all others, or is none."""
        if data[:4] != _VERSION or len(data) % _ENTRY.size != 4:
            return None
        entries = list(_ENTRY.iter_unpack(data[4:]))
        mask = next((rights for tag, rights, _ in entries if tag == _MASK), READ | WRITE | PASS)
        if any(rights & (mask if tag != _OTHER else ~0) for tag, rights, _ in entries if tag in (_GROUP, _NAMED_GROUP, _OTHER)):
            return None
        owner = next((rights for tag, rights, _ in entries if tag == _OWNER), 0)
        return cls(owner, {user: rights & mask for tag, rights, user in entries if tag == _USER and rights & mask})


def set_acl(file: Path | int, acl: Acl, inherited: Acl | None = None) -> None:
    """Give a file or folder (a path or a descriptor) its rights; `inherited` is what new things in a folder begin with, None: nothing.

    Raises SettingsError where the file system keeps no such lists, OSError for all else.
    """
    try:
        os.setxattr(file, ACCESS, acl.encode())
        if stat.S_ISDIR(os.stat(file).st_mode):
            os.setxattr(file, DEFAULT, inherited.encode() if inherited is not None else _VERSION)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise SettingsError(
                f"the file system of {file} keeps no access control lists",
                "put the data folder on ext4, xfs or btrfs, or run all roles as one user: nightsafe up",
            ) from error
        raise


def get_acl(file: Path | int) -> Acl | None:
    """What a file's list grants; where there is none, what its mode does. None when a group or all others have any rights. Raises OSError."""
    found = _attribute(file, ACCESS)
    if found:
        return Acl.decode(found)
    mode = os.stat(file).st_mode
    return None if mode & 0o077 else Acl(mode >> 6 & 7)


def get_inherited(file: Path | int) -> Acl | None:
    """What a folder hands down; None when nothing, or more than an Acl can say. Raises OSError."""
    found = _attribute(file, DEFAULT)
    return Acl.decode(found) if found else None


def _attribute(file: Path | int, name: str) -> bytes:
    try:
        found = os.getxattr(file, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return b""
        raise
    return b"" if found == _VERSION else found
