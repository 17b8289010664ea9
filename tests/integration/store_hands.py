"""A hand: a process of its own with a spool of its own, that does to one paper what it is told."""

from __future__ import annotations

import multiprocessing
import random
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gateway.age import Identity
from gateway.store import SpoolFile
from tests.integration.store_parts import Place, arrival_of

_spawning = multiprocessing.get_context("spawn")


class Hand:
    """`hand("write", 0, 7, 100)` does it there, and gives or raises here what came of it."""

    def __init__(self, identity: Identity) -> None:
        self._pipe, other = _spawning.Pipe()
        self.process = _spawning.Process(target=_obey, args=(other, identity.encode()), daemon=True)
        self.process.start()
        other.close()

    def __call__(self, name: str, *arguments: Any) -> Any:
        self.send(name, *arguments)
        return self.receive()

    def send(self, name: str, *arguments: Any) -> None:
        """Begin; `receive` waits for the end."""
        self._pipe.send((name, arguments))

    def receive(self) -> Any:
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def heard(self) -> list[Any]:
        """Everything that it said and nobody received, up to its death."""
        said = []
        try:
            while True:
                said.append(self._pipe.recv())
        except (EOFError, ConnectionError):
            return said

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self._pipe.close()


def piece(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


class _Work:
    def __init__(self, pipe: Connection, identity: Identity) -> None:
        self.pipe = pipe
        self.identity = identity
        self.file: SpoolFile | None = None

    def go_to(self, root: str) -> None:
        self.place = Place(Path(root), self.identity)

    def create(self, paper: str) -> None:
        self.file = self.place.spool.create(paper, "acme")
        self.file.sync()  # its header is what another hand needs

    def reopen(self, paper: str) -> int:
        self.file = self.place.reopen(paper)
        return self.file.size

    def write(self, offset: int, seed: int, length: int) -> tuple[int, int]:
        assert self.file
        self.file.write(offset, piece(seed, length))
        return self.file.size, self.file.prefix

    def write_each(self, offsets: list[int], length: int) -> None:
        """Pieces that tell their own place; each is acknowledged by itself."""
        assert self.file
        for offset in offsets:
            self.file.write(offset, piece(offset, length))
            self.pipe.send(offset)

    def read(self, offset: int, length: int) -> bytes:
        assert self.file
        return self.file.read(offset, length)

    def truncate(self, size: int) -> None:
        assert self.file
        self.file.truncate(size)

    def sync(self) -> None:
        assert self.file
        self.file.sync()

    def finish(self) -> None:
        assert self.file
        self.file.finish(arrival_of(self.file.paper))

    def continue_writing(self) -> None:
        assert self.file
        self.file.continue_writing()

    def land(self) -> None:
        assert self.file
        self.place.spool.land(self.file.paper)

    def discard(self) -> None:
        assert self.file
        self.file.discard()

    def close(self) -> bool:
        assert self.file
        return self.file.close()

    def state(self) -> tuple[int, int, bool, bool]:
        assert self.file
        return self.file.size, self.file.prefix, self.file.finished, self.file.is_shared


def _obey(pipe: Connection, identity: str) -> None:
    work = _Work(pipe, Identity.parse(identity))
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(getattr(work, name)(*arguments))
        except Exception as error:
            pipe.send(error)
