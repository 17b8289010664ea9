"""A gateway process's own socket: who is logged in here, and ending a connection. For commands of the user who runs it, and for root.

One JSON object a line: {"op": "list"} → {"logins": […]}, {"op": "kill", "id": …} → {"killed": true|false}.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from config.errors import OutOfReach
from gateway.keys.paths import short_path

log = structlog.get_logger()

MAX_LINE = 4096
ANSWER_SECONDS = 5.0
MAX_ANSWER = 64 * 1024 * 1024


class Control:
    """`logins` tells who is logged in, as JSON values; `kill` ends one by its id, and says whether there was one."""

    def __init__(self, path: Path, logins: Callable[[], list[dict[str, Any]]], kill: Callable[[str, str], bool]) -> None:
        self._path = path
        self._logins = logins
        self._kill = kill
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OutOfReach."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path.unlink(missing_ok=True)
        try:
            with short_path(self._path) as name:
                listener.bind(name)
            os.chmod(self._path, 0o600)
            self._server = await asyncio.start_unix_server(self._converse, sock=listener, limit=MAX_LINE)
        except OSError as error:
            listener.close()
            raise OutOfReach(f"the gateway cannot listen on {self._path}: {error.strerror}", "look at the rights of the folder 'run'") from error

    def close(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _peer_user(writer.get_extra_info("socket")) in (os.geteuid(), 0):
                line = await asyncio.wait_for(reader.readline(), ANSWER_SECONDS)
                writer.write(json.dumps(self._answer(line)).encode() + b"\n")
                await asyncio.wait_for(writer.drain(), ANSWER_SECONDS)
        except (OSError, ValueError, TimeoutError):
            pass  # it went away, is too slow, or talks nonsense
        finally:
            writer.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        match json.loads(line):
            case {"op": "list"}:
                return {"logins": self._logins()}
            case {"op": "kill", "id": str(found), "by": str(by)}:
                return {"killed": self._kill(found, by)}
        return {"error": "not understood"}


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
