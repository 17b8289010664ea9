"""The fast road of a connection: packets of a channel's data under AES-GCM, without asyncssh's general machinery.

It takes only what is simple: after login, between exchanges of keys, AES-GCM, no compression; and of what comes in, only DATA and
WINDOW_ADJUST of an open channel. A packet that is anything else goes to asyncssh untouched (it is decrypted there once more), and so does
everything that follows until asyncssh has nothing left to do. Both share their ciphers' counters (`gcm`), so it can change at every packet.

One process handles one packet at a time, so all connections share the buffers; nothing keeps a view of them.

It touches private names of asyncssh 2.24.1, which is pinned; `is_possible` says whether they are still there, and the stock road is taken
when they are not.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable
from typing import Any, cast

from asyncssh.channel import SSHChannel, SSHServerChannel
from asyncssh.connection import SSHConnection, SSHServerConnection, SSHServerConnectionOptions
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST, MSG_KEX_LAST, MSG_KEXINIT
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import Encryption, GCMEncryption
from asyncssh.packet import SSHPacket, SSHPacketLogger, UInt32

from gateway.sftp.session.shares import Share
from gateway.sftp.transport.connection import BareChannel, Gate, GuardedConnection
from gateway.sftp.transport.gcm import BLOCK, HEAD, TAG, PacketCipher, adopt, frame

_RECEIVED = bytearray(768 * 1024)  # what the kernel gives in one turn, behind the beginning of a packet
_RECEIVED_VIEW = memoryview(_RECEIVED)
_LARGEST = 256 * 1024 + 1024  # bytes of a packet that is opened or made here
_OPENED = bytearray(_LARGEST)
_OPENED_VIEW = memoryview(_OPENED)
_MADE = bytearray(_LARGEST)
_SENT = memoryview(bytearray(512 * 1024))
_READ_AT_ONCE = 256 * 1024  # of one connection: about what a person's share of a turn suffices for
_PACKETS_AT_ONCE = 32  # of one connection in one turn of the event loop: tiny ones cost as much as large ones; then the others come
_READ_AMONG_OTHERS = 64 * 1024  # the same while others are there: what cannot be handled in this turn is kept
_CORKED = 256 * 1024  # bytes that are gathered before they go to the kernel

_GCM = frozenset((b"aes256-gcm@openssh.com", b"aes128-gcm@openssh.com"))
_SPEAKS_FIRST = b"SSH-2.0-OpenSSH_"
_FIRST_WORD_SECONDS = 0.5

_CLOSING = frozenset(("close_pending", "closed"))

_U32 = struct.Struct(">I")
_DATA_HEAD = struct.Struct(">BBII")  # padding length, type, channel, length of the data
_ADJUST = struct.Struct(">BBII")  # padding length, type, channel, bytes
_SEND_HEAD = struct.Struct(">BII")  # type, channel, length of the data
_SEND_AT = HEAD + 1 + _SEND_HEAD.size
_SEQUENCE_MASK = 0xFFFFFFFF


class FastChannel(BareChannel):
    """A session channel whose data takes the fast road out where it can."""

    def write(self, data: bytes, datatype: int | None = None) -> None:
        """As asyncssh's; what the peer's window does not take now waits in the buffer."""
        conn = self._conn
        if datatype is None and data and not self._send_buf and self._send_state == "open" and isinstance(conn, FastConnection) and conn.sends_fast():
            window = self._send_window
            if len(data) <= window:
                conn.send_data(self, memoryview(data))
                return
            if window:
                conn.send_data(self, memoryview(data)[:window])
                data = data[window:]
        super().write(data, datatype)

    def _flush_send_buf(self) -> None:
        conn = self._conn
        while self._send_buf and self._send_window and isinstance(conn, FastConnection) and conn.sends_fast():
            buffer, datatype = self._send_buf[0]
            if datatype is not None:
                break
            size = min(len(buffer), self._send_window)
            conn.send_data(self, memoryview(buffer)[:size])
            self._send_buf_len -= size
            if size == len(buffer):
                del self._send_buf[0]
            else:
                self._send_buf[0] = (bytearray(memoryview(buffer)[size:]), None)
        super()._flush_send_buf()


class FastConnection(GuardedConnection, asyncio.BufferedProtocol):
    """A guarded connection with the fast road."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: SSHServerConnectionOptions, gate: Gate, share: Share) -> None:
        super().__init__(loop, options, gate, share)
        self._rest = b""  # the beginning of a packet, or more of them than are handled in one turn
        self._left_over = False
        self._turn_is_over = False  # the session that had the last packet handles no more in this turn
        self._receiving_by: Encryption | None = None
        self._receiver: PacketCipher | None = None
        self._sending_by: Encryption | None = None
        self._sender: PacketCipher | None = None
        self._corked: list[bytes] | None = None  # what is to be sent at the end of this turn
        self._corked_size = 0
        self._first_word: asyncio.TimerHandle | None = None  # our part of the exchange of keys, put off
        self._heard = False  # it is not put off any more

    def _new_channel(self, window: int, size: int) -> SSHServerChannel[Any]:
        return FastChannel(self, self._loop, False, False, False, 0, 0, None, "strict", window, size)

    # the exchange of keys: OpenSSH asks for ChaCha20 and AES-CTR before AES-GCM, and takes the first of its list that is offered

    def _send_kexinit(self) -> None:
        """asyncssh's; OpenSSH, which speaks without waiting for us, is heard first, so that it is offered what is fast for both."""
        if self._first_word is None and not self._session_id and self._client_version.startswith(_SPEAKS_FIRST):
            self._first_word = self._loop.call_later(_FIRST_WORD_SECONDS, self._speak_first)
        else:
            super()._send_kexinit()

    def _speak_first(self) -> None:
        """It did wait for us."""
        if self._kexinit_sent and not self._heard and self._transport is not None:
            self._heard = True
            super()._send_kexinit()

    def _hear_kexinit(self, pkttype: int, pktid: int, packet: SSHPacket) -> Awaitable[None]:
        if self._first_word is not None and not self._heard:
            self._heard = True
            self._first_word.cancel()
            if not _ciphers(packet).isdisjoint(_GCM):
                self._enc_algs = [name for name in self._enc_algs if name in _GCM] or self._enc_algs
            self._kexinit_sent = False  # asyncssh answers with ours now
        return self._process_kexinit(pkttype, pktid, packet)

    _packet_handlers = {**GuardedConnection._packet_handlers, MSG_KEXINIT: _hear_kexinit}  # noqa: RUF012 - never changed

    def _cleanup(self, exc: Exception | None) -> None:
        if self._first_word is not None:
            self._first_word.cancel()
        super()._cleanup(exc)

    # what comes in

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's shape
        """Where the kernel may write."""
        if self._inpbuf or self._packet:
            self._reclaim()
        rest = len(self._rest)
        if rest:
            _RECEIVED_VIEW[:rest] = self._rest
        return _RECEIVED_VIEW[rest : rest + (_READ_AT_ONCE if self.share.is_alone else _READ_AMONG_OTHERS)]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes came."""
        end = len(self._rest) + nbytes
        self._rest = b""
        self._corked = []
        self._left_over = False
        share = self.share
        share.begin()
        try:
            at = self._handle(end)
        finally:
            self._uncork()
            share.end()
        if at < end:
            self._keep(_RECEIVED_VIEW[at:end])
        if self._left_over and self._rest:
            self._stop_reading("turn")
            share.later(self._go_on)

    def _go_on(self) -> None:
        """The others have had their turn: handle what is left of what came."""
        self._read_again("turn")
        if self._transport is not None:
            self.get_buffer(0)
            self.buffer_updated(0)

    def _reclaim(self) -> None:
        """asyncssh holds the beginning of a packet, and nothing keeps it from this road: take it back."""
        header, held = self._packet, self._inpbuf
        if len(held) < _LARGEST and self._receiver is not None and self._recv_handler == self._recv_packet:
            self._packet = self._inpbuf = b""
            self._recv_handler = self._recv_pkthdr
            if self._fast_receiver() is not None:
                self._rest = header + held
            else:
                self._packet, self._inpbuf, self._recv_handler = header, held, self._recv_packet

    def _handle(self, end: int) -> int:
        """Handle packets; where the first one begins that is not whole, or not for this road."""
        at = count = 0
        self._turn_is_over = False
        share = self.share
        while end - at >= HEAD:
            if (count or share.left <= 0) and (count >= _PACKETS_AT_ONCE or self._turn_is_over or share.must_wait):
                self._left_over = True
                return at
            cipher = self._fast_receiver()
            if cipher is None:
                break
            (length,) = _U32.unpack_from(_RECEIVED, at)
            if length > self._max_recv_pktlen or length % BLOCK or length < BLOCK:
                break  # asyncssh says what is wrong with it
            whole = HEAD + length + TAG
            if end - at < whole:
                return at
            packet = _RECEIVED_VIEW[at : at + whole]
            if not (length <= _LARGEST and cipher.open_into(packet, _OPENED_VIEW[:length]) and self._handle_opened(cipher, length)):
                self._take(bytes(packet))
            at += whole
            count += 1
        return at

    def _keep(self, left: memoryview) -> None:
        """The beginning of a packet waits here; what is not for this road goes to asyncssh."""
        if self._fast_receiver() is not None and not (len(left) >= HEAD and self._is_out_of_bounds(_U32.unpack_from(left)[0])):
            self._rest = bytes(left)
        elif self._transport is not None:
            self.data_received(bytes(left))

    def _is_out_of_bounds(self, length: int) -> bool:
        return length > self._max_recv_pktlen or length % BLOCK != 0 or length < BLOCK

    def _fast_receiver(self) -> PacketCipher | None:
        """The cipher, when the next packet may be handled here."""
        if (
            not self.is_logged_in
            or self._inpbuf
            or self._unfed
            or self._stopped_for
            or self._transport is None
            or self._decompressor
            or self._recv_handler != self._recv_pkthdr
        ):
            return None
        if self._recv_encryption is not self._receiving_by:
            self._receiving_by = self._recv_encryption
            self._receiver = adopt(self._recv_encryption)
        return self._receiver

    def _handle_opened(self, cipher: PacketCipher, length: int) -> bool:
        """Handle the packet in the buffer; False when it is not for this road, and nothing was done."""
        if length < _DATA_HEAD.size:
            return False
        padding, kind, number, size = _DATA_HEAD.unpack_from(_OPENED)
        channel = self._channels.get(number)
        if not isinstance(channel, FastChannel) or channel._recv_state != "open":
            return False
        end = length - padding
        if kind == MSG_CHANNEL_DATA:
            if _DATA_HEAD.size + size != end or not 0 < size <= channel._recv_window:
                return False
            if channel._recv_paused or channel._session is None or channel._send_state in _CLOSING:
                return False
            self._step(cipher)
            self._deliver(channel, size)
            return True
        if kind == MSG_CHANNEL_WINDOW_ADJUST and end == _ADJUST.size:
            self._step(cipher)
            channel._send_window += size
            channel._flush_send_buf()
            return True
        return False

    def _step(self, cipher: PacketCipher) -> None:
        cipher.step()
        self._recv_seq = (self._recv_seq + 1) & _SEQUENCE_MASK

    def _deliver(self, channel: FastChannel, size: int) -> None:
        window = channel._recv_window - size
        if window < channel._init_recv_window / 2:
            channel.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(channel._init_recv_window - window))
            window = channel._init_recv_window
        channel._recv_window = window
        session = channel._session
        if session is not None:
            data = bytes(_OPENED_VIEW[_DATA_HEAD.size : _DATA_HEAD.size + size])
            try:
                session.data_received(data, None)
                # what it cannot take now waits as it came: its channel would have to be paused, and paused channels are not for this road
                self._turn_is_over = getattr(session, "turn_is_over", False)
            except Exception:  # noqa: BLE001 - as asyncssh does with what its own handlers raise
                self.internal_error()

    # what goes out

    def sends_fast(self) -> bool:
        """Whether a packet may be made here now: no exchange of keys runs or is due."""
        if not (self._kex_complete and self._auth_complete) or self._compressor or self._transport is None:
            return False
        if self._rekey_bytes_sent >= self._rekey_bytes or (self._rekey_seconds and time.monotonic() >= self._rekey_time):
            return False
        if self._send_encryption is not self._sending_by:
            self._sending_by = self._send_encryption
            self._sender = adopt(self._send_encryption)
        return self._sender is not None

    def send_data(self, channel: FastChannel, data: memoryview) -> None:
        """Send DATA that the channel's window takes, in packets as large as the peer wants them. `sends_fast` must hold."""
        size, most = len(data), min(channel._send_pktsize, _LARGEST - 64)
        if size <= most:
            channel._send_window -= size
            self._send_made(channel, data, size)
            return
        at = filled = 0
        while at < size:
            piece = data[at : at + most]
            if filled + len(piece) + 64 > len(_SENT):
                self._send(bytes(_SENT[:filled]))
                filled = 0
            _SEND_HEAD.pack_into(_MADE, HEAD + 1, MSG_CHANNEL_DATA, channel._send_chan or 0, len(piece))
            _MADE[_SEND_AT : _SEND_AT + len(piece)] = piece
            filled += self._seal(frame(_MADE, _SEND_HEAD.size + len(piece)), _SENT[filled:])
            at += len(piece)
        channel._send_window -= size
        self._send(bytes(_SENT[:filled]))

    def _send_made(self, channel: FastChannel, data: memoryview, size: int) -> None:
        """What fits into one packet."""
        _SEND_HEAD.pack_into(_MADE, HEAD + 1, MSG_CHANNEL_DATA, channel._send_chan or 0, size)
        _MADE[_SEND_AT : _SEND_AT + size] = data
        written = self._seal(frame(_MADE, _SEND_HEAD.size + size), _SENT)
        self._send(bytes(_SENT[:written]))

    def send_packet(self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None) -> None:
        """As asyncssh's; AES-GCM needs no packet to IGNORE before each other one."""
        size = 1 + sum(map(len, args))
        if pkttype <= MSG_KEX_LAST or size > _LARGEST - 64 or not self.sends_fast():
            super().send_packet(pkttype, *args, handler=handler)
            return
        payload = b"".join(args)
        _MADE[HEAD + 1] = pkttype
        _MADE[HEAD + 2 : HEAD + 1 + size] = payload
        written = self._seal(frame(_MADE, size), _SENT)
        self._send(bytes(_SENT[:written]))

    def _seal(self, size: int, out: memoryview) -> int:
        sender = cast(PacketCipher, self._sender)
        self._send_seq = (self._send_seq + 1) & _SEQUENCE_MASK
        self._rekey_bytes_sent += size - HEAD
        return sender.seal_into(_MADE, size, out)

    def _send(self, data: bytes) -> None:
        if self._corked is None:
            super()._send(data)
        else:
            self._corked.append(data)
            self._corked_size += len(data)
            if self._corked_size > _CORKED:
                self._uncork()
                self._corked = []

    def _force_close(self, exc: Exception | None) -> None:
        self._uncork()
        super()._force_close(exc)

    def _uncork(self) -> None:
        pieces, self._corked, self._corked_size = self._corked, None, 0
        if pieces:
            super()._send(pieces[0] if len(pieces) == 1 else b"".join(pieces))


