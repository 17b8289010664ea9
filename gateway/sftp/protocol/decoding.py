"""SFTP version 3, the half that reads: bytes of a channel → packets → typed requests. Pure; no I/O.

Everything comes from a stranger. Every length is checked against the packet that holds it, and against a bound of its own, before it is
used; what is wrong raises `Malformed` and nothing else. Fields keep the bytes of the client (paths, handles): what they mean is decided
by `operations`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from gateway.sftp.protocol.requests import (
    Attributes,
    Close,
    FileSystem,
    HandleFileSystem,
    HandleSetStat,
    HandleStat,
    Init,
    Limits,
    MakeFolder,
    Malformed,
    Open,
    OpenFolder,
    Read,
    ReadFolder,
    RealPath,
    Remove,
    RemoveFolder,
    Rename,
    Request,
    SetStat,
    Stat,
    Sync,
    Unsupported,
    Write,
)
from gateway.sftp.protocol.wire import (
    FSTATVFS,
    FSYNC,
    KNOWN_ATTRIBUTES,
    LIMITS,
    MAX_EXTENSION_NAME,
    MAX_HANDLE,
    MAX_PACKET,
    MAX_PATH,
    MAX_PAYLOAD,
    POSIX_RENAME,
    STATVFS,
    AttributeFlag,
    Type,
)

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_TYPE_AND_ID = struct.Struct(">BI")
_USUAL_OPEN = struct.Struct(">BII")  # type, id, length of the path
_FLAGS_AND_PERMISSIONS = struct.Struct(">III")
_USUAL_CLOSE = struct.Struct(">BII8s")
_USUAL_WRITE = struct.Struct(">BII8sQI")


class Unpacker:
    """Cuts the bytes of a channel into packets. Holds at most one unfinished packet and what was fed since."""

    def __init__(self, max_packet: int = MAX_PACKET) -> None:
        self._max_packet = max_packet
        self._buffer = b""
        self._position = 0
        self._later: list[bytes] = []
        self._later_size = 0
        self._need = 4

    def feed(self, data: bytes) -> None:
        """Take what came from the channel."""
        if not self._later and self._position == len(self._buffer):
            self._buffer, self._position = data, 0
            return
        self._later.append(data)
        self._later_size += len(data)

    @property
    def buffered(self) -> int:
        """Bytes held."""
        return len(self._buffer) - self._position + self._later_size

    def next(self) -> memoryview | None:
        """The body of the next packet (type, id, fields), or None when more must come. Raises Malformed for a length out of bounds."""
        if len(self._buffer) - self._position < self._need and not self._reach():
            return None
        if self._need == 4:
            (length,) = _U32.unpack_from(self._buffer, self._position)
            if not 0 < length <= self._max_packet:
                raise Malformed(f"packet of {length} bytes; at most {self._max_packet} are taken")
            self._need = 4 + length
            if len(self._buffer) - self._position < self._need and not self._reach():
                return None
        start, end = self._position + 4, self._position + self._need
        self._position, self._need = end, 4
        return memoryview(self._buffer)[start:end]

    def _reach(self) -> bool:
        """Whether what is needed, and is not in the buffer, came since."""
        held = len(self._buffer) - self._position
        if held + self._later_size < self._need:
            return False
        self._buffer = b"".join((memoryview(self._buffer)[self._position :], *self._later)) if held else b"".join(self._later)
        self._position, self._later, self._later_size = 0, [], 0
        return True


class _Fields:
    """Reads fields off one packet's body, front to back."""

    __slots__ = ("_at", "_body", "request_id")

    def __init__(self, body: memoryview, at: int, request_id: int | None) -> None:
        self._body = body
        self._at = at
        self.request_id = request_id

    def fail(self, text: str) -> Malformed:
        return Malformed(text, self.request_id)

    def u32(self) -> int:
        at = self._at
        if at + 4 > len(self._body):
            raise self.fail("packet ends within a field")
        self._at = at + 4
        return int(_U32.unpack_from(self._body, at)[0])

    def u64(self) -> int:
        at = self._at
        if at + 8 > len(self._body):
            raise self.fail("packet ends within a field")
        self._at = at + 8
        return int(_U64.unpack_from(self._body, at)[0])

    def view(self, limit: int, what: str) -> memoryview:
        length = self.u32()
        start = self._at
        if length > len(self._body) - start:
            raise self.fail(f"{what} is longer than its packet")
        if length > limit:
            raise self.fail(f"{what} of {length} bytes; at most {limit} are taken")
        self._at = start + length
        return self._body[start : start + length]

    def path(self) -> bytes:
        return bytes(self.view(MAX_PATH, "name"))

    def handle(self) -> bytes:
        return bytes(self.view(MAX_HANDLE, "handle"))

    def attributes(self) -> Attributes:
        flags = self.u32()
        if flags & ~KNOWN_ATTRIBUTES:
            raise self.fail("unknown attribute flags")
        size = self.u64() if flags & AttributeFlag.SIZE else None
        if flags & AttributeFlag.OWNER:
            self.u64()
        permissions = self.u32() if flags & AttributeFlag.PERMISSIONS else None
        atime, mtime = (self.u32(), self.u32()) if flags & AttributeFlag.TIMES else (None, None)
        if flags & AttributeFlag.EXTENDED:
            self._skip_extended()
        return Attributes(size, permissions, atime, mtime)

    def _skip_extended(self) -> None:
        """Extended attributes mean nothing to us; each takes at least 8 bytes, so the packet's length bounds the loop."""
        for _ in range(self.u32()):
            self.view(MAX_PACKET, "attribute name")
            self.view(MAX_PACKET, "attribute")

    def skip(self) -> None:
        """Leave the rest unread: the fields of an extension that is not known."""
        self._at = len(self._body)

    def end(self) -> None:
        if self._at != len(self._body):
            raise self.fail("packet holds more than its fields")


