"""The benches run; how fast anything is, is not judged here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.long
def test_bench_of_the_vault() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/bench.py"), "vault", "--mib", "2", "--rounds", "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    for title in ("The sealing pass", "Opening from front to end", "One byte at the end", "Peak memory"):
        assert f"## {title}" in done.stdout
    assert not list(Path("/dev/shm").glob("nightsafe-bench-*"))


@pytest.mark.long
def test_bench_of_backups() -> None:
    sizes = ["--papers", "20", "--large", "1", "--many", "400", "--catalog", "5000", "--rounds", "1"]
    done = subprocess.run([sys.executable, str(ROOT / "scripts/bench.py"), "backup", *sizes], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    for title in ("A first backup", "A full drill", "A sampled drill", "Planning, sampling and reporting"):
        assert f"## {title}" in done.stdout
    assert not list(Path("/dev/shm").glob("nightsafe-bench-*"))
