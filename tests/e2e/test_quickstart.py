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


def test_it_serves_until_it_is_told_to_end_and_uses_what_is_there(tmp_path: Path) -> None:
    there = make_tree(tmp_path / "my papers")
    command = [str(ROOT / "scripts" / "quickstart"), "--papers", str(tmp_path / "my papers")]
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(command, env=environment(tmp_path / "home"), stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while "Serving until Ctrl-C" not in output.read_text():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.2)
    check_summary(output.read_text(), len(there), len(there))
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert "Traceback" not in output.read_text()
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "home")], capture_output=True, text=True, check=False)
    assert left.stdout == ""
    again = subprocess.run([*command, "--exit"], env=environment(tmp_path / "home"), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    check_summary(again.stdout, len(there), 2 * len(there))
    assert (tmp_path / "home" / "recovery-kit.txt").read_text().count("AGE-SECRET-KEY-1") == 1


def check_summary(text: str, deposited: int, drilled: int) -> None:
    assert f"{deposited} deposited over SFTP" in text
    assert f"{deposited} fetched over SFTP" in text
    assert f"passed: {drilled} of {drilled} papers" in text
    assert "sftp -i" in text


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
