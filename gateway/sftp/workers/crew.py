"""What one worker of several knows: its place among them, what they share, and which of them is home to a client.

A client is at home with one worker: everything about its names, its papers and whose turn it is happens there, on one event loop, however many
workers there are. The kernel gives a connection to any of them; one whose client is at home elsewhere decrypts and authenticates here, and
its SFTP goes through a Unix socket to its home (see `relay` and `guests`).
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.keys.paths import short_path
from gateway.sftp.defender.tallies import Board

WAITING_GUESTS = 512  # of a worker that is being started again


@dataclass(frozen=True)
class Crew:
    """`me` of `count` workers. `listeners` are the sockets of the port, `doors` the Unix sockets of the homes, by number."""

    me: int
    count: int
    listeners: Sequence[socket.socket]
    doors: Sequence[socket.socket]
    folder: Path
    board: Board

    def home_of(self, client: str) -> int:
        """The worker that is home to `client`."""
        return zlib.crc32(client.encode()) % self.count

    def is_mine(self, client: str) -> bool:
        """Whether `client` is at home here."""
        return self.home_of(client) == self.me

    def path_of(self, client: str) -> Path:
        """The door of its home."""
        return door_path(self.folder, self.home_of(client))


def door_path(folder: Path, number: int) -> Path:
    """Where the door of worker `number` is: in `run/`, which belongs to this user alone."""
    return folder / f"home-{number}.sock"


def open_door(folder: Path, number: int) -> socket.socket:
    """A listening door: who knocks while its worker is started again waits in it. Raises OSError."""
    path = door_path(folder, number)
    path.unlink(missing_ok=True)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as short:
            door.bind(short)
        door.listen(WAITING_GUESTS)
        door.setblocking(False)
    except BaseException:
        door.close()
        raise
    return door


def listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Listening sockets for every address that `host` stands for, all of one port. Raises OSError."""
    found = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(
            socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        ):
            listener = socket.socket(family, kind, protocol)
            found.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address[0], port or (found[0].getsockname()[1] if len(found) > 1 else 0), *address[2:]))
            listener.listen(backlog)
            listener.setblocking(False)
    except BaseException:
        for listener in found:
            listener.close()
        raise
    return found
