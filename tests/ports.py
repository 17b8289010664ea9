"""Ports for tests beside which other programs run."""

from __future__ import annotations

import random
import socket

# Below those that the kernel gives to connections that go out, and below those of the embedded S3 server: what is free stays free.
_RANGE = range(10_000, 20_000)


def quiet_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, and which nobody is given by chance meanwhile."""
    for port in random.SystemRandom().sample(_RANGE, 100):
        with socket.socket() as found:
            try:
                found.bind(("", port))  # on no address at all
            except OSError:
                continue
        return port
    raise AssertionError(f"there is no free port in {_RANGE}")
