"""The fuzz target of the age parser runs, and runs for a while in the long tier."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 60


def run(corpus: Path, *options: str, seconds: int) -> subprocess.CompletedProcess[str]:
    target = ROOT / "tests" / "fuzz" / "fuzz_age_header.py"
    command = [sys.executable, str(target), *options, f"-artifact_prefix={corpus.parent}/", str(corpus)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=seconds + 120, check=False)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The files inside the vectors, small ones."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    vectors = [path for kind in ("cctv", "own") for path in (ROOT / "tests" / "vectors" / "age" / kind).iterdir() if not path.suffix]
    for path in vectors:
        head, _, file = path.read_bytes().partition(b"\n\n")
        content = zlib.decompress(file) if b"compressed: zlib" in head else file
        if len(content) < 4096:
            (folder / path.name).write_bytes(content)
    assert len(list(folder.iterdir())) > 120
    return folder


def test_the_corpus_passes_the_target(corpus: Path) -> None:
    done = run(corpus, "-runs=0", seconds=0)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "INITED" in done.stderr


@pytest.mark.long
def test_fuzzing_finds_nothing(corpus: Path) -> None:
    # The limit is far above what the fuzzer itself takes (1.2 GiB was seen, with inputs on which our code alone stays below 30 MiB).
    done = run(corpus, f"-max_total_time={SECONDS}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=4096", seconds=SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
