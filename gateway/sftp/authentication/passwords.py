"""Passwords are dear to check (time and memory): a few at a time, in threads of their own, and few may wait. The event loop never does it."""

from __future__ import annotations

from collections import Counter

from gateway.keys.passwords import check_password
from gateway.sftp.defender.bans import group_of
from gateway.sftp.session.pool import Pool

AT_ONCE = 2
WAITING = 16  # in all; those beyond are told no at once
WAITING_FROM_ONE = 3  # address, or /64 of IPv6


class PasswordChecks:
    """For one gateway process."""

    def __init__(self) -> None:
        self._pool = Pool(AT_ONCE, "sftp-passwords")
        self._waiting: Counter[str] = Counter()

    async def check(self, kept: str | None, password: str, address: str) -> bool:
        """Whether the password is right; False, too, where too many wait. `kept` None costs the same and is never right."""
        address = group_of(address)
        if self._waiting.total() >= WAITING or self._waiting[address] >= WAITING_FROM_ONE:
            return False
        self._waiting[address] += 1
        try:
            return await self._pool.run(lambda: check_password(kept, password))
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]

    def close(self) -> None:
        """Wait for what runs."""
        self._pool.close()
