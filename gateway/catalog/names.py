"""Names of clients and people: they become folder names, login names and parts of messages, so they are plain. And the names of receipts."""

from __future__ import annotations

import re

from config.errors import UsageError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
NAME_BYTES = 180  # of the paper's own name that go into the receipt's: the whole stays below the 255 bytes that a name may have
ID_DIGITS = 12  # the last of the paper's id: random ones. The first tell the time and are shared by papers of one millisecond
UNSEEMLY = dict.fromkeys((*range(32), 127, *range(0x80, 0xA0), ord("/")), "_")


def check_name(name: str) -> None:
    """Raises UsageError unless `name` is 1 to 32 of a-z 0-9 . _ - and begins with a letter or digit."""
    if not NAME.fullmatch(name):
        shown = name[:40].encode("unicode_escape").decode()
        raise UsageError(f"'{shown}' cannot be a name", "use 1 to 32 of the characters a-z 0-9 . _ - and begin with a letter or a digit")


def receipt_name(path: str, paper: str) -> str:
    """NAME.ID.json for the paper with this id that landed at `path`: NAME is its own, without control characters, not hidden, and at most
    NAME_BYTES of UTF-8, cut between characters."""
    name = path.rpartition("/")[2]
    shown = "_" + name[1:] if name.startswith(".") else name
    return f"{shown.translate(UNSEEMLY).encode()[:NAME_BYTES].decode(errors='ignore')}.{paper[-ID_DIGITS:]}.json"