def _ciphers(packet: SSHPacket) -> frozenset[bytes]:
    """Those that a KEXINIT (RFC 4253, 7.1) wishes for what its sender sends. Raises PacketDecodeError."""
    probe = SSHPacket(packet.get_full_payload())
    probe.get_byte()
    probe.get_bytes(16)  # cookie
    probe.get_namelist()  # key exchanges
    probe.get_namelist()  # host keys
    return frozenset(probe.get_namelist())


_CONNECTION_ATTRIBUTES = (
    "_auth_complete",
    "_channels",
    "_client_version",
    "_compressor",
    "_decompressor",
    "_enc_algs",
    "_inpbuf",
    "_kex_complete",
    "_kexinit_sent",
    "_max_recv_pktlen",
    "_packet",
    "_recv_encryption",
    "_recv_handler",
    "_recv_seq",
    "_rekey_bytes",
    "_rekey_bytes_sent",
    "_rekey_seconds",
    "_rekey_time",
    "_send_encryption",
    "_send_seq",
    "_session_id",
    "_transport",
)
_CHANNEL_ATTRIBUTES = (
    "_conn",
    "_init_recv_window",
    "_recv_paused",
    "_recv_state",
    "_recv_window",
    "_send_buf",
    "_send_buf_len",
    "_send_chan",
    "_send_pktsize",
    "_send_state",
    "_send_window",
    "_session",
)


def is_possible() -> bool:
    """Whether this asyncssh has every name that the fast road hangs on, and cryptography what it encrypts by."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return (
        all(name in SSHConnection.__init__.__code__.co_names for name in _CONNECTION_ATTRIBUTES)
        and all(name in SSHChannel.__init__.__code__.co_names for name in _CHANNEL_ATTRIBUTES)
        and all(hasattr(SSHServerConnection, name) for name in ("_recv_pkthdr", "_send", "send_packet", "internal_error"))
        and hasattr(SSHServerChannel, "_flush_send_buf")
        and {"_key", "_iv"} <= set(GCMCipher.__init__.__code__.co_names)
        and "_cipher" in GCMEncryption.__init__.__code__.co_names
        and hasattr(AESGCM, "encrypt_into")
        and hasattr(AESGCM, "decrypt_into")
    )
