"""The page of faults names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def missing(page: str) -> list[str]:
    """The tests that a page names, and that are nowhere."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 30
    return [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).exists() or not re.search(rf"^def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    ]


def test_every_fault_has_its_test() -> None:
    page = (ROOT / "docs" / "reference" / "faults.md").read_text("utf-8")
    assert missing(page) == []
    assert missing(page + "`tests/unit/test_docs_faults.py::test_of_nothing`") == ["tests/unit/test_docs_faults.py::test_of_nothing"]
