"""RemotePart: one client's folders in a session of the staff or an auditor, when that client is at home with another worker.

Each request goes there as a packet and comes back as its reply, one at a time, as the session asks.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from gateway.keys.paths import short_path
from gateway.sftp.limits.pace import Pace
from gateway.sftp.protocol import replies
from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.encoding import encode, greeting
from gateway.sftp.protocol.wire import MAX_PACKET, Status, Type
from gateway.sftp.session.operations import Reply
from gateway.sftp.workers.hello import FIRST_BYTE_SECONDS, Hello

log = structlog.get_logger()

_OPENING = (ask.Open, ask.OpenFolder)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class HandlesThere:
    """How many handles its home has given out."""

    def __init__(self) -> None:
        self.count = 0

    def __len__(self) -> int:
        return self.count


class RemotePart:
    """Stands where Operations would. Once the pipe has broken every request fails: what was open there is given up."""

    def __init__(self, door: Path, hello: Hello) -> None:
        self._door = door
        self._hello = hello
        self._streams: Streams | None = None
        self._is_broken = False
        self.handles = HandlesThere()
        self.pace = Pace()  # without limits: its home keeps the pace
        self.is_ending = False

    @property
    def is_transferring(self) -> bool:
        """Whether something is open there."""
        return bool(self.handles.count)

    def answer(self, request: ask.Request) -> Reply:
        """The reply, in time. A greeting is not passed on: it is sent when the pipe is opened."""
        if isinstance(request, ask.Init):
            return b""
        if self.is_ending and isinstance(request, _OPENING):
            return replies.status(request.id, Status.FAILURE, "the server is stopping; please come back in a moment")
        return self._pass(request)

    async def abandon(self) -> None:
        """The session has ended; its home gives up what is open."""
        self._is_broken = True
        if self._streams is not None:
            self._streams[1].transport.abort()

    async def _pass(self, request: ask.Request) -> bytes:
        number = request.version if isinstance(request, ask.Init) else request.id
        packet = encode(request)  # now: the data of a WRITE is a view of what the session received
        if self._is_broken:
            return _away(number)
        try:
            reader, writer = self._streams or await self._open()
            writer.write(packet)
            await writer.drain()
            reply = await _packet(reader)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            log.warning("remote.broken", client=self._hello.client, error=str(error))
            await self.abandon()
            return _away(number)
        if isinstance(request, _OPENING) and reply[4] == Type.HANDLE:
            self.handles.count += 1
        elif isinstance(request, ask.Close):
            self.handles.count = max(0, self.handles.count - 1)
        return reply

    async def _open(self) -> Streams:
        with short_path(self._door) as short:
            streams = reader, writer = await asyncio.open_unix_connection(short)
        self._streams = streams
        writer.write(self._hello.encode() + greeting())
        await asyncio.wait_for(_packet(reader), FIRST_BYTE_SECONDS)
        return streams


async def _packet(reader: asyncio.StreamReader) -> bytes:
    length = await reader.readexactly(4)
    size = int.from_bytes(length, "big")
    if not 0 < size <= 2 * MAX_PACKET:
        raise ValueError("a reply of an impossible length")
    return length + await reader.readexactly(size)


def _away(number: int) -> bytes:
    return replies.status(number, Status.FAILURE, "this client's folders cannot be reached at the moment; please log in again")
