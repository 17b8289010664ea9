"""A gateway process's own socket: who is logged in here, and ending a connection. For commands of the user who runs it, and for root; the role that
shows the page (`config.owners.VIEWERS`) may look alone.

One JSON object a line: {"op": "list"} → {"logins": […]}, {"op": "kill", "id": …} → {"killed": true|false}.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket
import stat
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from config.acl import READ, WRITE, Acl, set_acl
from config.errors import OutOfReach
from config.owners import USERS, VIEWERS
from gateway.keys.paths import short_path

log = structlog.get_logger()

MAX_LINE = 4096
ANSWER_SECONDS = 5.0
MAX_ANSWER = 64 * 1024 * 1024
EVERYTHING = ("list", "kill")


class Control:
    """`logins` tells who is logged in, as JSON values; `kill` ends one by its id, and says whether there was one.

    `users` are the user ids that may connect, and what each may ask for; `known_viewers` by default.
    """

    def __init__(
        self,
        path: Path,
        logins: Callable[[], list[dict[str, Any]]],
        kill: Callable[[str, str], bool],
        users: Mapping[int, tuple[str, ...]] | None = None,
    ) -> None:
        self._path = path
        self._logins = logins
        self._kill = kill
        self._users = known_viewers() if users is None else users
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OutOfReach."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path.unlink(missing_ok=True)
        try:
            with short_path(self._path) as name:
                listener.bind(name)
            self._open_to_viewers()
            self._server = await asyncio.start_unix_server(self._converse, sock=listener, limit=MAX_LINE)
        except OSError as error:
            listener.close()
            raise OutOfReach(f"the gateway cannot listen on {self._path}: {error.strerror}", "look at the rights of the folder 'run'") from error

    def close(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    def _open_to_viewers(self) -> None:
        """For our own user alone; where roles have users of their own, which shows in the folder's rights, for those that may look too."""
        os.chmod(self._path, 0o600)
        others = {user: READ | WRITE for user in self._users if user not in (0, os.geteuid())}
        if others and self._path.parent.stat().st_mode & stat.S_IRWXG:
            set_acl(self._path, Acl(READ | WRITE, others))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if allowed := self._users.get(_peer_user(writer.get_extra_info("socket"))):
                line = await asyncio.wait_for(reader.readline(), ANSWER_SECONDS)
                writer.write(json.dumps(self._answer(line, allowed)).encode() + b"\n")
                await asyncio.wait_for(writer.drain(), ANSWER_SECONDS)
        except (OSError, ValueError, TimeoutError):
            pass  # it went away, is too slow, or talks nonsense
        finally:
            writer.close()

    def _answer(self, line: bytes, allowed: tuple[str, ...]) -> dict[str, Any]:
        match json.loads(line):
            case {"op": str(operation)} if operation not in allowed:
                return {"error": "not allowed"}
            case {"op": "list"}:
                return {"logins": self._logins()}
            case {"op": "kill", "id": str(found), "by": str(by)}:
                return {"killed": self._kill(found, by)}
        return {"error": "not understood"}


def known_viewers() -> dict[int, tuple[str, ...]]:
    """What may be asked for, by user id: anything by root and by this process's own user, and by other roles' users that this machine has."""
    found: dict[int, tuple[str, ...]] = {}
    for role, operations in VIEWERS.items():
        with suppress(KeyError):
            found[pwd.getpwnam(USERS[role]).pw_uid] = operations
    return {**found, os.geteuid(): EVERYTHING, 0: EVERYTHING}


def ask_all(run: Path, question: dict[str, Any]) -> list[dict[str, Any]]:
    """Blocking: the answers of every gateway process that runs; sockets that dead ones left are passed over. Empty when none runs."""
    answers = []
    for path in sorted(run.glob("gateway-*.sock")):
        with suppress(OSError, ValueError):
            answers.append(_ask(path, question))
    return answers


def _ask(path: Path, question: dict[str, Any]) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        with short_path(path) as name:
            connection.connect(name)
        connection.sendall(json.dumps(question).encode() + b"\n")
        with connection.makefile("rb") as answer:
            found = json.loads(answer.readline(MAX_ANSWER))
    if not isinstance(found, dict):
        raise ValueError("not an answer")  # noqa: TRY004 - it is the peer's
    return found


def _peer_user(connection: socket.socket) -> int:
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(user)
