"""What scripts/test gives a second run, and what it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "second-run"


def _said(folder: Path, *failed: str) -> tuple[int, list[str]]:
    (folder / "lastfailed").write_text(json.dumps(dict.fromkeys(failed, True)))
    done = subprocess.run([sys.executable, SCRIPT, folder / "lastfailed"], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.split()


def test_a_few_with_real_parts_are_run_again_by_file(tmp_path: Path) -> None:
    failed = ["tests/integration/test_a.py::test_one[x::y]", "tests/e2e/clients/test_b.py::test_two", "tests/integration/test_a.py::test_three"]
    assert _said(tmp_path, *failed) == (0, ["tests/e2e/clients/test_b.py", "tests/integration/test_a.py"])


@pytest.mark.parametrize(
    "failed",
    [
        [],
        ["tests/unit/test_a.py::test_one"],
        ["tests/integration/test_a.py::test_one", "tests/unit/test_a.py::test_one"],
        [f"tests/integration/test_a.py::test_{number}" for number in range(4)],
    ],
    ids=["none", "a unit test", "a unit test too", "four"],
)
def test_what_is_no_chance_is_not(tmp_path: Path, failed: list[str]) -> None:
    assert _said(tmp_path, *failed) == (1, [])
