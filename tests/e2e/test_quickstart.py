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

pytestmark = pytest.mark.timeout(900)


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "NIGHTSAFE_HOME": str(home), "COLUMNS": "200"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the quickstart finds papers, and has its home."""
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def there(place: Path) -> int:
    """How many papers it finds."""
    return len(make_tree(place / "my papers"))


def command(place: Path) -> list[str]:
    return [str(ROOT / "scripts" / "quickstart"), "--papers", str(place / "my papers")]


def test_it_serves_until_it_is_told_to_end(place: Path, there: int) -> None:
    output = place / "output"
    with output.open("w") as file:
        process = subprocess.Popen(command(place), env=environment(place / "home"), stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 400
        while "Serving until Ctrl-C" not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(240)
    check_summary(output.read_text(), there, there)
    assert "Traceback" not in output.read_text()
    left = subprocess.run(["pgrep", "-f", str(place / "home")], capture_output=True, text=True, check=False)
    assert left.stdout == ""
    assert (place / "home" / "recovery-kit.txt").read_text().count("AGE-SECRET-KEY-1") == 1


@pytest.mark.long
def test_it_uses_what_is_there(place: Path, there: int) -> None:
    """Run after the one before."""
    kit = (place / "home" / "recovery-kit.txt").read_text()
    again = subprocess.run([*command(place), "--exit"], env=environment(place / "home"), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    check_summary(again.stdout, there, 2 * there)
    assert (place / "home" / "recovery-kit.txt").read_text() == kit


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
