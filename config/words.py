"""Counts in sentences."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """`1 paper`, `2 papers`. Where more changes than an s at the end, both are given: counted(n, "paper waits", "papers wait")."""
    return f"{count} {noun(count, one, many)}"


def noun(count: int, one: str, many: str = "") -> str:
    """`paper` or `papers`, for where the count itself stands in another form or place."""
    return one if count == 1 else many or f"{one}s"


def all_of(count: int, one: str, many: str) -> str:
    """`The only paper was`, `All 2 papers were`."""
    return f"The only {one}" if count == 1 else f"All {count} {many}"
