"""Clients that upload for as long as they are let, and remember exactly what they were promised."""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import paramiko
from paramiko.sftp import CMD_CLOSE

from tests.e2e.house import House

Phase = Literal["writing", "closing", "acknowledged"]
PIECE = 32768
VIRUSES = 6


@dataclass
class Upload:
    """One upload: what was sent, and how far the server's promises went. `size` and `sha256` are of the whole paper."""

    path: str
    size: int
    sha256: str
    phase: Phase = "writing"
    infected: bool = False


class Uploader(threading.Thread):
    """Uploads papers of random sizes under ever new names, over connections that may break at any moment."""

    def __init__(self, house: House, number: int, seed: int, canary: bytes = b"", folder: str = "/inbox", virus: bytes = b"") -> None:
        """With `virus`, one upload in VIRUSES is that."""
        super().__init__(daemon=True)
        self._house = house
        self._number = number
        self._random = random.Random(seed)
        self._canary = canary
        self._folder = folder
        self._virus = virus
        self.uploads: list[Upload] = []
        self.stop = threading.Event()

    @property
    def acknowledged(self) -> int:
        """How many came through."""
        return sum(upload.phase == "acknowledged" for upload in self.uploads)

    def run(self) -> None:
        while not self.stop.is_set():
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException), self._session() as client:
                while not self.stop.is_set():
                    self._upload(client)
            self.stop.wait(0.05)

    @contextlib.contextmanager
    def _session(self) -> Iterator[paramiko.SFTPClient]:
        with self._house.paramiko() as client:
            channel = client.get_channel()
            assert channel is not None
            channel.settimeout(20)
            yield client

    def _upload(self, client: paramiko.SFTPClient) -> None:
        infected = bool(self._virus) and not self._random.randrange(VIRUSES)
        content = self._virus if infected else self._content()
        path = f"{self._folder}/{self._number}-{len(self.uploads)}.bin"
        upload = Upload(path, len(content), hashlib.sha256(content).hexdigest(), infected=infected)
        self.uploads.append(upload)
        file = client.open(upload.path, "wb")
        for start in range(0, len(content), PIECE):
            file.write(content[start : start + PIECE])
        upload.phase = "closing"
        # Not file.close(): that hides it when the connection broke before CLOSE could even be sent, and nothing was acknowledged then.
        client._request(CMD_CLOSE, file.handle)
        file._closed = True
        upload.phase = "acknowledged"

    def _content(self) -> bytes:
        size = self._random.choice([0, 1, 500, 20_000, 65_536, 65_537, 300_000, 1_500_000])
        noise = self._random.randbytes(max(0, size - len(self._canary)))
        return (self._canary + noise)[:size]
