"""CachedBlock: the plaintext of one block while it is in memory. Pure."""

from __future__ import annotations

from gateway.store.format import BLOCK

_ZEROS = memoryview(bytes(BLOCK))


class CachedBlock:
    """[0, filled) is set; what the disk tells as written lies below `stored`; [low, high) came since it was last sealed."""

    __slots__ = ("dirty", "filled", "high", "low", "on_disk", "stored", "view")

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.filled = self.stored = 0
        self.on_disk = False
        self.low = self.high = 0
        self.dirty = False

    def write(self, place: int, data: memoryview) -> None:
        """`data` stands at `place` from now on."""
        end = place + len(data)
        if place > self.filled:
            self.view[self.filled : place] = _ZEROS[: place - self.filled]
        self.view[place:end] = data
        if end > self.filled:
            self.filled = end
        if self.low <= end and place <= self.high and self.high:
            self.low = min(self.low, place)
            self.high = max(self.high, end)
        else:
            self.low, self.high = place, end
        self.dirty = True

    def cut(self, length: int) -> bool:
        """Only `length` bytes stay. True when the disk tells of bytes behind them, which must go, too."""
        gone = bytes(self.view[length : self.filled])
        self.filled = min(self.filled, length)
        self.low = self.high = 0
        return self.on_disk and (self.stored > length or gone.count(0) < len(gone))

    def content(self, length: int) -> memoryview:
        """The first `length` bytes; zeros where nothing was written."""
        if length > self.filled:
            self.view[self.filled : length] = _ZEROS[: length - self.filled]
            self.filled = length
        return self.view[:length]


def stored_end(prefix: int, tail: int, length: int) -> int:
    """The end of what was written of a slot's content."""
    return length if tail < length else prefix
