"""Guests: SFTP sessions whose SSH connection is with another worker, and whose client is at home here."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable
from typing import Protocol, cast

import asyncssh
import structlog

from gateway.catalog import Client
from gateway.sftp.authentication.accounts import Account
from gateway.sftp.session.session import SftpSession
from gateway.sftp.workers.hello import HELLO_BYTES, Hello

log = structlog.get_logger()

HELLO_SECONDS = 10.0


class Host(Protocol):
    """What a guest asks of the server."""

    def receive(self, guest: Guest, hello: Hello) -> Awaitable[SftpSession | None]:
        """The session of a guest, whose account and client are told to it; None refuses."""
        ...

    def guest_gone(self, guest: Guest) -> None:
        """It has ended."""
        ...


class Guest(asyncio.Protocol):
    """One pipe: to its session it is the channel, to the server it is the login."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._pipe: asyncio.Transport | None = None
        self._hello = bytearray()
        self._session: SftpSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False  # nothing more comes
        self.account: Account | None = None
        self.client: Client | None = None  # None: a part of a session that is in several clients' folders
        self.touched_at = 0.0
        self.address = ""
        self.software = ""
        self.sessions: set[SftpSession] = set()

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody knocks: only another process of ours is let in."""
        self._pipe = cast(asyncio.Transport, transport)
        if not _is_ours(transport.get_extra_info("socket")):
            log.warning("guest.stranger")
            self._pipe.abort()
            return
        asyncio.get_running_loop().call_later(HELLO_SECONDS, self._expect_hello)

    def data_received(self, data: bytes) -> None:
        """The hello, and then requests."""
        if self._session is not None:
            self._session.data_received(data, None)
            return
        self._hello += data
        if self._task is None:
            line, found, rest = self._hello.partition(b"\n")
            if found:
                self._hello = bytearray(rest)
                self.pause_reading()
                self._task = asyncio.get_running_loop().create_task(self._enter(bytes(line)))
            elif len(self._hello) > HELLO_BYTES:
                self.abort()

    def eof_received(self) -> bool:
        """Nothing more comes."""
        self._ended = True
        if self._session is not None:
            self._session.eof_received()
        elif self._task is None:
            return False
        return True

    def pause_writing(self) -> None:
        """The other worker takes no more for now."""
        if self._session is not None:
            self._session.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        if self._session is not None:
            self._session.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The session has ended."""
        self._pipe = None
        if self._session is not None:
            self._session.connection_lost(exc)
        self._host.guest_gone(self)

    async def _enter(self, line: bytes) -> None:
        try:
            hello = Hello.decode(line)
        except ValueError:
            self.abort()
            return
        self.address, self.software = hello.address, hello.software
        session = await self._host.receive(self, hello)
        if session is None or self._pipe is None:
            self.abort()
            return
        self.sessions.add(session)
        session.connection_made(cast("asyncssh.SSHServerChannel[bytes]", self))
        if not session.subsystem_requested("sftp"):
            self.abort()
            return
        self._session = session
        early, self._hello = bytes(self._hello), bytearray()
        self.resume_reading()
        session.data_received(early, None)
        if self._ended:
            session.eof_received()

    def _expect_hello(self) -> None:
        if self._task is None:
            self.abort()

    # what the session calls: the part of a channel that it needs

    def set_write_buffer_limits(self, high: int) -> None:
        """Bytes of replies that may wait."""
        if self._pipe is not None:
            self._pipe.set_write_buffer_limits(high=high)

    def write(self, data: bytes) -> None:
        """Send replies."""
        if self._pipe is not None:
            self._pipe.write(data)

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._pipe is None or self._pipe.is_closing()

    def pause_reading(self) -> None:
        """Take no requests for now."""
        if self._pipe is not None and not self._pipe.is_closing():
            self._pipe.pause_reading()

    def resume_reading(self) -> None:
        """Take them again."""
        if self._pipe is not None and not self._pipe.is_closing():
            self._pipe.resume_reading()

    def exit(self, status: int) -> None:
        """End once everything is written."""
        if self._pipe is not None:
            self._pipe.close() if status == 0 else self._pipe.abort()

    # what the server calls

    def touch(self) -> None:
        """Something was asked, or answered."""
        self.touched_at = asyncio.get_running_loop().time()

    @property
    def is_transferring(self) -> bool:
        """Whether a paper is open."""
        return any(session.is_transferring for session in self.sessions)

    def abort(self) -> None:
        """End now."""
        if self._pipe is not None:
            self._pipe.abort()


def _is_ours(peer: socket.socket) -> bool:
    """Whether the process at the other end runs as this user."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return bool(user == os.geteuid())
