"""Uploads in the manner of WinSCP, request by request: what it sends for a file of more than 100 KB (https://winscp.net/eng/docs/resume).

It asks for version 6 and takes 3. It looks for NAME and NAME.filepart, writes the latter without APPEND, goes on where it ends after a lost line
(opened without CREATE and TRUNCATE), removes an older NAME, renames, and sets the times by name. Extensions that are not offered it asks for now and
then all the same.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from paramiko import sftp as number

from gateway.sftp.protocol.wire import OpenFlag
from tests.integration.sftp_rig import CLIENT, Server, paramiko_client, running_server

FINAL, PART = b"/inbox/Bericht 2026.pdf", b"/inbox/Bericht 2026.pdf.filepart"
PIECE = 32 * 1024
NOTHING = paramiko.SFTPAttributes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("winscp"), "settle_seconds = 0.1\nunfinished_name_seconds = 0.3\n") as running:
        yield running


class WinScp(paramiko.SFTPClient):
    """A session, by the requests that it consists of."""

    def _send_version(self) -> int:
        greeting = paramiko.Message()
        greeting.add_int(6)
        self._send_packet(number.CMD_INIT, greeting)
        kind, data = self._read_packet()
        assert kind == number.CMD_VERSION
        return int(struct.unpack(">I", data[:4])[0])

    def ask(self, kind: int, *fields: Any) -> paramiko.Message:
        """The reply to one request."""
        _, reply = self._request(kind, *fields)
        assert isinstance(reply, paramiko.Message)
        return reply

    def size_of(self, name: bytes) -> int | None:
        """By LSTAT; None where nothing is."""
        try:
            return paramiko.SFTPAttributes._from_msg(self.ask(number.CMD_LSTAT, name)).st_size
        except FileNotFoundError:
            return None

    def opened(self, name: bytes, flags: int) -> bytes:
        """The handle."""
        return self.ask(number.CMD_OPEN, name, flags, NOTHING).get_binary()

    def write(self, handle: bytes, content: bytes, start: int, end: int) -> None:
        """WRITEs, several under way, with the offsets of the file."""
        for at in range(start, end, PIECE):
            self._async_request(type(None), number.CMD_WRITE, handle, number.int64(at), content[at : min(at + PIECE, end)])
        for _ in range(start, end, PIECE):
            self._convert_status(self._reply())

    def _reply(self) -> paramiko.Message:
        kind, data = self._read_packet()
        assert kind == number.CMD_STATUS
        message = paramiko.Message(data)
        message.get_int()
        return message

    def finish(self, handle: bytes, modified: int) -> None:
        """CLOSE, away with what NAME stood for, the rename, and the times by name."""
        self.ask_done(number.CMD_CLOSE, handle)
        if self.size_of(FINAL) is not None:
            self.ask_done(number.CMD_REMOVE, FINAL)
        self.ask_done(number.CMD_RENAME, PART, FINAL)
        times = paramiko.SFTPAttributes()
        times.st_mode, times.st_atime, times.st_mtime = 0o644, modified, modified
        times._flags = times.FLAG_PERMISSIONS | times.FLAG_AMTIME
        self.ask_done(number.CMD_SETSTAT, FINAL, times)

    def ask_done(self, kind: int, *fields: Any) -> None:
        """A request that is answered by OK."""
        kind, _ = self._request(kind, *fields)
        assert kind == number.CMD_STATUS


def session(client: paramiko.SSHClient) -> WinScp:
    transport = client.get_transport()
    assert transport is not None
    opened = WinScp.from_transport(transport)
    assert isinstance(opened, WinScp)
    return opened


def settled(server: Server, content: bytes) -> None:
    """Wait until the paper has landed. The spool names it by the path under which it was closed; the event by the one under which it landed."""
    deadline = time.monotonic() + 240
    while content not in server.landed().values():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_upload_that_is_cut_resumed_and_done_again(server: Server, tmp_path: Path) -> None:
    content, newer = os.urandom(400_000), os.urandom(250_000)
    with paramiko_client(server) as client:
        first = session(client)
        assert first.ask(number.CMD_REALPATH, b".").get_int() == 1
        assert (first.size_of(FINAL), first.size_of(PART)) == (None, None)
        handle = first.opened(PART, OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE)
        first.write(handle, content, 0, 9 * PIECE)
    with paramiko_client(server) as client:  # the line was lost
        again = session(client)
        deadline = time.monotonic() + 240
        while not (there := again.size_of(PART)) or there < 4 * PIECE:
            assert time.monotonic() < deadline
        assert there <= 9 * PIECE
        assert again.size_of(FINAL) is None
        handle = again.opened(PART, OpenFlag.WRITE)
        again.write(handle, content, there, len(content))
        again.finish(handle, 1_600_000_000)
        assert (again.stat(FINAL.decode()).st_size, again.stat(FINAL.decode()).st_mtime) == (len(content), 1_600_000_000)
        assert again.size_of(PART) is None
        settled(server, content)
        assert again.stat(FINAL.decode()).st_mtime == 1_600_000_000
        handle = again.opened(PART, OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE)
        again.write(handle, newer, 0, len(newer))
        again.finish(handle, 1_700_000_000)
        settled(server, newer)
        with again.open(FINAL.decode()) as file:
            assert file.read() == newer
        assert again.listdir("/inbox") == ["Bericht 2026.pdf"]
    names = [event["path"] for event in server.events("paper.landed") if event["client"] == CLIENT]
    assert names == [FINAL.decode()] * 2, "nothing lands under its unfinished name"


def test_what_it_asks_for_beside_files_is_answered_and_the_session_goes_on(server: Server) -> None:
    with paramiko_client(server) as client:
        opened = session(client)
        reply = opened.ask(number.CMD_EXTENDED, b"statvfs@openssh.com", b"/inbox")
        assert reply.get_int64() == 4096
        refused = [
            (b"check-file-name", b"/inbox/x", b"sha256,sha1,md5"),
            (b"space-available", b"/inbox"),
            (b"version-select", b"6"),
            (b"vendor-id", b"Martin Prikryl", b"WinSCP"),
            (b"copy-file", b"/inbox/a", b"/inbox/b"),
            (b"hardlink@openssh.com", b"/inbox/a", b"/inbox/b"),
        ]
        for name, *fields in refused:
            with pytest.raises(OSError, match="is not offered here"):
                opened.ask(number.CMD_EXTENDED, name, *fields)
        assert opened.ask(number.CMD_REALPATH, b"/inbox/..").get_int() == 1