def decode(body: memoryview) -> Request:
    """The request that a packet's body holds. Raises Malformed, with the request's id as soon as that could be read."""
    if len(body) < 5:
        raise Malformed("packet without a request id")
    usual = _USUAL.get(body[0])
    if usual is not None:
        request = usual(body)
        if request is not None:
            return request
    kind, request_id = _TYPE_AND_ID.unpack_from(body)
    if kind == Type.INIT:
        return Init(request_id)  # the same place holds the version; extensions that may follow are ignored
    fields = _Fields(body, 5, request_id)
    decoder = _DECODERS.get(kind)
    if decoder is None:
        return Unsupported(request_id, f"request type {kind}")
    request = decoder(request_id, fields)
    fields.end()
    return request


# What most requests look like, read at once; anything else is left (None) to the decoders below, which say what is wrong with it.


def _usual_write(body: memoryview) -> Request | None:
    if len(body) < _USUAL_WRITE.size:
        return None
    _, number, handle_size, handle, offset, size = _USUAL_WRITE.unpack_from(body)
    if handle_size != 8 or size != len(body) - _USUAL_WRITE.size or size > MAX_PAYLOAD:
        return None
    return Write(number, handle, offset, body[_USUAL_WRITE.size :])


def _usual_close(body: memoryview) -> Request | None:
    if len(body) != _USUAL_CLOSE.size:
        return None
    _, number, handle_size, handle = _USUAL_CLOSE.unpack(body)
    return Close(number, handle) if handle_size == 8 else None


def _usual_open(body: memoryview) -> Request | None:
    """Attributes: permissions, or none."""
    if len(body) < _USUAL_OPEN.size:
        return None
    _, number, size = _USUAL_OPEN.unpack_from(body)
    end = _USUAL_OPEN.size + size
    if size > MAX_PATH or len(body) != end + _FLAGS_AND_PERMISSIONS.size:
        return None
    flags, attributes, permissions = _FLAGS_AND_PERMISSIONS.unpack_from(body, end)
    if attributes != AttributeFlag.PERMISSIONS:
        return None
    return Open(number, bytes(body[_USUAL_OPEN.size : end]), flags, Attributes(permissions=permissions))


