"""SFTP version 3, the half that writes: typed replies → packets. Pure; no I/O."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from typing import NamedTuple

from gateway.sftp.protocol.wire import ADVERTISED_EXTENSIONS, ADVERTISED_PAYLOAD, MAX_PAYLOAD, VERSION, AttributeFlag, Status, Type

_HEAD = struct.Struct(">IBI")  # length, type, request id
_HEAD_AND_U32 = struct.Struct(">IBII")
_U32 = struct.Struct(">I")
_ATTRIBUTES = struct.Struct(">IQIIIII")
_STATVFS = struct.Struct(">11Q")
_LIMITS = struct.Struct(">4Q")

FOLDER_MODE = 0o040700
FILE_MODE = 0o100600
READ_ONLY_MODE = 0o100400

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_OWN_FLAGS = AttributeFlag.SIZE | AttributeFlag.OWNER | AttributeFlag.PERMISSIONS | AttributeFlag.TIMES
_U32_MAX = 0xFFFFFFFF

DEFAULT_TEXTS: dict[Status, bytes] = {
    Status.OK: b"Success",
    Status.EOF: b"End of file",
    Status.NO_SUCH_FILE: b"No such file",
    Status.PERMISSION_DENIED: b"Permission denied",
    Status.FAILURE: b"Failure",
    Status.BAD_MESSAGE: b"Bad message",
    Status.NO_CONNECTION: b"No connection",
    Status.CONNECTION_LOST: b"Connection lost",
    Status.OP_UNSUPPORTED: b"Operation unsupported",
}


class Facts(NamedTuple):
    """What a client is told of an entry: size in bytes, mode with its type bits, modification time in seconds since the epoch."""

    size: int
    mode: int
    mtime: float


class Listed(NamedTuple):
    """One entry of a NAME reply; `longname` is the line that `ls -l` shows."""

    name: bytes
    longname: bytes
    facts: Facts | None


class Space(NamedTuple):
    """What statvfs tells: bytes and files, in all and free; whether the client may write."""

    total_bytes: int
    free_bytes: int
    total_files: int
    free_files: int
    read_only: bool


def version() -> bytes:
    """The greeting with the extensions that are offered."""
    body = struct.pack(">BI", Type.VERSION, VERSION) + b"".join(_string(part) for pair in ADVERTISED_EXTENSIONS for part in pair)
    return _string(body)


def status(number: int, code: Status, text: str = "") -> bytes:
    """A STATUS reply; `text` must be fit for a client's eyes."""
    message = text.encode("utf-8", "replace") if text else DEFAULT_TEXTS[code]
    return _HEAD_AND_U32.pack(17 + len(message), Type.STATUS, number, code) + _U32.pack(len(message)) + message + b"\x00\x00\x00\x00"


_OK_TAIL = _U32.pack(Status.OK) + _U32.pack(7) + b"Success" + b"\x00\x00\x00\x00"


def ok(number: int) -> bytes:
    """STATUS OK: the commonest reply of all."""
    return _HEAD.pack(5 + len(_OK_TAIL), Type.STATUS, number) + _OK_TAIL


def handle(number: int, value: bytes) -> bytes:
    """A HANDLE reply."""
    return _HEAD_AND_U32.pack(9 + len(value), Type.HANDLE, number, len(value)) + value


def data(number: int, payload: bytes) -> bytes:
    """A DATA reply of at most MAX_PAYLOAD bytes."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError("payload over the bound")
    return _HEAD_AND_U32.pack(9 + len(payload), Type.DATA, number, len(payload)) + payload


def attributes(number: int, facts: Facts) -> bytes:
    """An ATTRS reply."""
    body = _facts(facts)
    return _HEAD.pack(5 + len(body), Type.ATTRS, number) + body


def names(number: int, entries: Iterable[Listed]) -> bytes:
    """A NAME reply: a page of a folder, or the one answer of REALPATH."""
    parts = [_string(entry.name) + _string(entry.longname) + (_facts(entry.facts) if entry.facts else b"\x00\x00\x00\x00") for entry in entries]
    body = b"".join(parts)
    return _HEAD_AND_U32.pack(9 + len(body), Type.NAME, number, len(parts)) + body


def real_path(number: int, path: str) -> bytes:
    """The one answer of REALPATH."""
    raw = path.encode()
    return names(number, (Listed(raw, raw, None),))


def space(number: int, value: Space) -> bytes:
    """The answer of statvfs: blocks of 4096 bytes."""
    block = 4096
    read_only_and_no_setuid = (1 if value.read_only else 0) | 2
    body = _STATVFS.pack(
        block,
        block,
        value.total_bytes // block,
        value.free_bytes // block,
        value.free_bytes // block,
        value.total_files,
        value.free_files,
        value.free_files,
        0,
        read_only_and_no_setuid,
        255,
    )
    return _HEAD.pack(5 + len(body), Type.EXTENDED_REPLY, number) + body


def limits(number: int, max_handles: int) -> bytes:
    """The answer of limits@openssh.com: packet, READ, WRITE, handles."""
    body = _LIMITS.pack(MAX_PAYLOAD, ADVERTISED_PAYLOAD, ADVERTISED_PAYLOAD, max_handles)
    return _HEAD.pack(5 + len(body), Type.EXTENDED_REPLY, number) + body


def long_name(name: bytes, facts: Facts, owner: str, now: float) -> bytes:
    """The line of `ls -l` for an entry, in the manner of OpenSSH's server: time of day for the last half year, else the year."""
    kind = b"d" if facts.mode & 0o170000 == 0o040000 else b"-"
    bits = bytes(c if facts.mode & (0o400 >> i) else 0x2D for i, c in enumerate(b"rwxrwxrwx"))
    stamp = time.gmtime(min(max(facts.mtime, 0), _U32_MAX))
    recent = 0 <= now - facts.mtime < 182 * 86400
    when = f"{stamp.tm_hour:02d}:{stamp.tm_min:02d}" if recent else f"{stamp.tm_year:5d}"
    middle = f"    1 {owner:<8.32} {owner:<8.32} {facts.size:>8} {_MONTHS[stamp.tm_mon - 1]} {stamp.tm_mday:2d} {when} "
    return kind + bits + middle.encode() + name


def _facts(facts: Facts) -> bytes:
    seconds = min(max(int(facts.mtime), 0), _U32_MAX)
    return _ATTRIBUTES.pack(_OWN_FLAGS, facts.size, 0, 0, facts.mode, seconds, seconds)


def _string(value: bytes) -> bytes:
    return _U32.pack(len(value)) + value
