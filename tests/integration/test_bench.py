"""The benches run; how fast anything is, is not judged here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A bench removes its folder, whatever others (one that was killed, one run by hand) have left there before."""
    before = folders()
    yield
    assert folders() <= before


def folders() -> set[Path]:
    return set(Path("/dev/shm").glob("nightsafe-bench-*"))


@pytest.mark.long
@pytest.mark.parametrize(
    ("bench", "titles"),
    [
        ("vault --mib 2", ("The sealing pass", "Opening from front to end", "One byte at the end", "Peak memory")),
        ("ingest --papers 50 --mib 2 --catalog 2000", ("Small papers", "Waiting for a receipt", "A paper of 2 MiB", "The catalog")),
    ],
)
def test_a_bench(bench: str, titles: tuple[str, ...]) -> None:
    command = [sys.executable, str(ROOT / "scripts/bench.py"), *bench.split(), "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    for title in titles:
        assert f"## {title}" in done.stdout


@pytest.mark.long
def test_bench_of_backups() -> None:
    sizes = ["--papers", "20", "--large", "1", "--many", "400", "--catalog", "5000", "--rounds", "1"]
    done = subprocess.run([sys.executable, str(ROOT / "scripts/bench.py"), "backup", *sizes], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    for title in ("A first backup", "A full drill", "A sampled drill", "Planning, sampling and reporting"):
        assert f"## {title}" in done.stdout
