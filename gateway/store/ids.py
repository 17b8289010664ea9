"""Paper ids, and the names that may become parts of a path in the store. Pure but for clock and random source."""

from __future__ import annotations

import re
import secrets
import threading
import time

from config.errors import UsageError

_PAPER = re.compile(r"[0-9a-f]{32}")
_CLIENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
BACK_MILLISECONDS = 60_000


class _PaperIds:
    """Ids of one process. Two of the same millisecond sort as they were made: the later one is the older one's number, and a random step more.
    A clock that is set back by less than BACK_MILLISECONDS counts as one that stands still."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._millisecond = 0
        self._number = 0

    def take(self) -> str:
        millisecond = time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF
        with self._lock:
            if 0 <= self._millisecond - millisecond < BACK_MILLISECONDS:
                millisecond = self._millisecond
                self._number += 1 + secrets.randbits(48)
            else:
                # The highest bit stays free: room for more steps than a millisecond can see.
                self._millisecond, self._number = millisecond, secrets.randbits(79)
            return f"{millisecond:012x}{self._number:020x}"


_ids = _PaperIds()


def new_paper_id() -> str:
    """32 lowercase hex characters: 12 of milliseconds since the epoch, 20 random ones. Those of one process sort by age, within a millisecond too."""
    return _ids.take()


def is_paper_id(text: str) -> bool:
    """Whether `text` has the form of a paper id."""
    return _PAPER.fullmatch(text) is not None


def check_paper(text: str) -> str:
    """`text`, when it is a paper id; else UsageError. Nothing else may become a file name in the store."""
    if not is_paper_id(text):
        raise UsageError("that is not a paper id", "a paper id has 32 hexadecimal digits")
    return text


def check_client(text: str) -> str:
    """`text`, when it can be a client's name and so a folder; else UsageError."""
    if _CLIENT.fullmatch(text) is None:
        raise UsageError("that is not a client's name", "a name has 1 to 32 of: a-z 0-9 . _ -, and starts with a letter or digit")
    return text
