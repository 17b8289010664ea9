"""What the tests of the store share: a spool of their own, arrivals, and a look behind the curtain."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from gateway.age import Identity
from gateway.store import Arrival, Spool, SpoolFile, new_paper_id
from gateway.store.buffers import Buffers
from gateway.store.paper_keys import file_key

CLIENT = "acme"


def arrival_of(paper: str, path: str = "/inbox/a.pdf") -> Arrival:
    return Arrival(paper, CLIENT, "bob", path, datetime(2024, 5, 1, 12, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), "s1", "192.0.2.1", "test")


class Place:
    """A spool below `root`, with the identity that opens its papers."""

    def __init__(self, root: Path, identity: Identity | None = None) -> None:
        self.identity = identity or Identity.generate()
        self.partial = root / "partial"
        self.landed = root / "landed"
        self.spool = Spool(self.partial, self.landed, self.identity.recipient)

    def key(self, paper: str) -> bytes:
        return file_key(self.spool.describe(paper)[1], [self.identity])

    def reopen(self, paper: str) -> SpoolFile:
        return self.spool.reopen(paper, self.key(paper))

    def new(self, data: bytes = b"", paper: str = "") -> SpoolFile:
        file = self.spool.create(paper or new_paper_id(), CLIENT)
        file.write(0, data)
        return file

    def landed_paper(self, data: bytes) -> str:
        """A paper with this content, landed."""
        file = self.new(data)
        return self.land(file)

    def land(self, file: SpoolFile) -> str:
        file.finish(arrival_of(file.paper))
        self.spool.land(file.paper)
        file.close()
        return file.paper

    def read(self, paper: str) -> bytes:
        with self.spool.open_landed(paper, identities=[self.identity]) as landed:
            return landed.read()

    def use_no_cache(self) -> None:
        """As if other files had taken all the memory."""
        self.spool._buffers = Buffers(limit=-1)

    def crash(self, file: SpoolFile) -> None:
        """What a kill does to a file: the descriptor is closed, and what was in memory is gone."""
        os.close(file._descriptor)
        file.handles = 0
        self.spool.closed(file)
