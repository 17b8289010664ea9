"""The seam to asyncssh's connection: bounds that it does not have itself, and where a faster transport will go in.

It touches private names of asyncssh 2.24.1, which is pinned; `check_asyncssh` says at start whether they are still there.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.channel import SSHServerChannel
from asyncssh.connection import SSHServerConnection, SSHServerConnectionOptions
from asyncssh.constants import MSG_SERVICE_REQUEST

from config.errors import UsageError

WRITE_HIGH = 512 * 1024  # bytes that may wait in a connection's transport before its sessions stop
WRITE_LOW = 128 * 1024
PACKET_BEFORE_LOGIN = 40_000  # bytes: RFC 4253 asks for 35,000; logins need far less
PACKET_AFTER_LOGIN = 256 * 1024
ALIVE_IDLE, ALIVE_INTERVAL, ALIVE_COUNT = 60, 20, 4  # the kernel finds out that a peer is gone: about 140 seconds

_CONNECTION_NAMES = (
    "connection_made",
    "connection_lost",
    "pause_writing",
    "resume_writing",
    "send_userauth_failure",
    "reload_config",
    "create_server_channel",
    "_cleanup",
    "_cancel_login_timer",
    "_update_recv_pktlen",
    "_packet_handlers",
    "_process_service_request",
)
_CHANNEL_NAMES = (
    "_process_env_request",
    "_process_pty_req_request",
    "_process_x11_req_request",
    "_process_auth_agent_req_at_openssh_dot_com_request",
)


class Gate(Protocol):
    """Who decides which connections may be there."""

    def admit(self, connection: GuardedConnection) -> bool:
        """Whether one more connection is taken."""
        ...

    def gone(self, connection: GuardedConnection) -> None:
        """An admitted connection has ended."""
        ...

    @property
    def max_auth_attempts(self) -> int:
        """Failed attempts to log in after which a connection is cut."""
        ...


class BareChannel(SSHServerChannel[bytes]):
    """A session channel on which nothing but a subsystem can be asked for: no terminal, no environment, no X11, no agent."""

    def _process_env_request(self, packet: Any) -> bool:  # noqa: ARG002
        return False

    def _process_pty_req_request(self, packet: Any) -> bool:  # noqa: ARG002
        return False

    def _process_x11_req_request(self, packet: Any) -> bool | None:  # noqa: ARG002
        return False

    def _process_auth_agent_req_at_openssh_dot_com_request(self, packet: Any) -> Any:  # noqa: ARG002
        return False


class GuardedConnection(SSHServerConnection):
    """A server connection that is bounded: by its gate, in attempts, and in what waits for a peer that does not read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: SSHServerConnectionOptions, gate: Gate) -> None:
        super().__init__(loop, options)
        self._gate = gate
        self._admitted = False
        self._failures = 0
        self.is_logged_in = False
        self._max_recv_pktlen = PACKET_BEFORE_LOGIN

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._gate.admit(self):
            self._cancel_login_timer()
            cast(asyncio.Transport, transport).abort()
            return
        self._admitted = True
        cast(asyncio.Transport, transport).set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)
        _watch_peer(transport.get_extra_info("socket"))
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None = None) -> None:
        if self._admitted:
            super().connection_lost(exc)

    def _cleanup(self, exc: Exception | None) -> None:
        super()._cleanup(exc)
        if self._admitted:
            self._admitted = False
            self._gate.gone(self)

    def pause_writing(self) -> None:
        """The peer does not read: answer nothing, and take nothing more from it, until it does."""
        self._tell_owner(full=True)
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The peer reads again."""
        if self._transport is not None:
            self._transport.resume_reading()
        self._tell_owner(full=False)

    def _tell_owner(self, *, full: bool) -> None:
        told = getattr(self._owner, "transport_full", None)
        if told is not None:
            told(full)

    async def reload_config(self) -> None:
        """There are no settings by user or address; asyncssh would read all of them again at each login."""

    def send_userauth_failure(self, partial_success: bool) -> None:
        self._failures += 1  # the first one may be "none", with which clients ask what there is
        limit = self._gate.max_auth_attempts
        if self._failures > limit or getattr(self._owner, "attempts", 0) >= limit:
            raise asyncssh.DisconnectError(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "too many attempts to log in")
        super().send_userauth_failure(partial_success)

    def _serve_again(self, pkttype: int, pktid: int, packet: Any) -> None:
        """paramiko asks for the authentication service before each of its keys; asyncssh alone would cut it off at the second one."""
        self._process_service_request(pkttype, pktid, packet)
        if not self._auth_complete:
            self._next_service = b"ssh-userauth"

    _packet_handlers = {**SSHServerConnection._packet_handlers, MSG_SERVICE_REQUEST: _serve_again}  # noqa: RUF012 - never changed

    def logged_in(self) -> None:
        """Larger packets are taken from now on."""
        self.is_logged_in = True
        self._max_recv_pktlen = PACKET_AFTER_LOGIN

    @property
    def failures(self) -> int:
        """Attempts to log in that were refused."""
        return self._failures

    def create_server_channel(
        self,
        encoding: str | None = "",  # noqa: ARG002 - bytes, whatever is asked for
        errors: str = "",  # noqa: ARG002
        window: int = 0,
        max_pktsize: int = 0,
    ) -> SSHServerChannel[Any]:
        size = max_pktsize or self._max_pktsize
        self._update_recv_pktlen(size)
        return BareChannel(self, self._loop, False, False, False, 0, 0, None, "strict", window or self._window, size)


def _watch_peer(peer: Any) -> None:
    """Let the kernel probe a silent peer: it costs nothing for each packet, unlike asyncssh's own keepalive."""
    if isinstance(peer, socket.socket) or hasattr(peer, "setsockopt"):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, ALIVE_IDLE)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ALIVE_INTERVAL)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, ALIVE_COUNT)


def check_asyncssh() -> None:
    """Raise UsageError when this asyncssh lacks a name that the bounds hang on."""
    missing = [name for name in _CONNECTION_NAMES if not hasattr(SSHServerConnection, name)]
    missing += [name for name in _CHANNEL_NAMES if not hasattr(SSHServerChannel, name)]
    if missing:
        raise UsageError(f"asyncssh {asyncssh.__version__} does not fit: it lacks {', '.join(missing)}", "install the version of requirements.lock")
