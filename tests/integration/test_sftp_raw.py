"""SFTP version 3 by raw bytes: every request type and every extension, offered or refused, in one session; no library in between."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

from gateway.audit.read import read
from gateway.sftp.protocol.wire import Status, Type
from tests.integration.sftp_rig import Desk
from tests.integration.test_hostile_fuzz import INIT, converse, text

NO_ATTRIBUTES = struct.pack(">I", 0)


def path(name: str) -> bytes:
    return text(name.encode())


def extended(name: bytes, rest: bytes = b"") -> bytes:
    return bytes([Type.EXTENDED]) + text(name) + rest


def handle(number: int) -> bytes:
    return text(struct.pack(">Q", number))


def opening(name: str, flags: int) -> bytes:
    return bytes([Type.OPEN]) + path(name) + struct.pack(">I", flags) + NO_ATTRIBUTES


def talk(root: Path, bodies: list[bytes]) -> list[tuple[int, bytes]]:
    """(type, fields) of the reply to each request, which come in order; requests are without their ids."""
    stream = INIT + b"".join(text(body[:1] + struct.pack(">I", number) + body[1:]) for number, body in enumerate(bodies))

    async def main() -> bytes:
        desk = Desk(root)
        try:
            sent = (await converse(desk, stream, [7, 1, 50])).sent
            await desk.land_all()
            return sent
        finally:
            desk.end()

    sent = asyncio.run(main())
    found, at = [], 0
    while at < len(sent):
        length = struct.unpack_from(">I", sent, at)[0]
        found.append((sent[at + 4], sent[at + 5 : at + 4 + length]))
        at += 4 + length
    assert [int.from_bytes(fields[:4]) for _, fields in found[1:]] == list(range(len(bodies)))
    return [found[0], *((kind, fields[4:]) for kind, fields in found[1:])]


def code(reply: tuple[int, bytes]) -> Status:
    assert reply[0] == Type.STATUS
    return Status(int.from_bytes(reply[1][:4]))


def test_the_greeting_offers_what_is_done(tmp_path: Path) -> None:
    kind, fields = talk(tmp_path, [])[0]
    assert kind == Type.VERSION and fields[:4] == b"\0\0\0\3"
    offered = fields[4:]
    for name in (b"posix-rename@openssh.com", b"statvfs@openssh.com", b"fstatvfs@openssh.com", b"fsync@openssh.com", b"limits@openssh.com"):
        assert text(name) in offered
    for name in (b"hardlink", b"copy-data", b"lsetstat", b"expand-path", b"users-groups"):
        assert name not in offered


REFUSED = {
    "symlink": bytes([Type.SYMLINK]) + path("/etc/passwd") + path("/inbox/link"),
    "readlink": bytes([Type.READLINK]) + path("/inbox"),
    "hardlink@openssh.com": extended(b"hardlink@openssh.com", path("/inbox/a") + path("/inbox/b")),
    "copy-data": extended(b"copy-data", handle(1) + struct.pack(">QQ", 0, 0) + handle(1) + struct.pack(">Q", 0)),
    "lsetstat@openssh.com": extended(b"lsetstat@openssh.com", path("/inbox/a") + NO_ATTRIBUTES),
    "expand-path@openssh.com": extended(b"expand-path@openssh.com", path("~root")),
    "home-directory": extended(b"home-directory", path("root")),
    "users-groups-by-id@openssh.com": extended(b"users-groups-by-id@openssh.com", text(b"\0\0\0\0") + text(b"")),
    "check-file": extended(b"check-file-handle", handle(1)),
    "vendor-id": extended(b"vendor-id", path("x")),
    "a type that does not exist": b"\x40",
}


def test_what_is_not_offered_is_refused_clearly_and_the_session_goes_on(tmp_path: Path) -> None:
    replies = talk(tmp_path, [*REFUSED.values(), bytes([Type.REALPATH]) + path("/inbox/../inbox/.")])
    for name, reply in zip(REFUSED, replies[1:], strict=False):
        assert code(reply) is Status.OP_UNSUPPORTED, name
        assert b"is not offered here" in reply[1], name
    assert replies[-1][0] == Type.NAME and text(b"/inbox") in replies[-1][1]


def test_every_request_of_version_3(tmp_path: Path) -> None:
    write = bytes([Type.WRITE]) + handle(1) + struct.pack(">Q", 0) + text(b"content")
    times = struct.pack(">III", 8, 1_400_000_000, 1_400_000_001)
    asked = {
        "open": (opening("/inbox/a", 0x1A), Type.HANDLE),
        "write": (write, Status.OK),
        "write over a part": (bytes([Type.WRITE]) + handle(1) + struct.pack(">Q", 3) + text(b"TENT"), Status.OK),
        "fsetstat": (bytes([Type.FSETSTAT]) + handle(1) + times, Status.OK),
        "fstat": (bytes([Type.FSTAT]) + handle(1), Type.ATTRS),
        "fsync": (extended(b"fsync@openssh.com", handle(1)), Status.OK),
        "fstatvfs": (extended(b"fstatvfs@openssh.com", handle(1)), Type.EXTENDED_REPLY),
        "read what is not open for reading": (bytes([Type.READ]) + handle(1) + struct.pack(">QI", 0, 10), Status.PERMISSION_DENIED),
        "close": (bytes([Type.CLOSE]) + handle(1), Status.OK),
        "close again": (bytes([Type.CLOSE]) + handle(1), Status.FAILURE),
        "stat": (bytes([Type.STAT]) + path("/inbox/a"), Type.ATTRS),
        "lstat": (bytes([Type.LSTAT]) + path("/inbox/a"), Type.ATTRS),
        "setstat of a mode, after publication": (bytes([Type.SETSTAT]) + path("/inbox/a") + struct.pack(">II", 4, 0o106777), Status.OK),
        "setstat of times": (bytes([Type.SETSTAT]) + path("/inbox/a") + times, Status.OK),
        "setstat of an owner": (bytes([Type.SETSTAT]) + path("/inbox/a") + struct.pack(">III", 2, 0, 0), Status.OK),
        "open for reading": (opening("/inbox/a", 1), Type.HANDLE),
        "read": (bytes([Type.READ]) + handle(2) + struct.pack(">QI", 0, 100), Type.DATA),
        "read behind the end": (bytes([Type.READ]) + handle(2) + struct.pack(">QI", 2**63, 1), Status.EOF),
        "write what is open for reading": (bytes([Type.WRITE]) + handle(2) + struct.pack(">Q", 0) + text(b"x"), Status.PERMISSION_DENIED),
        "open exclusively": (opening("/inbox/a", 0x2A), Status.FAILURE),
        "open neither for reading nor for writing": (opening("/inbox/a", 0x08), Status.BAD_MESSAGE),
        "mkdir": (bytes([Type.MKDIR]) + path("/inbox/d") + NO_ATTRIBUTES, Status.OK),
        "mkdir again": (bytes([Type.MKDIR]) + path("/inbox/d") + NO_ATTRIBUTES, Status.FAILURE),
        "rename": (bytes([Type.RENAME]) + path("/inbox/a") + path("/inbox/d/a"), Status.OK),
        "rename what is gone": (bytes([Type.RENAME]) + path("/inbox/a") + path("/inbox/b"), Status.NO_SUCH_FILE),
        "posix-rename": (extended(b"posix-rename@openssh.com", path("/inbox/d/a") + path("/inbox/d/b")), Status.OK),
        "rmdir of a full folder": (bytes([Type.RMDIR]) + path("/inbox/d"), Status.FAILURE),
        "opendir": (bytes([Type.OPENDIR]) + path("/inbox/d"), Type.HANDLE),
        "readdir": (bytes([Type.READDIR]) + handle(3), Type.NAME),
        "readdir at the end": (bytes([Type.READDIR]) + handle(3), Status.EOF),
        "remove": (bytes([Type.REMOVE]) + path("/inbox/d/b"), Status.OK),
        "remove a folder as a file": (bytes([Type.REMOVE]) + path("/inbox/d"), Status.FAILURE),
        "rmdir": (bytes([Type.RMDIR]) + path("/inbox/d"), Status.OK),
        "statvfs": (extended(b"statvfs@openssh.com", path("/inbox")), Type.EXTENDED_REPLY),
        "limits": (extended(b"limits@openssh.com"), Type.EXTENDED_REPLY),
        "realpath of nothing": (bytes([Type.REALPATH]) + path(""), Type.NAME),
    }
    replies = talk(tmp_path, [body for body, _ in asked.values()])
    for (name, (_, expected)), (kind, fields) in zip(asked.items(), replies[1:], strict=True):
        told = code((kind, fields)) if isinstance(expected, Status) else kind
        assert told == expected, f"{name}: {told}, {fields[:80]!r}"
    by_name = dict(zip(asked, replies[1:], strict=True))
    assert by_name["read"][1] == text(b"conTENT")
    assert by_name["stat"][1][-8:] == struct.pack(">II", 1_400_000_001, 1_400_000_001)
    assert int.from_bytes(by_name["lstat"][1][20:24]) == 0o100600, "no mode that a client sends is ever shown"


def test_every_change_of_a_name_is_recorded_the_failed_ones_too(tmp_path: Path) -> None:
    times = struct.pack(">III", 8, 1, 2)
    talk(
        tmp_path,
        [
            bytes([Type.MKDIR]) + path("/inbox/d") + NO_ATTRIBUTES,
            bytes([Type.MKDIR]) + path("/inbox/d") + NO_ATTRIBUTES,
            bytes([Type.SETSTAT]) + path("/inbox/d") + times,
            bytes([Type.RENAME]) + path("/inbox/d") + path("/inbox/e"),
            bytes([Type.REMOVE]) + path("/inbox/none"),
            bytes([Type.RMDIR]) + path("/inbox/e"),
            bytes([Type.RMDIR]) + path("/outbox"),
            bytes([Type.STAT]) + path("/inbox/none"),
        ],
    )
    told = [(entry["event"], entry["path"]) for entry in read(tmp_path / "audit") if "path" in entry]
    assert told == [
        ("folder.made", "/inbox/d"),
        ("operation.refused", "/inbox/d"),
        ("times.set", "/inbox/d"),
        ("name.renamed", "/inbox/d"),
        ("operation.refused", "/inbox/none"),
        ("folder.removed", "/inbox/e"),
        ("operation.refused", "/outbox"),
    ]
