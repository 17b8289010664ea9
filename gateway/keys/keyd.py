"""The key agent: opens one paper's key at a time for those who may have it, over a Unix socket (messages: `protocol`, decisions: `service`).

Nobody reaches the socket who may not enter its folder, and each peer's user is asked of the kernel besides: root and keyd's own user may ask
for anything, the users of other roles for what stands in `config.owners`. One thread serves one connection; connections, line length and time
are bounded.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from config.acl import READ, WRITE, Acl, set_acl
from config.errors import NightsafeError, OutOfReach
from config.files import make_folder
from config.lasting import LastingFault
from config.loading import Installation
from config.owners import ASKERS, USERS
from config.roles import running_role
from gateway.audit.log import AuditLog
from gateway.audit.settings import record_settings
from gateway.catalog import Catalog
from gateway.keys.errors import KeydUnavailable, KeyRefused
from gateway.keys.keyring import Keyring
from gateway.keys.limits import KeyLimits
from gateway.keys.paths import short_path
from gateway.keys.process import harden_process
from gateway.keys.protocol import (
    MAX_LINE_BYTES,
    OPS_PREFIX,
    BadMessage,
    HeadersRequest,
    Question,
    encode_error,
    encode_keys,
    operation_of,
    parse_request,
)
from gateway.keys.secrets import MASTER, role_secrets
from gateway.keys.service import KeyService

MAX_CONNECTIONS = 128
IDLE_SECONDS = 300.0  # without a request; clients connect again by themselves
LINE_SECONDS = 10.0  # from the first byte of a request to its newline, and for taking an answer
TICK_SECONDS = 1.0
BACKLOG = 64
ANYTHING = ("paper", "headers", "code")

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
                fault = LastingFault("keyd.tick_failed")
                while not role.wait(TICK_SECONDS):
                    _tick(service, fault)
                log.info("keyd.stopping")


def _tick(service: KeyService, fault: LastingFault) -> None:
    try:
        service.tick()
        fault.over()
    except NightsafeError as error:  # no space for the audit log, say: then keys are refused, and it may be mended without a restart
        fault.met(error)


def known_askers() -> dict[int, tuple[str, ...]]:
    """What may be asked for, by user id: anything by root and by this process's own user, and by other roles' users that this machine has."""
    found: dict[int, tuple[str, ...]] = {}
    for role, operations in ASKERS.items():
        with contextlib.suppress(KeyError):
            found[pwd.getpwnam(USERS[role]).pw_uid] = operations
    return {**found, os.geteuid(): ANYTHING, 0: ANYTHING}


class KeyServer:
    """Listens while it is entered. `users` are the user ids that may connect, and what each may ask for; `known_askers` by default."""

    def __init__(
        self, path: Path, service: KeyService, *, users: Mapping[int, tuple[str, ...]] | None = None, max_connections: int = MAX_CONNECTIONS
    ) -> None:
        self._path = path
        self._service = service
        self._users = users if users is not None else known_askers()
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stopping = False

    def __enter__(self) -> Self:
        make_folder(self._path.parent)
        self._path.unlink(missing_ok=True)  # of a process that died: the role's lock says that none lives
        try:
            with short_path(self._path) as name:
                self._listener.bind(name)
            self._open_to_askers()  # before listen: until then nobody can connect
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

    def _open_to_askers(self) -> None:
        """For our own user alone; where roles have users of their own, which shows in the folder's rights, for those that may ask too."""
        os.chmod(self._path, 0o600)
        others = {user: READ | WRITE for user in self._users if user not in (0, os.geteuid())}
        if others and self._path.parent.stat().st_mode & stat.S_IRWXG:
            set_acl(self._path, Acl(READ | WRITE, others))

    def _accept(self) -> None:
        fault = LastingFault("keyd.accept_failed")
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._stopping:
                    return
                fault.met(error)  # out of descriptors: the next moment may be better
                time.sleep(0.2)
                continue
            fault.over()
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
            threading.Thread(target=self._converse, args=(connection, user), name="connection", daemon=True).start()
        except RuntimeError:  # no more threads for this user
            with self._lock:
                self._connections.discard(connection)
            self._last_word(connection, KeydUnavailable("the key agent can take no more connections", "try again in a moment"))

    def _converse(self, connection: socket.socket, user: int) -> None:
        try:
            for line in read_lines(connection):
                connection.settimeout(LINE_SECONDS)
                connection.sendall(self._answer(line, user))
        except BadMessage as error:
            self._record(error.message)
            self._last_word(connection, error)
        except OSError:
            pass  # it went away, or is too slow
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _answer(self, line: bytes, user: int) -> bytes:
        request = parse_request(line)
        try:
            self._check_asker(request, user)
            return encode_keys(request, self._service.answer(request))
        except NightsafeError as error:
            log.info("keyd.refused", why=error.message, person=request.person, client=getattr(request, "client", ""))
            return encode_error(error)
        except Exception:  # whatever it is, this connection gets an answer, and the others go on
            log.exception("keyd.failed")
            return encode_error(KeydUnavailable("the key agent failed", "its log says why"))

    def _check_asker(self, request: Question, user: int) -> None:
        """Raises KeyRefused for what another role's user has no business with: the gateway asks in the name of people, never of ops."""
        allowed = self._users[user]
        if allowed == ANYTHING:
            return
        by_ops = request.person.startswith(OPS_PREFIX)
        if operation_of(request) not in allowed or by_ops != isinstance(request, HeadersRequest):
            self._record(f"the user {user} asked for '{operation_of(request)}' in the name of '{request.person}'")
            raise KeyRefused("this role may not ask for that", "ops ask as root: docs/reference/roles.md")

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
