"""What the crowd was promised: every upload, and how far it came. One ledger for all clients, used from several threads."""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Phase = Literal["writing", "closing", "acknowledged"]


@dataclass
class Deposit:
    """One upload. `path` is where it can be read; None once that is not certain any more."""

    client: str
    sent_as: str
    size: int
    sha256: str
    phase: Phase = "writing"
    path: str | None = None


class Ledger:
    """All uploads, what failed meanwhile, and what must never be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.deposits: list[Deposit] = []
        self.done: Counter[str] = Counter()  # by kind of client and what it did
        self.failed: Counter[str] = Counter()
        self.wrong: list[str] = []  # broken promises
        self._by_client: dict[str, list[Deposit]] = {}

    @contextmanager
    def deposit(self, client: str, path: str, content: bytes) -> Iterator[Deposit]:
        """An upload that is about to be tried; acknowledged when the block ends well."""
        new = Deposit(client, path, len(content), hashlib.sha256(content).hexdigest())
        with self._lock:
            self.deposits.append(new)
            mine = self._by_client.setdefault(client, [])
            for older in mine:
                if older.path == path:
                    older.path = None  # from now on nobody knows which of them the name stands for
        yield new
        with self._lock:
            new.phase, new.path = "acknowledged", path
            mine.append(new)

    def one_of(self, client: str, chance: random.Random) -> Deposit | None:
        """An upload of this client that can be read, if there is one."""
        with self._lock:
            readable = [one for one in self._by_client.get(client, []) if one.path is not None]
        return chance.choice(readable) if readable else None

    def took(self, who: str, action: str) -> None:
        """It went well."""
        with self._lock:
            self.done[f"{who}: {action}"] += 1

    def failed_at(self, who: str, action: str, error: BaseException | str) -> None:
        """It did not, which may be the weather."""
        with self._lock:
            self.failed[f"{who}: {action}: {str(error).strip()[:100] or type(error).__name__}"] += 1

    def compare(self, deposit: Deposit, content: bytes) -> None:
        """What was read must be what was sent."""
        if hashlib.sha256(content).hexdigest() != deposit.sha256:
            with self._lock:
                self.wrong.append(f"{deposit.client} {deposit.sent_as}: other content came back, {len(content)} of {deposit.size} bytes")


class Content:
    """Papers that no other paper is like, but for the one that the scanner knows."""

    def __init__(self, chance: random.Random, virus: bytes) -> None:
        self._chance = chance
        self._virus = virus

    def next(self) -> bytes:
        """Mostly small ones, as scans and letters are."""
        if self._chance.random() < 0.01:
            return self._virus
        size = self._chance.choice([200, 3_000, 12_000, 20_000, 40_000, 65_536, 65_537, 90_000, 400_000])
        return self._chance.randbytes(size)
