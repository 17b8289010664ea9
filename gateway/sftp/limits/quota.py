"""Quotas: how much room one client has, and who of its uploads has taken how much of it.

Three numbers: `bytes` of the papers that the client's names stand for and the `names` themselves (papers and folders; both are what statvfs shows),
and `stored_bytes` on our disks: all versions, the spool, what was set aside. Each open draft has a Hold for its growth, taken before the bytes are
written, in all workers from one Ledger; so uploads at the same time cannot go over together. What is over is refused, and the handle has failed:
the upload stays resumable, as after any failed write.

Without a quota nothing is counted but the sum of the holds, which a quota that is set later needs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from config.words import counted
from gateway.catalog.limits import Limits
from gateway.jail import Pointer, Refused
from gateway.sftp.limits.ledger import Account, Ledger, LedgerFull

log = structlog.get_logger()

AHEAD = 8 * 1024 * 1024  # bytes that a process reserves at once
AHEAD_SHARE = 64  # but never more than this part of the quota
COUNT_SECONDS = 600.0  # between two counts: ingest, retention and the firm's own work change what is stored without a word to the ledger
COUNT_SOON_SECONDS = 30.0  # the same when somebody was refused
UNSEEN = 2**62  # what statvfs is told of without a limit


@dataclass(frozen=True)
class Usage:
    """What is taken: bytes and names that the client sees, bytes that we store."""

    size: int
    names: int
    stored: int


class Quota:
    """One client's, in this process. Used on the event loop; `count` alone runs in a thread."""

    def __init__(
        self, limits: Limits | None = None, open_ledger: Callable[[], Ledger] | None = None, count: Callable[[], Usage] | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._open_ledger = open_ledger
        self._count_all = count
        self._ledger: Ledger | None = None
        self._counting = threading.Lock()
        self._size = self._stored = 0  # what the holds of this process have
        self._granted_size = self._granted_stored = 0  # what its slot has
        self._was_short = False

    @property
    def limits(self) -> Limits:
        """May be replaced at any time: the next growth meets the new ones."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits

    @property
    def ready(self) -> bool:
        """Whether growth can be decided without waiting for a count."""
        return self._ledger is not None or not self._limits.is_quota or self._open_ledger is None

    def prepare(self) -> None:
        """Blocking: open the ledger, and count unless another process has. Raises Refused."""
        with self._counting:
            if self.ready or self._open_ledger is None:
                return
            try:
                ledger = self._open_ledger()
                try:
                    if not ledger.look().counted_at:
                        self._count(ledger)
                except BaseException:
                    ledger.close()  # its slot, too, of which there are few
                    raise
            except (OSError, LedgerFull) as error:
                log.warning("quota.unavailable", error=str(error) or type(error).__name__)
                raise Refused("failure", "the room that you have cannot be told at the moment; try again in a minute") from error
            self._ledger = ledger

    def count_again(self) -> None:
        """Blocking, now and then: count when it is time, or when a quota was set for papers that are open already. Raises Refused."""
        if not self.ready:
            self.prepare()
        ledger = self._ledger
        if ledger is None or not self._limits.is_quota:
            return
        with self._counting:
            age = time.time() - ledger.look().counted_at
            if age >= (COUNT_SOON_SECONDS if self._was_short else COUNT_SECONDS):
                self._was_short = False
                self._count(ledger)

    def close(self) -> None:
        """Give the ledger back."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def _count(self, ledger: Ledger) -> None:
        since = ledger.look()
        if self._count_all is not None:
            usage = self._count_all()
            ledger.counted(since, usage.size, usage.names, usage.stored)

    # what statvfs shows

    def room(self) -> tuple[int, int, int, int]:
        """(bytes in all, free, names in all, free); UNSEEN where there is no limit."""
        limits, ledger = self._limits, self._ledger
        account = Account() if ledger is None else ledger.look()
        if ledger is not None:
            ledger.reserve(account, self._size, self._stored)  # what was reserved ahead is free, to those who look
        size, stored = account.taken
        total = UNSEEN if limits.bytes is None else limits.bytes
        free = UNSEEN if limits.bytes is None else max(0, limits.bytes - size)
        if limits.stored_bytes is not None:
            free = min(free, max(0, limits.stored_bytes - stored))
            total = min(total, limits.stored_bytes)
        if limits.names is None:
            return total, free, UNSEEN, UNSEEN
        return total, free, limits.names, max(0, limits.names - account.names)

    # names

    def add_name(self) -> None:
        """One more paper or folder. Raises Refused."""
        if self._ledger is None:
            return
        limit = self._limits.names
        with self._ledger.changing() as account:
            if limit is not None and account.names >= limit:
                self._was_short = True
                have = counted(limit, "file or folder", "files and folders")
                raise Refused("no_space", f"over the quota: you have {have}, and may have no more; remove some")
            account.add(0, 1, 0)

    def remove_name(self, pointer: Pointer | None = None) -> None:
        """A name is gone, and with it what its pointer showed."""
        self.book(-(pointer.size if pointer else 0), -1, 0)

    def book(self, size: int, names: int, stored: int) -> None:
        """Something that no hold covers has come or (negative) gone."""
        if self._ledger is not None and (size or names or stored):
            with self._ledger.changing() as account:
                account.add(size, names, stored)

    # growth

    def hold(self, *, shown: int = 0, size: int = 0) -> Hold:
        """For a draft of `size` bytes, whose name shows `shown` bytes. Raises Refused."""
        hold = Hold(self, shown)
        hold.resize(size)
        return hold

    def adopt(self, *, shown: int, size: int, booked: int | None = None) -> Hold:
        """For a broken upload that goes on: what was booked when it broke off is this hold's from now on."""
        if self._ledger is not None:
            with self._ledger.changing() as account:
                account.add(0, 0, -(size if booked is None else booked))
                self._ledger.reserve(account, self._granted_size, self._granted_stored + size)
            self._granted_stored += size
        self._stored += size
        return Hold(self, shown, size)

    def take(self, size: int, stored: int) -> None:
        """The holds need so much more (or less). Raises Refused when more is not there; then nothing has changed."""
        if self._ledger is not None and (size > 0 or stored > 0):
            self._reserve(self._ledger, max(0, self._size + size), max(0, self._stored + stored))
        self._size, self._stored = max(0, self._size + size), max(0, self._stored + stored)

    def settle(self, size: int, stored: int, *, held_size: int, held_stored: int) -> None:
        """What was held is what the names and stores have from now on: `size` and `stored` are booked, and so much of the holds is given up."""
        self._size, self._stored = max(0, self._size - held_size), max(0, self._stored - held_stored)
        if self._ledger is None:
            return
        with self._ledger.changing() as account:
            account.add(size, 0, stored)
            # an idle process keeps nothing ahead: others may need it
            self._granted_size = self._size if not self._stored else max(self._size, self._granted_size - held_size)
            self._granted_stored = self._stored if not self._stored else max(self._stored, self._granted_stored - held_stored)
            self._ledger.reserve(account, self._granted_size, self._granted_stored)

    def _reserve(self, ledger: Ledger, size: int, stored: int) -> None:
        if size <= self._granted_size and stored <= self._granted_stored:
            return
        limits = self._limits
        with ledger.changing() as account:
            ledger.reserve(account, 0, 0)
            try:
                room = self._rooms(account, size, stored)
            except Refused:
                ledger.drop_dead(account)
                room = self._rooms(account, size, stored)
            self._granted_size = min(size + _ahead(limits.bytes), room[0]) if size else 0
            self._granted_stored = min(stored + _ahead(limits.stored_bytes), room[1]) if stored else 0
            ledger.reserve(account, self._granted_size, self._granted_stored)

    def _rooms(self, account: Account, size: int, stored: int) -> tuple[int, int]:
        """What this process may hold at the most. Raises Refused when it is not enough and growing."""
        limits = self._limits
        others_size, others_stored = account.taken
        room_size = UNSEEN if limits.bytes is None else limits.bytes - others_size
        room_stored = UNSEEN if limits.stored_bytes is None else limits.stored_bytes - others_stored
        if size > room_size and size > self._size:
            self._was_short = True
            raise Refused("no_space", f"over the quota: your papers may have {limits.bytes} bytes in all; remove some, then resume")
        if stored > room_stored and stored > self._stored:
            self._was_short = True
            raise Refused("no_space", "over the quota of what is stored for you, older versions included; ask the firm")
        return max(size, room_size), max(stored, room_stored)


class Hold:
    """One draft's part of the room. `shown` is the size that its name has in the tree meanwhile."""

    __slots__ = ("_held_size", "_held_stored", "_is_named", "_quota", "_shown", "size")

    def __init__(self, quota: Quota, shown: int, size: int = 0) -> None:
        self._quota = quota
        self._shown = shown
        self._is_named = True
        self._held_size = 0
        self._held_stored = self.size = size

    def resize(self, size: int) -> None:
        """The draft is about to have `size` bytes, or has them. Raises Refused."""
        live = max(0, size - self._shown) if self._is_named else 0
        self._quota.take(live - self._held_size, size - self._held_stored)
        self._held_size, self._held_stored, self.size = live, size, size

    def shows(self, size: int) -> None:
        """The name shows `size` bytes from now on."""
        live = max(0, self.size - size) if self._is_named else 0
        self._quota.settle(size - self._shown if self._is_named else 0, 0, held_size=self._held_size - live, held_stored=0)
        self._shown, self._held_size = size, live

    def lose_name(self) -> None:
        """The name stands for something else, or for nothing: what it showed has been booked."""
        self._is_named = False
        self._quota.take(-self._held_size, 0)
        self._held_size = 0

    def end(self, stored: int) -> None:
        """The draft is no longer this process's; `stored` bytes of it stay on the disk."""
        self._quota.settle(0, stored, held_size=self._held_size, held_stored=self._held_stored)
        self._held_size = self._held_stored = self.size = 0
        self._is_named = False


def _ahead(limit: int | None) -> int:
    return AHEAD if limit is None else min(AHEAD, limit // AHEAD_SHARE)
