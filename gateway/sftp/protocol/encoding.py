"""Typed requests → packets: the inverse of `protocol.decode`, for what one worker asks of another. Pure; no I/O."""

from __future__ import annotations

import struct

from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.wire import FSTATVFS, FSYNC, POSIX_RENAME, STATVFS, VERSION, AttributeFlag, Type

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")


def greeting() -> bytes:
    """INIT, with its length."""
    return _packet(Type.INIT, _U32.pack(VERSION))


def encode(request: ask.Request) -> bytes:
    """A whole packet. ValueError for a request that is answered where it comes in."""
    kind, fields = _fields(request)
    return _packet(kind, _U32.pack(request.id) + fields if not isinstance(request, ask.Init) else fields)


def _fields(request: ask.Request) -> tuple[Type, bytes]:
    match request:
        case ask.Open(_, path, flags, attributes):
            return Type.OPEN, _text(path) + _U32.pack(flags) + _attributes(attributes)
        case ask.Close(_, handle):
            return Type.CLOSE, _text(handle)
        case ask.Read(_, handle, offset, length):
            return Type.READ, _text(handle) + _U64.pack(offset) + _U32.pack(length)
        case ask.Write(_, handle, offset, data):
            return Type.WRITE, b"".join((_text(handle), _U64.pack(offset), _U32.pack(len(data)), data))
        case ask.Stat(_, path):
            return Type.STAT, _text(path)
        case ask.HandleStat(_, handle):
            return Type.FSTAT, _text(handle)
        case ask.SetStat(_, path, attributes):
            return Type.SETSTAT, _text(path) + _attributes(attributes)
        case ask.HandleSetStat(_, handle, attributes):
            return Type.FSETSTAT, _text(handle) + _attributes(attributes)
        case ask.OpenFolder(_, path):
            return Type.OPENDIR, _text(path)
        case ask.ReadFolder(_, handle):
            return Type.READDIR, _text(handle)
        case ask.Remove(_, path):
            return Type.REMOVE, _text(path)
        case ask.MakeFolder(_, path):
            return Type.MKDIR, _text(path) + _U32.pack(0)
        case ask.RemoveFolder(_, path):
            return Type.RMDIR, _text(path)
        case ask.RealPath(_, path):
            return Type.REALPATH, _text(path)
        case ask.Rename(_, source, target, False):
            return Type.RENAME, _text(source) + _text(target)
        case ask.Rename(_, source, target, True):
            return Type.EXTENDED, _text(POSIX_RENAME) + _text(source) + _text(target)
        case ask.Sync(_, handle):
            return Type.EXTENDED, _text(FSYNC) + _text(handle)
        case ask.FileSystem(_, path):
            return Type.EXTENDED, _text(STATVFS) + _text(path)
        case ask.HandleFileSystem(_, handle):
            return Type.EXTENDED, _text(FSTATVFS) + _text(handle)
    raise ValueError(f"{type(request).__name__} is not passed on")


def _packet(kind: Type, body: bytes) -> bytes:
    return b"".join((_U32.pack(1 + len(body)), bytes((kind,)), body))


def _text(value: bytes) -> bytes:
    return _U32.pack(len(value)) + value


def _attributes(given: ask.Attributes) -> bytes:
    flags, parts = 0, []
    if given.size is not None:
        flags |= AttributeFlag.SIZE
        parts.append(_U64.pack(given.size))
    if given.permissions is not None:
        flags |= AttributeFlag.PERMISSIONS
        parts.append(_U32.pack(given.permissions))
    if given.atime is not None and given.mtime is not None:
        flags |= AttributeFlag.TIMES
        parts.append(_U32.pack(given.atime) + _U32.pack(given.mtime))
    return _U32.pack(flags) + b"".join(parts)
