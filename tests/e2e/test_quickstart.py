"""`scripts/quickstart`, as a newcomer runs it: once, again on what is there, and ended by Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.house import ROOT
from tests.e2e.trees import make_tree

pytestmark = pytest.mark.timeout(240)


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "NIGHTSAFE_HOME": str(home), "COLUMNS": "200"}


def test_twice_on_ones_own_papers(tmp_path: Path) -> None:
    there = make_tree(tmp_path / "my papers")
    command = [str(ROOT / "scripts" / "quickstart"), "--exit", "--papers", str(tmp_path / "my papers")]
    for run in (1, 2):
        started = time.monotonic()
        done = subprocess.run(command, env=environment(tmp_path / "home"), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{len(there)} deposited over SFTP" in done.stdout
        assert f"{len(there)} fetched over SFTP" in done.stdout
        assert f"passed: {len(there) * run} of {len(there) * run} papers" in done.stdout
        assert "sftp -i" in done.stdout
    assert time.monotonic() - started < 60
    assert (tmp_path / "home" / "recovery-kit.txt").read_text().count("AGE-SECRET-KEY-1") == 1


def test_it_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "one.txt").write_text("one")
    output = tmp_path / "output"
    command = [str(ROOT / "scripts" / "quickstart"), "--papers", str(tmp_path / "papers")]
    with output.open("w") as file:
        process = subprocess.Popen(command, env=environment(tmp_path / "home"), stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while "Serving until Ctrl-C" not in output.read_text():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert "Traceback" not in output.read_text()
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "home")], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(ROOT / "scripts" / "quickstart"), "--papers", str(tmp_path / "none")],
        env=environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "is not a folder" in done.stderr
    assert not (tmp_path / "home").exists()
