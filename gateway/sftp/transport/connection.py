"""The seam to asyncssh's connection: bounds that it does not have itself, and where a faster transport will go in.

It touches private names of asyncssh 2.24.1, which is pinned; `check_asyncssh` says at start whether they are still there.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.channel import SSHServerChannel
from asyncssh.connection import SSHConnection, SSHServerConnection, SSHServerConnectionOptions
from asyncssh.constants import DISC_TOO_MANY_CONNECTIONS, MSG_DISCONNECT, MSG_SERVICE_REQUEST
from asyncssh.public_key import CERT_TYPE_USER, SSHOpenSSHCertificate

from config.errors import UsageError
from gateway.audit.sshwire import pack
from gateway.catalog.networks import contains, parse_address
from gateway.sftp.session.shares import Share

WRITE_HIGH = 512 * 1024  # bytes that may wait in a connection's transport before its sessions stop
WRITE_LOW = 128 * 1024
PACKET_BEFORE_LOGIN = 40_000  # bytes: RFC 4253 asks for 35,000; logins need far less
PACKET_AFTER_LOGIN = 256 * 1024
PACKETS_BEFORE_LOGIN = 500  # one login takes some tens
EXCHANGES_BEFORE_LOGIN = 2  # of keys: they are dear; a login takes one
# asyncssh cuts each packet off the front of all that it has received, which costs the square of the number of packets: feed it little at a time
FEED_BEFORE_LOGIN = 1024  # bytes
FEED_AFTER_LOGIN = 64 * 1024
FEED_LEAST = 1024  # to a peer whose packets are tiny: they cost as much as large ones
FEED_SECONDS = 0.0005  # of one connection in one turn of the event loop; then the others come
FEED_AGAIN_SECONDS = 0.01  # between looks whether a packet that waits for something has been handled
MOST_DEFERRED = 2000  # packets that wait for the end of an exchange of keys
FAREWELL_SECONDS = 2.0  # that somebody for whom there is no place has to read so
ALIVE_IDLE, ALIVE_INTERVAL, ALIVE_COUNT = 60, 20, 4  # the kernel finds out that a peer is gone: about 140 seconds

_CONNECTION_NAMES = (
    "connection_made",
    "connection_lost",
    "pause_writing",
    "resume_writing",
    "send_userauth_failure",
    "send_userauth_success",
    "validate_public_key",
    "_validate_openssh_certificate",
    "reload_config",
    "create_server_channel",
    "_cleanup",
    "_cancel_login_timer",
    "_update_recv_pktlen",
    "_send_kexinit",
    "_send_deferred_packets",
    "_force_close",
    "_packet_handlers",
    "_process_service_request",
)
_CONNECTION_ATTRIBUTES = (
    "_inpbuf",
    "_recv_seq",
    "_version",
    "_kex_complete",
    "_deferred_packets",
    "_max_recv_pktlen",
    "_transport",
    "_owner",
    "_auth",
    "_sig_algs",
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
        """Whether one more connection is taken; one that is not may be given a `farewell`."""
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

    def __init__(self, loop: asyncio.AbstractEventLoop, options: SSHServerConnectionOptions, gate: Gate, share: Share) -> None:
        super().__init__(loop, options)
        self._gate = gate
        self.share = share  # of the event loop's time: the strangers', until it is a person's
        self._admitted = False
        self._failures = 0
        self._unfed = memoryview(b"")  # received, and not given to asyncssh yet
        self._stopped_for: set[str] = set()  # why nothing is read
        self._is_full = False  # the transport holds too much
        self._piece = FEED_AFTER_LOGIN  # bytes that are fed at once, as long as that does not take long
        self._packets = 0  # received before login; asyncssh's own count begins again with each exchange of keys
        self._counted = 0
        self._exchanges = 0
        self.address = "unknown"
        self.farewell = ""  # what a connection that is not taken is told
        self.is_logged_in = False
        self.spoke = False  # anything at all was received
        self._max_recv_pktlen = PACKET_BEFORE_LOGIN

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask the gate; a connection that it does not take is cut, without a word where the gate gives none."""
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unknown"
        if not self._gate.admit(self):
            self._cancel_login_timer()
            if self.farewell:
                _say_farewell(cast(asyncio.Transport, transport), last_words(self._version, self.farewell))
            else:
                cast(asyncio.Transport, transport).abort()
            return
        self._admitted = True
        cast(asyncio.Transport, transport).set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)
        _watch_peer(transport.get_extra_info("socket"))
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None = None) -> None:
        """The peer has gone."""
        if self._admitted:
            super().connection_lost(exc)

    def _cleanup(self, exc: Exception | None) -> None:
        try:
            super()._cleanup(exc)
        finally:  # whatever went wrong above: its place is free
            if self._admitted:
                self._admitted = False
                self._gate.gone(self)

    def pause_writing(self) -> None:
        """The peer does not read: answer nothing, and take nothing more from it, until it does."""
        self._is_full = True
        self._tell_owner()
        self._stop_reading("full")

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._is_full = False
        self._read_again("full")
        self._tell_owner()

    def _tell_owner(self) -> None:
        told = getattr(self._owner, "transport_full", None)
        if told is not None:
            told(self._is_full or not self._kex_complete)

    def _stop_reading(self, why: str) -> None:
        if not self._stopped_for and self._transport is not None:
            self._transport.pause_reading()
        self._stopped_for.add(why)

    def _read_again(self, why: str) -> None:
        self._stopped_for.discard(why)
        if not self._stopped_for and self._transport is not None:
            self._transport.resume_reading()

    # what comes in

    def data_received(self, data: bytes, datatype: int | None = None) -> None:  # noqa: ARG002
        """Give asyncssh what came: a little at once, the rest when the others have had their turn."""
        self.spoke = True
        if self._unfed:
            self._unfed = memoryview(bytes(self._unfed) + data)
            return
        self._unfed = memoryview(data)
        self._feed()

    def _feed(self) -> None:
        share = self.share
        share.begin()
        try:
            self._feed_some(share)
        finally:
            share.end()

    def _feed_some(self, share: Share) -> None:
        most = FEED_AFTER_LOGIN if self.is_logged_in else FEED_BEFORE_LOGIN
        now = time.monotonic()
        until = now + FEED_SECONDS
        while self._unfed and self._transport is not None:
            if len(self._inpbuf) > self._max_recv_pktlen + most:  # a packet waits, for the catalog perhaps
                self._stop_reading("feeding")
                self._loop.call_later(FEED_AGAIN_SECONDS, self._feed)
                return
            if now >= until or share.must_wait:
                self._stop_reading("feeding")
                share.later(self._feed)
                return
            size = min(self._piece, most)
            piece, self._unfed = self._unfed[:size], self._unfed[size:]
            self._take(bytes(piece))
            before, now = now, time.monotonic()
            self._piece = max(FEED_LEAST, size // 2) if now - before > FEED_SECONDS / 2 else min(FEED_AFTER_LOGIN, size * 2)
        self._unfed = memoryview(b"")
        if "feeding" in self._stopped_for:
            self._read_again("feeding")

    def _take(self, piece: bytes) -> None:
        super().data_received(piece)
        if not self.is_logged_in:
            self._packets += self._recv_seq - self._counted if self._recv_seq >= self._counted else self._recv_seq
            self._counted = self._recv_seq
            if self._packets > PACKETS_BEFORE_LOGIN:
                self._force_close(asyncssh.ProtocolError("too many packets before login"))
        elif len(self._deferred_packets) > MOST_DEFERRED:
            self._force_close(asyncssh.ProtocolError("an exchange of keys that does not end"))

    # exchanges of keys: meanwhile asyncssh keeps all that is to be sent, without a bound

    def _send_kexinit(self) -> None:
        self._exchanges += 1
        if not self.is_logged_in and self._exchanges > EXCHANGES_BEFORE_LOGIN:
            raise asyncssh.ProtocolError("too many exchanges of keys before login")
        super()._send_kexinit()
        self._tell_owner()

    def _send_deferred_packets(self) -> None:
        super()._send_deferred_packets()
        self._tell_owner()

    async def reload_config(self) -> None:
        """There are no settings by user or address; asyncssh would read all of them again at each login."""

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """asyncssh takes any signature that an RSA key can make, SHA-1 among them."""
        if msg and not signed_by(signature, self._sig_algs):
            return False
        try:
            return await super().validate_public_key(username, key_data, msg, signature)
        except ValueError:  # no key at all: a point that is not on its curve, say
            return False

    async def _validate_openssh_certificate(self, username: str, cert: SSHOpenSSHCertificate) -> asyncssh.SSHKey | None:
        """The owner has a word about every certificate, and one without principals is for nobody."""
        try:
            cert.validate(CERT_TYPE_USER, username)
        except ValueError:
            return None
        networks: Any = cert.options.get("source-address")
        if networks and not contains((str(network) for network in networks), parse_address(self.address)):
            return None
        if not await self._owner.validate_certificate(username, cert):  # type: ignore[attr-defined]
            return None
        cert.key.set_touch_required(not cert.options.get("no-touch-required", False))
        return cert.key

    async def send_userauth_success(self) -> None:
        """One factor was shown. Where it does not suffice, the answer is a failure that says so ("partial success", RFC 4252, section 5.1)."""
        method = bytes(getattr(self._auth, "_method", b"")).decode("ascii", "replace")
        if self._owner is not None and not self._owner.factor_shown(method):  # type: ignore[attr-defined]
            super().send_userauth_failure(True)
            return
        await super().send_userauth_success()

    def send_userauth_failure(self, partial_success: bool) -> None:
        """One attempt was refused. Raises DisconnectError when there were too many."""
        self._failures += 1  # the first one may be "none", with which clients ask what there is
        if self._failures > self._gate.max_auth_attempts:
            raise _too_many_attempts()
        self.check_attempts(getattr(self._owner, "attempts", 0) + 1)  # there may be one more
        super().send_userauth_failure(partial_success)

    def check_attempts(self, count: int) -> None:
        """Raise DisconnectError when there may not be so many."""
        if count > self._gate.max_auth_attempts:
            raise _too_many_attempts()

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
        """A channel for SFTP alone, whatever asyncssh would make."""
        size = max_pktsize or self._max_pktsize
        self._update_recv_pktlen(size)
        return self._new_channel(window or self._window, size)

    def _new_channel(self, window: int, size: int) -> SSHServerChannel[Any]:
        return BareChannel(self, self._loop, False, False, False, 0, 0, None, "strict", window, size)


def _too_many_attempts() -> asyncssh.DisconnectError:
    return asyncssh.DisconnectError(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "too many attempts to log in")


def _say_farewell(transport: asyncio.Transport, words: bytes) -> None:
    """Let the peer read them: were the socket closed while something of the peer's is unread, a reset would overtake them."""
    transport.pause_reading()
    transport.write(words)
    transport.write_eof()
    asyncio.get_running_loop().call_later(FAREWELL_SECONDS, transport.abort)


def last_words(version: bytes, text: str) -> bytes:
    """All that a server says to somebody for whom it has no place: its version, and a DISCONNECT (RFC 4253, section 11.1) before any key exchange."""
    payload = bytes([MSG_DISCONNECT]) + DISC_TOO_MANY_CONNECTIONS.to_bytes(4, "big") + pack(text.encode(), b"")
    padding = 16 - (len(payload) + 5) % 8  # 9 to 16 bytes: four at least, and all of it a multiple of eight
    return b"SSH-2.0-" + version + b"\r\n" + (1 + len(payload) + padding).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)


def signed_by(signature: bytes, algorithms: Sequence[bytes]) -> bool:
    """Whether a signature (SSH wire form) says that it was made by one of `algorithms`."""
    size = int.from_bytes(signature[:4], "big")
    return len(signature) >= 4 + size and signature[4 : 4 + size] in algorithms


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
    missing += [name for name in _CONNECTION_ATTRIBUTES if name not in SSHConnection.__init__.__code__.co_names]
    missing += [name for name in _CHANNEL_NAMES if not hasattr(SSHServerChannel, name)]
    if missing:
        raise UsageError(f"asyncssh {asyncssh.__version__} does not fit: it lacks {', '.join(missing)}", "install the version of requirements.lock")
