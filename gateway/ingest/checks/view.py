"""Small things that every look at a paper needs."""

from __future__ import annotations

from gateway.store import LandedPaper


class View:
    """A landed paper at any offset. Used by one thread."""

    def __init__(self, landed: LandedPaper) -> None:
        self._landed = landed
        self.size = landed.size

    def read_at(self, offset: int, length: int) -> bytes:
        """`length` bytes, fewer only at the end. Raises SpoolDamaged, StoreFailed."""
        self._landed.seek(offset)
        return self._landed.read(length)


def plain(text: str) -> str:
    """A stranger's text, short and harmless."""
    return "".join(letter if letter.isprintable() else "_" for letter in text)[:200]
