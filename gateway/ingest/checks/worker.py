"""A process that looks into papers: `python -m gateway.ingest.checks.worker MEMORY_BYTES`. Started, fed, timed and killed by `pool`.

It holds no key and no path. It sees a paper through the frames of `wire`, and can open no file of its own.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

import pyzipper

from gateway.ingest.checks import wire
from gateway.ingest.checks.archives import ArchiveFault, Limits, hidden_inside, look_into
from gateway.ingest.checks.isolation import allow_seconds, confine
from gateway.ingest.checks.kinds import HEAD_BYTES, kind_of, misfit
from gateway.ingest.checks.zip_end import TAIL_BYTES, is_zip

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE_BYTES = 256 * 1024
JOBS_PER_COLLECTION = 50


class RemotePaper(io.RawIOBase):
    """The paper, read through frames. Readable, seekable, of `size` bytes."""

    def __init__(self, size: int, ask: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size = size
        self._ask = ask
        self._position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """As of a file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "before the start")  # what zip readers expect of a file
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """As of a file."""
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As of a file."""
        target = memoryview(buffer).cast("B")
        wanted = max(0, min(len(target), PIECE_BYTES, self._size - self._position))
        if not wanted:
            return 0
        data = self._ask(self._position, wanted)
        target[: len(data)] = data
        self._position += len(data)
        return len(data)


class Talk:
    """The worker's side of the pipes."""

    def __init__(self, incoming: BinaryIO, outgoing: io.RawIOBase) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def next_job(self) -> dict[str, Any]:
        """Wait for a job. Raises Broken when the parent has gone."""
        kind, data = wire.receive(self._read)
        if kind != wire.JOB:
            raise wire.Broken
        return wire.decode_json(data)

    def ask(self, offset: int, length: int) -> bytes:
        """Bytes of the paper."""
        self.tell(wire.encode(wire.READ, wire.SPAN.pack(offset, length)))
        kind, data = wire.receive(self._read)
        if kind != wire.DATA or not data or len(data) > length:
            raise wire.Broken
        return data

    def tell(self, frame: bytes) -> None:
        """Send a frame."""
        view = memoryview(frame)
        while view:
            view = view[self._outgoing.write(view) or 0 :]

    def _read(self, length: int) -> bytes:
        return self._incoming.read(length) or b""


def do(job: dict[str, Any], talk: Talk) -> dict[str, Any]:
    """Look into one paper: its kind, whether its ending fits, what its archive holds that must not be there."""
    paper = RemotePaper(job["size"], talk.ask)
    head = paper.read(min(HEAD_BYTES, job["size"])) or b""
    zipped = (job["archives"] or job.get("sizes")) and is_zip(head, _tail(paper, job["size"]), job["size"])
    result: dict[str, Any] = {"type": kind_of(head, job["name"]), "misfit": misfit(head, job["name"]) if job["match_type"] else "", "fault": None}
    if job["archives"] and zipped:
        found = look_into(
            io.BufferedReader(paper, PIECE_BYTES),
            job["size"],
            Limits(**job["limits"]),
            password=job["password"].encode() if job["password"] else None,
            forbidden_names=job["forbidden_names"],
            unlocked=_Forward(talk) if job["scan_unlocked"] else None,
        )
        result["fault"] = asdict(found) if isinstance(found, ArchiveFault) else None
    elif zipped:
        hidden = hidden_inside(io.BufferedReader(paper, PIECE_BYTES), job["size"], Limits(**job["limits"]))
        result["fault"] = asdict(hidden) if hidden else None
    return result


def _tail(paper: RemotePaper, size: int) -> bytes:
    paper.seek(max(0, size - TAIL_BYTES))
    return paper.read(TAIL_BYTES) or b""


class _Forward:
    """Sends unlocked entries up to be scanned."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def begin(self, size: int) -> None:
        """An entry of `size` bytes follows."""
        self._talk.tell(wire.encode(wire.ENTRY, wire.SPAN.pack(min(size, 2**63), 0)))

    def piece(self, data: bytes) -> None:
        """A piece of it."""
        self._talk.tell(wire.encode(wire.PIECE, data))

    def end(self) -> None:
        """It is over."""
        self._talk.tell(wire.encode(wire.ENTRY_END))


def _warm_up() -> None:
    """Use everything once: what is imported late (codecs, ciphers) must be there before no file can be opened any more."""
    kind_of(b"\x01 neither text nor known \0", "warm.pdf")
    for encryption in (None, pyzipper.WZ_AES):
        for name in ("a", "ä"):
            held = io.BytesIO()
            with pyzipper.AESZipFile(held, "w", compression=pyzipper.ZIP_DEFLATED, encryption=encryption) as archive:
                archive.setpassword(b"warm" if encryption else None)
                archive.writestr(name, b"warm" * 100)
            limits = Limits(1000, 10_000, 10, 2, 1000)
            look_into(held, len(held.getvalue()), limits, password=b"warm")
            hidden_inside(held, len(held.getvalue()), limits)


def main() -> None:
    """Serve jobs until the parent closes the pipe. A job that fails by itself ends the process: the parent starts a new one."""
    memory_bytes = int(sys.argv[1])
    talk = Talk(sys.stdin.buffer, io.FileIO(1, "wb", closefd=False))
    _warm_up()
    confine(memory_bytes)
    talk.tell(wire.encode_json(wire.RESULT, {"ready": True}))
    jobs = 0
    while True:
        try:
            job = talk.next_job()
        except wire.Broken:
            return
        allow_seconds(job["seconds"])
        try:
            result = do(job, talk)
        except MemoryError:
            result = {"failed": "memory"}
        talk.tell(wire.encode_json(wire.RESULT, result))
        if "failed" in result:
            return  # what is left of a memory that was full is not trusted with another paper
        jobs += 1
        if jobs % JOBS_PER_COLLECTION == 0:
            gc.collect()


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # noqa: BLE001 - a traceback could quote a stranger's bytes; the type is enough
        sys.stderr.write(f"worker: {type(error).__name__}\n")
        sys.exit(1)
