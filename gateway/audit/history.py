"""The life of one name: which lines of the audit log tell of it, and of the papers that ever had it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any


def history(records: Iterable[dict[str, Any]], path: str, papers: Collection[str]) -> Iterator[dict[str, Any]]:
    """Those of `records` (lines of one client, oldest first) that concern the name `path`, a folder above it that was renamed, or one of `papers`."""
    known = set(papers)
    for record in records:
        if record.get("paper") in known or path in (record.get("path"), record.get("target")) or _moved_with_its_folder(record, path):
            yield record


def _moved_with_its_folder(record: dict[str, Any], path: str) -> bool:
    ends = (record.get("path"), record.get("target"))
    return record.get("event") == "name.renamed" and any(isinstance(end, str) and path.startswith(end + "/") for end in ends)
