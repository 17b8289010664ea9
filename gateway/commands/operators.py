"""What commands on papers share: who asks, and how a path from the command line is read."""

from __future__ import annotations

import getpass
import os

from gateway.jail.paths import parse


def operator() -> str:
    """Who asks, for keyd and the audit log."""
    return f"ops:{getpass.getuser()}"


def virtual(path: str) -> str:
    """A path from the command line as the catalog has it. Raises Refused."""
    return str(parse(os.fsencode(path)))
