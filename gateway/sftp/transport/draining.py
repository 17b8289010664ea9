"""The orderly end of a server: transfers that run get time, everybody else is sent away at once, and what is left at the end is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from gateway.sftp.authentication.login import Login
from gateway.sftp.workers.guests import Guest

QUIET_SECONDS = 3.0  # an open file through which nothing has come for so long is no running transfer
LOOK_SECONDS = 0.05


async def let_transfers_end(
    logins: Callable[[], Iterable[Login | Guest]], send_away: Callable[[Login | Guest], None], seconds: float, hurry: asyncio.Event
) -> bool:
    """Wait until no login transfers anything, for `seconds` at the most, or until `hurry`. Whoever does nothing is sent away meanwhile.

    True when nothing had to be cut.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    away: set[Login | Guest] = set()
    while True:
        running = set()
        for login in logins():
            for session in login.sessions:
                session.take_nothing_new()
            if login.is_transferring and loop.time() - login.touched_at < QUIET_SECONDS:
                running.add(login)
            elif login not in away:
                away.add(login)
                send_away(login)
        if not running or hurry.is_set() or loop.time() >= until:
            return not running
        await asyncio.sleep(LOOK_SECONDS)
