"""`scripts/quickstart`, as a newcomer runs it: once, again on what is there, and ended by Ctrl-C."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from config.folder import DataFolder
from tests.e2e.house import ROOT, House
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


@pytest.mark.long
def test_a_port_that_is_taken_meanwhile_is_no_obstacle_and_another_mistake_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("quickstart", ROOT / "scripts" / "quickstart.py")
    assert spec
    assert spec.loader
    quickstart = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "quickstart", quickstart)
    spec.loader.exec_module(quickstart)
    place, house = quickstart.Place(tmp_path / "home"), House(tmp_path / "home")
    place.home.mkdir()
    house.init()
    for name, value in house.environment.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ports = [other.getsockname()[1], 0, 0]
        monkeypatch.setattr(quickstart, "_port", lambda: ports.pop(0))
        server, process = quickstart._start(place)
        quickstart._stop(process)
        assert ports == []
        assert server["sftp"]["port"] != other.getsockname()[1]
    DataFolder(house.data).catalog.write_bytes(b"")
    monkeypatch.setattr(quickstart, "_port", lambda: 0)
    with pytest.raises(quickstart.QuickstartError, match=r"catalog\.sqlite3 is empty"):
        quickstart._start(place)


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
