"""The key agent: opens one paper's key at a time for those who may have it, over a Unix socket (messages: `protocol`, decisions: `service`).

The socket is 0600 in a 0700 folder, and each peer's user is asked of the kernel besides. One thread serves one connection; connections, line
length and time are bounded.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from config.errors import NightsafeError, OutOfReach
from config.files import make_folder
from config.loading import Installation
from config.roles import running_role
from gateway.audit.log import AuditLog
from gateway.audit.settings import record_settings
from gateway.catalog import Catalog
from gateway.keys.errors import KeydUnavailable
from gateway.keys.keyring import Keyring
from gateway.keys.limits import KeyLimits
from gateway.keys.paths import short_path
from gateway.keys.process import harden_process
from gateway.keys.protocol import MAX_LINE_BYTES, BadMessage, encode_error, encode_keys, parse_request
from gateway.keys.secrets import MASTER, role_secrets
from gateway.keys.service import KeyService

MAX_CONNECTIONS = 128
IDLE_SECONDS = 300.0  # without a request; clients connect again by themselves
LINE_SECONDS = 10.0  # from the first byte of a request to its newline, and for taking an answer
TICK_SECONDS = 1.0
BACKLOG = 64

log = structlog.get_logger()


def serve(installation: Installation) -> None:
    """Run keyd until SIGTERM or SIGINT. Raises Busy when it runs already, SettingsError when the master or the catalog cannot be used."""
    harden_process()
    folder = installation.folder
    with running_role(folder, "keyd") as role:
        role.stop_on_signals()
        master = role_secrets(installation, "keyd").identities(MASTER)[0]
        with Catalog.open(folder.catalog) as catalog, closing(AuditLog(folder.audit, "keyd")) as audit:
            record_settings(folder.audit, installation.settings, audit, "keyd")
            limits = KeyLimits(installation.settings.keys.grants_per_minute, time.monotonic())
            service = KeyService(Keyring(folder), master, catalog, audit, limits=limits)
            with KeyServer(folder.keyd_socket, service):
                role.announce()
                log.info("keyd.ready")
                while not role.stop.wait(TICK_SECONDS):
                    _tick(service)
                log.info("keyd.stopping")


def _tick(service: KeyService) -> None:
    try:
        service.tick()
    except NightsafeError as error:  # no space for the audit log, say: then keys are refused, and it may be mended without a restart
        log.warning("keyd.tick_failed", why=error.message)


class KeyServer:
    """Listens while it is entered. `users` are the user ids that may connect; by default this process's own, and root."""

    def __init__(self, path: Path, service: KeyService, *, users: frozenset[int] | None = None, max_connections: int = MAX_CONNECTIONS) -> None:
        self._path = path
        self._service = service
        self._users = users if users is not None else frozenset({os.geteuid(), 0})
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stopping = False

    def __enter__(self) -> Self:
        make_folder(self._path.parent)
        os.chmod(self._path.parent, 0o700)
        self._path.unlink(missing_ok=True)  # of a process that died: the role's lock says that none lives
        try:
            with short_path(self._path) as name:
                self._listener.bind(name)
            os.chmod(self._path, 0o600)  # before listen: until then nobody can connect
            self._listener.listen(BACKLOG)
        except OSError as error:
            raise OutOfReach(f"keyd cannot listen on {self._path}: {error.strerror}", "look at the rights of the folder 'run'") from error
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping = True
        self._path.unlink(missing_ok=True)
        with self._lock:
            for one in (self._listener, *self._connections):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._stopping:
                    return
                log.warning("keyd.accept_failed", why=error.strerror)  # out of descriptors: the next moment may be better
                time.sleep(0.2)
                continue
            self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        user = _peer_user(connection)
        if user not in self._users:
            log.warning("keyd.peer_refused", user=user)
            self._record(f"a connection by the user {user}")
            connection.close()
            return
        with self._lock:
            full = len(self._connections) >= self._max_connections
            if not full:
                self._connections.add(connection)
        if full:
            log.warning("keyd.connections_exhausted", most=self._max_connections)
            self._last_word(connection, KeydUnavailable("the key agent has too many connections", "try again in a moment"))
            return
        try:
            threading.Thread(target=self._converse, args=(connection,), name="connection", daemon=True).start()
        except RuntimeError:  # no more threads for this user
            with self._lock:
                self._connections.discard(connection)
            self._last_word(connection, KeydUnavailable("the key agent can take no more connections", "try again in a moment"))

    def _converse(self, connection: socket.socket) -> None:
        try:
            for line in read_lines(connection):
                connection.settimeout(LINE_SECONDS)
                connection.sendall(self._answer(line))
        except BadMessage as error:
            self._record(error.message)
            self._last_word(connection, error)
        except OSError:
            pass  # it went away, or is too slow
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _answer(self, line: bytes) -> bytes:
        request = parse_request(line)
        try:
            return encode_keys(request, self._service.answer(request))
        except NightsafeError as error:
            log.info("keyd.refused", why=error.message, person=request.person, client=getattr(request, "client", ""))
            return encode_error(error)
        except Exception:  # whatever it is, this connection gets an answer, and the others go on
            log.exception("keyd.failed")
            return encode_error(KeydUnavailable("the key agent failed", "its log says why"))

    def _last_word(self, connection: socket.socket, error: NightsafeError) -> None:
        with contextlib.suppress(OSError):
            connection.settimeout(LINE_SECONDS)
            connection.sendall(encode_error(error))
        connection.close()

    def _record(self, why: str) -> None:
        with contextlib.suppress(NightsafeError):
            self._service.record_refusal(why)


def read_lines(connection: socket.socket) -> Iterator[bytes]:
    """Lines without their newlines until the peer ends. Raises BadMessage for a line that is too long, TimeoutError for a slow one."""
    buffer = bytearray()
    while True:
        deadline = time.monotonic() + (LINE_SECONDS if buffer else IDLE_SECONDS)
        searched = 0
        while (end := buffer.find(b"\n", searched)) < 0:
            searched = len(buffer)
            if searched >= MAX_LINE_BYTES:
                raise BadMessage("the line is too long")
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            data = connection.recv(65536)
            if not data:
                return
            if not buffer:
                deadline = time.monotonic() + LINE_SECONDS
            buffer += data
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        yield line


def _peer_user(connection: socket.socket) -> int:
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(user)
