"""One SFTP session: bytes of its channel in, requests handled in order, replies out. Bounded in both directions.

All requests of one piece of data are handled together and answered by one write. A request that waits (for a disk, a key) holds back those
behind it, and nobody else's. Reading pauses while more than READ_AHEAD bytes wait; handling pauses while the peer does not take what it
asked for: asyncssh's own pausing stops nothing, so the channel is paused here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from gateway.audit.events import Event
from gateway.sftp.protocol import replies
from gateway.sftp.protocol.decoding import Unpacker, decode
from gateway.sftp.protocol.requests import Malformed
from gateway.sftp.protocol.wire import Status
from gateway.sftp.session.desk import Desk
from gateway.sftp.session.operations import Operations
from gateway.sftp.session.recording import SessionRecord
from gateway.sftp.session.sftponly import SftpOnlySession
from gateway.sftp.session.shares import Share, in_turns

log = structlog.get_logger()

READ_AHEAD = 512 * 1024  # bytes of requests that may wait
ANSWER_PIECE = 256 * 1024  # bytes of replies in one write
TURN_BYTES = 1024 * 1024  # requests and replies of one session in one turn of the event loop; then the others come
LONGEST_PAUSE = 5.0  # seconds; then a session that is held to a speed looks again


class SftpSession(SftpOnlySession):
    """A session channel. `enter` is called when the client asks for SFTP, and gives the operations (or None to refuse); `leave` at the end.

    `share` is of the event loop's time, the same one for all that a person has.
    """

    def __init__(
        self,
        enter: Callable[[SftpSession], Operations | Desk | None],
        leave: Callable[[SftpSession], None],
        touch: Callable[[], None],
        share: Share,
    ) -> None:
        super().__init__()
        self._enter = enter
        self._leave = leave
        self._touch = touch
        self._operations: Operations | Desk | None = None
        self._unpacker = Unpacker()
        self._busy = False  # a request waits; those behind it wait too
        self._pumping = False
        self.turn_is_over = False  # the others come first
        self._channel_full = False
        self._transport_full = False
        self._reading_paused = False
        self._ending = False  # the client has said that it sends no more
        self._closed = False
        self.share = share
        self._task: asyncio.Task[None] | None = None
        self.person: str | None = None
        self._record: SessionRecord | None = None
        self._give_back: Callable[[], None] = lambda: None
        self._waits_for_pace = False  # the client's speed limit

    # what asyncssh calls

    def sftp_requested(self) -> bool:
        """The operations are asked for; without any it is refused."""
        self._operations = self._enter(self)
        return self._operations is not None

    def data_received(self, data: bytes, datatype: int | None) -> None:  # noqa: ARG002
        """Bytes of requests."""
        self._touch()
        self._unpacker.feed(data)
        if self.turn_is_over:
            self._steer_reading()
        elif not self._pumping:
            self._pump()

    def eof_received(self) -> bool:
        """The client sends no more: what it sent is answered, and the session ends."""
        self._ending = True
        if not self._pumping and not self.turn_is_over:
            self._pump()
        return True

    def pause_writing(self) -> None:
        """The channel takes no more for now."""
        self._channel_full = True

    def resume_writing(self) -> None:
        """It does again."""
        self._channel_full = False
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The client has gone."""
        self._closed = True
        self._channel = None
        self._leave(self)

    # what the connection calls

    def transport_full(self, full: bool) -> None:
        """The connection's transport holds too much, or has room again."""
        self._transport_full = full
        if not full:
            self._go_on()

    async def finished(self) -> None:
        """Wait for the request that is being handled, then give up every handle as lost."""
        self._closed = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        if self._operations is not None:
            await self._operations.abandon()

    def opened_as(self, person: str, record: SessionRecord, give_back: Callable[[], None]) -> None:
        """It counts as a session of `person` from now on; `give_back` is called at its end."""
        self.person = person
        self._record = record
        self._give_back = give_back

    def record_end(self) -> None:
        """The audit event of the session's end."""
        self._give_back()
        if self._record is not None:
            self._record.record(Event.SESSION_CLOSED, refusals=self._record.refusals)

    @property
    def is_busy(self) -> bool:
        """Whether a request is being handled that waits for something of ours."""
        return self._busy

    @property
    def is_transferring(self) -> bool:
        """Whether a paper is open, or something is being handled."""
        return self._busy or (self._operations is not None and self._operations.is_transferring)

    def take_nothing_new(self) -> None:
        """What is open goes on; nothing further is opened."""
        if self._operations is not None:
            self._operations.is_ending = True

    def stop(self) -> None:
        """Handle nothing more; what is being handled ends."""
        self._closed = True

    # the work

    def _go_on(self) -> None:
        if not self._pumping and not self._closed:
            asyncio.get_running_loop().call_soon(self._pump)

    @property
    def _held_up(self) -> bool:
        return self._busy or self._waits_for_pace or self._channel_full or self._transport_full or self._closed

    def _pump(self) -> None:
        """Handle what can be handled now."""
        if self._operations is None or self._pumping or self._closed:
            return
        if self.share.is_spent:
            self._go_on_later()
            return
        self._pumping = True
        self.share.begin()
        try:
            self._handle_some(self._operations)
        except Malformed as error:
            log.info("session.malformed", error=error.text)
            self._end(1)
        finally:
            self._pumping = False
            self.share.end()
        self._steer_reading()

    def _handle_some(self, operations: Operations | Desk) -> None:
        ready: list[bytes] = []
        waiting = turn = 0
        while not self._held_up:
            if turn and self._unpacker.buffered and (turn >= TURN_BYTES or self.share.is_spent):
                self._go_on_later()
                break
            body = self._unpacker.next()
            if body is None:
                if self._ending:
                    self._write(ready)
                    self._end(0)
                    return
                break
            reply = self._reply_to(operations, body)
            if operations.pace.is_limited:
                self._keep_pace(operations.pace.wait_seconds)
            turn += len(body)
            if isinstance(reply, bytes):
                ready.append(reply)
                waiting += len(reply)
                turn += len(reply)
                if waiting >= ANSWER_PIECE:
                    self._write(ready)
                    ready, waiting = [], 0
            else:
                self._busy = True
                self._task = asyncio.get_running_loop().create_task(self._wait_for(reply))
        self._write(ready)

    def _keep_pace(self, seconds: float) -> None:
        """Handle nothing more for so long: the client's window fills, and it waits, too."""
        if seconds > 0 and not self._waits_for_pace:
            self._waits_for_pace = True
            asyncio.get_running_loop().call_later(min(seconds, LONGEST_PAUSE), self._pace_is_kept)

    def _pace_is_kept(self) -> None:
        self._waits_for_pace = False
        self._touch()
        self._go_on()

    def _go_on_later(self) -> None:
        if not self.turn_is_over:
            self.turn_is_over = True
            self.share.later(self._next_turn)

    def _next_turn(self) -> None:
        self.turn_is_over = False
        self._pump()

    def _reply_to(self, operations: Operations | Desk, body: memoryview) -> bytes | Coroutine[Any, Any, bytes]:
        try:
            return operations.answer(decode(body))
        except Malformed as error:
            if error.request_id is None:
                raise
            return replies.status(error.request_id, Status.BAD_MESSAGE, error.text)

    async def _wait_for(self, reply: Coroutine[Any, Any, bytes]) -> None:
        data = await in_turns(self.share, reply)
        self._busy = False
        self._write([data])
        self._touch()
        self._pump()

    def _write(self, ready: list[bytes]) -> None:
        channel = self._channel
        if ready and channel is not None and not channel.is_closing():
            channel.write(ready[0] if len(ready) == 1 else b"".join(ready))

    def _end(self, status: int) -> None:
        self._closed = True
        if self._channel is not None and not self._channel.is_closing():
            self._channel.exit(status)

    def _steer_reading(self) -> None:
        """Take no more from the channel than can be handled: its window then stops the peer."""
        if self._channel is None or self._closed:
            return
        full = self._channel_full or self._transport_full or self._unpacker.buffered > READ_AHEAD
        if full and not self._reading_paused:
            self._reading_paused = True
            self._channel.pause_reading()
        elif not full and self._reading_paused:
            self._reading_paused = False
            self._channel.resume_reading()
