"""Intervals: which bytes of a paper have been written. Pure, and bounded: when there are too many pieces it forgets some, and so errs
towards "not written"."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

LIMIT = 512


class Intervals:
    """Sorted, disjoint, not touching each other."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, until: int = 0) -> None:
        """Written: [0, until)."""
        self._starts = [0] if until else []
        self._ends = [until] if until else []

    def add(self, start: int, end: int) -> None:
        """[start, end) is written."""
        if end <= start:
            return
        starts, ends = self._starts, self._ends
        if ends and starts[-1] <= start <= ends[-1]:  # what sequential writing does
            if end > ends[-1]:
                ends[-1] = end
            return
        first = bisect_left(ends, start)
        last = bisect_right(starts, end)
        if first < last:
            start = min(start, starts[first])
            end = max(end, ends[last - 1])
        starts[first:last] = [start]
        ends[first:last] = [end]
        if len(starts) > LIMIT:
            starts.pop()
            ends.pop()

    def cut(self, size: int) -> None:
        """Nothing from `size` on is written."""
        while self._starts and self._starts[-1] >= size:
            self._starts.pop()
            self._ends.pop()
        if self._ends and self._ends[-1] > size:
            self._ends[-1] = size

    def run_end(self, place: int) -> int:
        """Where the run of written bytes that holds the byte at `place` ends; `place` itself when that byte is not written."""
        index = bisect_right(self._starts, place) - 1
        return max(place, self._ends[index]) if index >= 0 else place

    def run_start(self, place: int) -> int:
        """Where the run of written bytes that holds the byte before `place` begins; `place` itself when that byte is not written."""
        index = bisect_left(self._starts, place) - 1
        return self._starts[index] if index >= 0 and self._ends[index] >= place else place

    def runs(self, most: int) -> list[tuple[int, int]]:
        """The first `most` of them, as (start, end)."""
        return list(zip(self._starts[:most], self._ends[:most], strict=True))

    def __len__(self) -> int:
        return len(self._starts)
