"""The page of attacks names tests that are there, at least forty attacks, each with what stops it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "attacks.md"
LEAST = 40
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def missing(page: str) -> list[str]:
    """What the page names and is not there."""
    known: dict[str, set[str]] = {}
    absent = []
    for number, _, _, shown in ROW.findall(page):
        references = REFERENCE.findall(shown)
        if not references:
            absent.append(f"{number}: no test")
        for file, name in references:
            if file not in known:
                path = ROOT / file
                tree = ast.parse(path.read_text("utf-8")) if path.is_file() else ast.Module([], [])
                known[file] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
            if name not in known[file]:
                absent.append(f"{number}: {file}::{name}")
    return absent


def test_each_attack_is_shown_by_a_test_that_is_there() -> None:
    text = PAGE.read_text("utf-8")
    rows = ROW.findall(text)
    assert [int(number) for number, *_ in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= LEAST
    assert all(attack.strip() and stop.strip() for _, attack, stop, _ in rows)
    assert missing(text) == []


def test_a_test_that_is_not_there_would_be_found() -> None:
    shown = ["`tests/unit/test_docs_attacks.py::test_nobody_wrote`", "nothing", "`tests/unit/none.py::test_x`"]
    assert len(missing("".join(f"| {number} | a | b | {one} |\n" for number, one in enumerate(shown)))) == 3
