"""Numbers of SFTP version 3 (draft-ietf-secsh-filexfer-02) and the bounds that this server puts on what a client sends.

Sizes are bytes. Everything here is a constant; nothing does I/O.
"""

from __future__ import annotations

from enum import IntEnum

VERSION = 3

MAX_PAYLOAD = 256 * 1024  # of one READ reply or one WRITE
MAX_PACKET = MAX_PAYLOAD + 1024  # the payload with its header, handle and lengths
MAX_PATH = 4096
MAX_HANDLE = 256
MAX_EXTENSION_NAME = 256
ADVERTISED_PAYLOAD = MAX_PAYLOAD - 1024  # what limits@openssh.com says, as OpenSSH's own server does


class Type(IntEnum):
    """Packet types."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    SYMLINK = 20
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class Status(IntEnum):
    """Codes of a STATUS reply."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8


class OpenFlag:
    """`pflags` of OPEN. Plain numbers: the operators of an IntFlag take ten times as long, and an upload asks eleven times."""

    READ = 0x01
    WRITE = 0x02
    APPEND = 0x04
    CREATE = 0x08
    TRUNCATE = 0x10
    EXCLUSIVE = 0x20


class AttributeFlag:
    """Which fields an ATTRS block holds."""

    SIZE = 0x00000001
    OWNER = 0x00000002
    PERMISSIONS = 0x00000004
    TIMES = 0x00000008
    EXTENDED = 0x80000000


KNOWN_ATTRIBUTES = AttributeFlag.SIZE | AttributeFlag.OWNER | AttributeFlag.PERMISSIONS | AttributeFlag.TIMES | AttributeFlag.EXTENDED

POSIX_RENAME = b"posix-rename@openssh.com"
STATVFS = b"statvfs@openssh.com"
FSTATVFS = b"fstatvfs@openssh.com"
FSYNC = b"fsync@openssh.com"
LIMITS = b"limits@openssh.com"
HARDLINK = b"hardlink@openssh.com"

ADVERTISED_EXTENSIONS: tuple[tuple[bytes, bytes], ...] = (
    (POSIX_RENAME, b"1"),
    (STATVFS, b"2"),
    (FSTATVFS, b"2"),
    (FSYNC, b"1"),
    (LIMITS, b"1"),
)