_USUAL: dict[int, Callable[[memoryview], Request | None]] = {Type.OPEN: _usual_open, Type.CLOSE: _usual_close, Type.WRITE: _usual_write}


def _open(number: int, fields: _Fields) -> Request:
    return Open(number, fields.path(), fields.u32(), fields.attributes())


def _close(number: int, fields: _Fields) -> Request:
    return Close(number, fields.handle())


def _read(number: int, fields: _Fields) -> Request:
    return Read(number, fields.handle(), fields.u64(), fields.u32())


def _write(number: int, fields: _Fields) -> Request:
    return Write(number, fields.handle(), fields.u64(), fields.view(MAX_PAYLOAD, "data"))


def _stat(number: int, fields: _Fields) -> Request:
    return Stat(number, fields.path())


def _handle_stat(number: int, fields: _Fields) -> Request:
    return HandleStat(number, fields.handle())


def _set_stat(number: int, fields: _Fields) -> Request:
    return SetStat(number, fields.path(), fields.attributes())


def _handle_set_stat(number: int, fields: _Fields) -> Request:
    return HandleSetStat(number, fields.handle(), fields.attributes())


def _open_folder(number: int, fields: _Fields) -> Request:
    return OpenFolder(number, fields.path())


def _read_folder(number: int, fields: _Fields) -> Request:
    return ReadFolder(number, fields.handle())


def _remove(number: int, fields: _Fields) -> Request:
    return Remove(number, fields.path())


def _make_folder(number: int, fields: _Fields) -> Request:
    path = fields.path()
    fields.attributes()
    return MakeFolder(number, path)


def _remove_folder(number: int, fields: _Fields) -> Request:
    return RemoveFolder(number, fields.path())


def _real_path(number: int, fields: _Fields) -> Request:
    return RealPath(number, fields.path())


def _rename(number: int, fields: _Fields) -> Request:
    return Rename(number, fields.path(), fields.path(), False)


def _read_link(number: int, fields: _Fields) -> Request:
    fields.path()
    return Unsupported(number, "readlink")


def _symlink(number: int, fields: _Fields) -> Request:
    fields.path()
    fields.path()
    return Unsupported(number, "symlink")


def _extended(number: int, fields: _Fields) -> Request:
    name = bytes(fields.view(MAX_EXTENSION_NAME, "extension name"))
    if name == POSIX_RENAME:
        return Rename(number, fields.path(), fields.path(), True)
    if name == FSYNC:
        return Sync(number, fields.handle())
    if name == STATVFS:
        return FileSystem(number, fields.path())
    if name == FSTATVFS:
        return HandleFileSystem(number, fields.handle())
    if name == LIMITS:
        return Limits(number)
    fields.skip()
    return Unsupported(number, name.decode("ascii", "replace"))


_DECODERS: dict[int, Callable[[int, _Fields], Request]] = {
    Type.OPEN: _open,
    Type.CLOSE: _close,
    Type.READ: _read,
    Type.WRITE: _write,
    Type.LSTAT: _stat,
    Type.STAT: _stat,
    Type.FSTAT: _handle_stat,
    Type.SETSTAT: _set_stat,
    Type.FSETSTAT: _handle_set_stat,
    Type.OPENDIR: _open_folder,
    Type.READDIR: _read_folder,
    Type.REMOVE: _remove,
    Type.MKDIR: _make_folder,
    Type.RMDIR: _remove_folder,
    Type.REALPATH: _real_path,
    Type.RENAME: _rename,
    Type.READLINK: _read_link,
    Type.SYMLINK: _symlink,
    Type.EXTENDED: _extended,
}
