"""RelaySession: an SFTP session whose client is at home with another worker. Its bytes pass through, in both directions, and are not looked at.

Bounded in both directions: what the home does not take is not read from the client, and the other way round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import structlog

from gateway.keys.paths import short_path
from gateway.sftp.session.session import READ_AHEAD, SftpSession
from gateway.sftp.session.sftponly import SftpOnlySession
from gateway.sftp.workers.hello import FIRST_BYTE_SECONDS, Hello

log = structlog.get_logger()


class RelaySession(SftpOnlySession):
    """A session channel. Stands where an SftpSession would, for its login and for the server."""

    def __init__(self, door: Path, hello: Hello, leave: Callable[[RelaySession], None], touch: Callable[[], None]) -> None:
        super().__init__()
        self._door = door
        self._hello = hello
        self._leave = leave
        self._touch = touch
        self._pipe: asyncio.Transport | None = None
        self._early = bytearray()  # what came before the door opened
        self._ending = False  # the client has said that it sends no more
        self._answered = False
        self._full: set[str] = set()  # what has no room for replies
        self._opening: asyncio.Task[None] | None = None
        self.person: str | None = None  # its home counts it

    # what asyncssh calls

    def sftp_requested(self) -> bool:
        """Knock at the door of the client's home."""
        self._opening = asyncio.get_running_loop().create_task(self._open())
        return True

    def data_received(self, data: bytes, datatype: int | None) -> None:  # noqa: ARG002
        """Requests."""
        self._touch()
        if self._pipe is not None:
            self._pipe.write(data)
        else:
            self._early += data
            if len(self._early) > READ_AHEAD:
                self._stop_reading(True)

    def eof_received(self) -> bool:
        """The client sends no more."""
        self._ending = True
        if self._pipe is not None:
            self._pipe.write_eof()
        return True

    def pause_writing(self) -> None:
        """The channel takes no more for now."""
        self._no_room("channel", True)

    def resume_writing(self) -> None:
        """It does again."""
        self._no_room("channel", False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The client has gone."""
        self._channel = None
        self.stop()
        self._leave(self)

    # what the connection and the server call

    def transport_full(self, full: bool) -> None:
        """The connection's transport holds too much, or has room again."""
        self._no_room("transport", full)

    def stop(self) -> None:
        """Pass nothing on any more."""
        if self._opening is not None:
            self._opening.cancel()
        if self._pipe is not None:
            self._pipe.abort()

    async def finished(self) -> None:
        """Its home gives up its handles."""

    def record_end(self) -> None:
        """Its home records it."""

    @property
    def is_busy(self) -> bool:
        """Whether a request is being handled: its home does not say."""
        return False

    @property
    def is_transferring(self) -> bool:
        """Whether a paper may be open: its home does not say; without traffic it counts for nothing."""
        return self._pipe is not None and not self._pipe.is_closing()

    def take_nothing_new(self) -> None:
        """Its home stops, too, and refuses what is new itself."""

    # the pipe

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            with short_path(self._door) as short:
                await loop.create_unix_connection(lambda: _Pipe(self), short)
        except OSError as error:
            log.warning("relay.no_home", client=self._hello.client, error=str(error))
            self.pipe_lost()

    def pipe_made(self, pipe: asyncio.Transport) -> None:
        """The door is open."""
        self._pipe = pipe
        pipe.set_write_buffer_limits(high=READ_AHEAD)
        pipe.write(self._hello.encode())
        pipe.write(bytes(self._early))
        self._early.clear()
        if self._ending:
            pipe.write_eof()
        self._stop_reading(False)
        if self._full:
            pipe.pause_reading()
        asyncio.get_running_loop().call_later(FIRST_BYTE_SECONDS, self._expect_answer)

    def came_back(self, data: bytes) -> None:
        """Replies."""
        self._answered = True
        self._touch()
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(data)

    def pipe_full(self, full: bool) -> None:
        """The home takes no more for now, or does again."""
        self._stop_reading(full)

    def pipe_lost(self) -> None:
        """The home has ended the session, or has ended."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.exit(0 if self._ending else 1)

    def _expect_answer(self) -> None:
        if not self._answered and self._pipe is not None:
            self._pipe.abort()

    def _stop_reading(self, stop: bool) -> None:
        if self._channel is not None and not self._channel.is_closing():
            if stop:
                self._channel.pause_reading()
            else:
                self._channel.resume_reading()

    def _no_room(self, where: str, full: bool) -> None:
        before = bool(self._full)
        (self._full.add if full else self._full.discard)(where)
        if self._pipe is not None and bool(self._full) != before and not self._pipe.is_closing():
            if self._full:
                self._pipe.pause_reading()
            else:
                self._pipe.resume_reading()


AnySession = SftpSession | RelaySession


class _Pipe(asyncio.Protocol):
    """The other end of a session, as asyncio sees it."""

    def __init__(self, session: RelaySession) -> None:
        self._session = session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._session.pipe_made(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._session.came_back(data)

    def pause_writing(self) -> None:
        self._session.pipe_full(True)

    def resume_writing(self) -> None:
        self._session.pipe_full(False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._session.pipe_lost()
