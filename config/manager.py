"""What the service manager is told of a role: that it serves, reloads, ends, and is alive (sd_notify(3)). Where none asks, without NOTIFY_SOCKET,
nothing is said."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

_SECONDS = 1.0  # for which a manager that does not read is waited for
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def tell(*news: str) -> None:
    """Send `READY=1`, `STOPPING=1` and their like. A manager that is away is no fault of the role's."""
    _send(news, _SECONDS)


def tell_alive() -> None:
    """`WATCHDOG=1`. Nobody waits for that: the next one comes soon."""
    _send(["WATCHDOG=1"], 0.0)


def _send(news: Sequence[str], seconds: float) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # an abstract name
        address = f"\0{address[1:]}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.settimeout(seconds)
        manager.sendto("\n".join(news).encode(), address)


def tell_reloading() -> None:
    """From now until the next `READY=1`."""
    tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def beat_seconds() -> float | None:
    """How often `WATCHDOG=1` is wanted of this process, twice within WatchdogSec; None when it is not."""
    wanted, whose = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not wanted.isdecimal() or not int(wanted) or whose not in ("", str(os.getpid())):
        return None
    return int(wanted) / 2e6


def say_no_more() -> None:
    """In a process of many that the manager started as one: the first of them speaks for all."""
    for name in _VARIABLES:
        os.environ.pop(name, None)


def without_manager(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` for a process that has nothing to tell the manager."""
    return {name: value for name, value in environment.items() if name not in _VARIABLES}
