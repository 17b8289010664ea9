"""Names of clients and people: they become folder names, login names and parts of messages, so they are plain."""

from __future__ import annotations

import re

from config.errors import UsageError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)


def check_name(name: str) -> None:
    """Raises UsageError unless `name` is 1 to 32 of a-z 0-9 . _ - and begins with a letter or digit."""
    if not NAME.fullmatch(name):
        shown = name[:40].encode("unicode_escape").decode()
        raise UsageError(f"'{shown}' cannot be a name", "use 1 to 32 of the characters a-z 0-9 . _ - and begin with a letter or a digit")
