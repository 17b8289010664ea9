"""Ways to get a paper's key: from keyd, or with the master at hand. Both decide and record alike."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from config.loading import Installation
from gateway.age import Identity
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.keys.errors import KeyDamaged, KeydUnavailable, KeyGone, KeyLimited, KeyRefused
from gateway.keys.keyring import Keyring
from gateway.keys.paths import short_path
from gateway.keys.protocol import (
    MAX_HEADER_BYTES,
    MAX_LINE_BYTES,
    BadMessage,
    CodeRequest,
    HeadersRequest,
    PaperRequest,
    Question,
    Request,
    Where,
    batches,
    encode_request,
    parse_answer,
)
from gateway.keys.service import KeyService

__all__ = ["KeyAgent", "KeyDamaged", "KeyGone", "KeyLimited", "KeyRefused", "KeydClient", "KeydUnavailable", "MasterAgent", "Where"]

ANSWER_SECONDS = 15.0
PATIENCE_SECONDS = 1800.0  # how long a drill or a restore goes on waiting for the rate limit, from one batch to the next


class KeyAgent(Protocol):
    """Who opens papers' keys. Blocking, thread-safe. `reason` is one line for the audit log, such as 'download'."""

    def paper_key(self, client: str, paper: str, where: Where, person: str, reason: str) -> bytes:
        """The 16-byte file key of a stored paper. Raises KeyRefused (KeyLimited among them), KeyGone, KeydUnavailable."""
        ...

    def header_keys(self, client: str, headers: Sequence[tuple[str, bytes]], person: str, reason: str) -> list[bytes | None]:
        """The file keys of age headers (paper id, header) that were restored; None for each that does not open. `person` begins with 'ops:'."""
        ...


class KeydClient:
    """Asks keyd. One connection, made when needed and again when it broke; threads take turns."""

    def __init__(self, path: Path, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._path = path
        self._answer_seconds = answer_seconds
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None

    def paper_key(self, client: str, paper: str, where: Where, person: str, reason: str) -> bytes:
        """See KeyAgent."""
        return _one(self._ask(PaperRequest(client, paper, where, person, reason), 1))

    def header_keys(self, client: str, headers: Sequence[tuple[str, bytes]], person: str, reason: str) -> list[bytes | None]:
        """See KeyAgent. Waits while the rate limit says so."""
        fitting = [number for number, (_, header) in enumerate(headers) if 0 < len(header) <= MAX_HEADER_BYTES]
        found: list[bytes | None] = []
        for batch in batches([headers[number] for number in fitting]):
            found += self._ask_patiently(HeadersRequest(client, tuple(batch), person, reason), len(batch))
        keys: list[bytes | None] = [None] * len(headers)
        for number, key in zip(fitting, found, strict=True):
            keys[number] = key
        return keys

    def check_code(self, person: str, code: str) -> bool:
        """Whether `code` is the next one of the person's second factor; then it is used up. Raises KeyLimited, KeydUnavailable."""
        try:
            self._ask(CodeRequest(person, code), 0)
        except KeyLimited:
            raise
        except KeyRefused:
            return False
        return True

    def close(self) -> None:
        """End the connection; the next question makes a new one."""
        with self._lock:
            self._drop()

    def _ask_patiently(self, request: Request, count: int) -> list[bytes | None]:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self._ask(request, count)
            except KeyLimited as error:
                if time.monotonic() + error.retry_seconds > until:
                    raise
                time.sleep(error.retry_seconds + 0.05)

    def _ask(self, request: Question, count: int) -> list[bytes | None]:
        try:
            line = encode_request(request)
            return parse_answer(self._exchange(line), count)
        except BadMessage as error:
            raise KeyRefused(f"the key agent and this program do not understand each other: {error.message}", "are both of one version?") from error

    def _exchange(self, line: bytes) -> bytes:
        if not self._lock.acquire(timeout=self._answer_seconds):  # those before us wait for a keyd that does not answer
            raise _unavailable(TimeoutError())
        try:
            return self._exchange_locked(line)
        finally:
            self._lock.release()

    def _exchange_locked(self, line: bytes) -> bytes:
        reused = self._connection is not None
        try:
            return self._send(line)
        except OSError as error:
            self._drop()
            if not reused or isinstance(error, TimeoutError):
                raise _unavailable(error) from error
        try:  # the connection was an old one: keyd may have been started again meanwhile
            return self._send(line)
        except OSError as error:
            self._drop()
            raise _unavailable(error) from error

    def _send(self, line: bytes) -> bytes:
        if self._connection is None:
            self._connection = self._connect()
        with contextlib.suppress(BrokenPipeError):  # it has hung up, perhaps after saying why
            self._connection.sendall(line)
        deadline = time.monotonic() + self._answer_seconds
        answer = bytearray()
        while not answer.endswith(b"\n"):
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._connection.recv(65536)
            if not data:
                raise ConnectionResetError("the key agent ended the connection")
            answer += data
            if len(answer) > MAX_LINE_BYTES:
                raise ConnectionResetError("the answer is too long")
        return bytes(answer)

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._answer_seconds)
            with short_path(self._path) as name:
                connection.connect(name)
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None


class MasterAgent:
    """For the command line while keyd is down: the person holds the master themselves. Decides and records as keyd does, without rate limits."""

    def __init__(self, installation: Installation, keyring: Keyring, master: Identity) -> None:
        self._folder = installation.folder
        self._keyring = keyring
        self._master = master
        self._lock = threading.Lock()
        self._open = contextlib.ExitStack()
        self._made: KeyService | None = None

    def close(self) -> None:
        """Close catalog and audit log, which are opened by the first question."""
        with self._lock:
            self._made = None
            self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def paper_key(self, client: str, paper: str, where: Where, person: str, reason: str) -> bytes:
        """See KeyAgent."""
        return _one(self._answer(PaperRequest(client, paper, where, person, reason)))

    def header_keys(self, client: str, headers: Sequence[tuple[str, bytes]], person: str, reason: str) -> list[bytes | None]:
        """See KeyAgent."""
        return self._answer(HeadersRequest(client, tuple(headers), person, reason)) if headers else []

    def _answer(self, request: Request) -> list[bytes | None]:
        service = self._service()
        try:
            return service.answer(request)
        finally:
            service.tick()  # a command may end without `close`: what it asked for is on the disk by now

    def _service(self) -> KeyService:
        with self._lock:
            if self._made is None:
                catalog = self._open.enter_context(Catalog.open(self._folder.catalog))
                audit = self._open.enter_context(AuditLog(self._folder.audit, "ops"))
                self._made = KeyService(self._keyring, self._master, catalog, audit, limits=None)
            return self._made


def _one(keys: list[bytes | None]) -> bytes:
    if keys[0] is None:
        raise KeyRefused("the key agent gave no key", "its log says why")
    return keys[0]


def _unavailable(error: OSError) -> KeydUnavailable:
    why = "it did not answer in time" if isinstance(error, TimeoutError) else (error.strerror or str(error))
    return KeydUnavailable(
        f"the key agent is out of reach: {why}", "does the role keyd run? see: nightsafe status; papers are safe meanwhile; try again"
    )
