"""The account of one client's room that all workers of the gateway keep together: a small file in `run/`, changed under a kernel lock.

Its head tells what the names and the stores were counted to hold, and what came and went since. Each process has a slot for what it has reserved:
papers that grow, and a little ahead of them, so that a write need not touch the file. A slot whose process is dead (a kernel lock tells) counts for
nothing. The file is worthless when no process is left: the first one to open it has everything counted anew.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from config.files import FILE_MODE
from gateway.jail import Refused
from gateway.store import locks

SLOTS = 64  # processes
BUSY_SECONDS, BUSY_PAUSE = 1.0, 0.0002  # others hold the file for microseconds; one that was stopped meanwhile must not stop us
_HEAD = struct.Struct("<7q")
_SLOT = struct.Struct("<2q")
_SIZE = _HEAD.size + SLOTS * _SLOT.size
_CHANGING = 1 << 61  # the byte that is locked while the file is changed; slots have those behind it
_ALIVE = _CHANGING + 1


@dataclass
class Account:
    """What the file says. `grown_*` only ever grow: what came while somebody counted is told from them."""

    counted_at: int = 0  # seconds since the epoch; 0: nobody has counted yet
    size: int = 0
    names: int = 0
    stored: int = 0
    grown_size: int = 0
    grown_names: int = 0
    grown_stored: int = 0
    slots: list[tuple[int, int]] = field(default_factory=list)

    def add(self, size: int, names: int, stored: int) -> None:
        """Book what came or (negative) went."""
        self.size, self.names, self.stored = max(0, self.size + size), max(0, self.names + names), max(0, self.stored + stored)
        self.grown_size += max(0, size)
        self.grown_names += max(0, names)
        self.grown_stored += max(0, stored)

    @property
    def taken(self) -> tuple[int, int]:
        """(bytes of names, stored bytes), what is reserved included."""
        return self.size + sum(slot[0] for slot in self.slots), self.stored + sum(slot[1] for slot in self.slots)


class LedgerFull(Exception):
    """More processes than slots: a worker that cannot account must not take papers of a client with a quota."""


class Ledger:
    """One process's hold of the file. Thread-safe. Raises OSError when the disk fails, LedgerFull, Refused when another process holds it for long."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            self.slot = self._take_slot()
        except BaseException:
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        """Give the slot back."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def look(self) -> Account:
        """What the file says now."""
        with self._held():
            return self._read()

    @contextmanager
    def changing(self) -> Iterator[Account]:
        """The account, written back when the block ends without an exception; no other process changes it meanwhile. Do not wait inside."""
        with self._held():
            account = self._read()
            yield account
            self._write(account)

    def reserve(self, account: Account, size: int, stored: int) -> None:
        """Within `changing`: this process's slot is so much from now on."""
        account.slots[self.slot] = (size, stored)

    def drop_dead(self, account: Account) -> None:
        """Within `changing`: forget what dead processes had reserved."""
        for number, taken in enumerate(account.slots):
            if any(taken) and number != self.slot and not locks.is_held(self._descriptor, _ALIVE + number):
                account.slots[number] = (0, 0)

    def counted(self, since: Account, size: int, names: int, stored: int) -> None:
        """Somebody has counted; what came after `since` was read may or may not be in the numbers, so it is added: never too little."""
        with self.changing() as account:
            self.drop_dead(account)
            account.size = size + account.grown_size - since.grown_size
            account.names = names + account.grown_names - since.grown_names
            account.stored = stored + account.grown_stored - since.grown_stored
            account.counted_at = int(time.time())

    def _take_slot(self) -> int:
        with self._held():
            account = self._read()
            alive = [number for number in range(SLOTS) if locks.is_held(self._descriptor, _ALIVE + number)]
            free = next((number for number in range(SLOTS) if number not in alive), None)
            if free is None or not locks.hold(self._descriptor, _ALIVE + free):
                raise LedgerFull
            if not alive:
                account = Account(slots=[(0, 0)] * SLOTS)
            account.slots[free] = (0, 0)
            self._write(account)
            return free

    @contextmanager
    def _held(self) -> Iterator[None]:
        with self._lock:
            if not locks.hold_within(self._descriptor, _CHANGING, BUSY_SECONDS, BUSY_PAUSE):
                raise Refused("failure", "the room that you have cannot be told at the moment; try again")
            try:
                yield
            finally:
                locks.release(self._descriptor, _CHANGING)

    def _read(self) -> Account:
        raw = os.pread(self._descriptor, _SIZE, 0)
        if len(raw) != _SIZE:
            return Account(slots=[(0, 0)] * SLOTS)
        slots = [(size, stored) for size, stored in _SLOT.iter_unpack(raw[_HEAD.size :])]
        counted_at, size, names, stored, grown_size, grown_names, grown_stored = _HEAD.unpack_from(raw)
        return Account(counted_at, size, names, stored, grown_size, grown_names, grown_stored, slots)

    def _write(self, account: Account) -> None:
        head = _HEAD.pack(
            account.counted_at, account.size, account.names, account.stored, account.grown_size, account.grown_names, account.grown_stored
        )
        os.pwrite(self._descriptor, head + b"".join(_SLOT.pack(*slot) for slot in account.slots), 0)
