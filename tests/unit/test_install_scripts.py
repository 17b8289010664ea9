"""scripts/install and scripts/uninstall, as far as they can be judged without installing: shape, names, and what they refuse."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from config.owners import ROLES

ROOT = Path(__file__).parents[2]
INSTALL, UNINSTALL = ROOT / "scripts" / "install", ROOT / "scripts" / "uninstall"


@pytest.mark.parametrize("script", [INSTALL, UNINSTALL])
def test_it_is_a_shell_script_that_explains_itself(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    done = subprocess.run([script, "--nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"scripts/{script.name}" in done.stderr


def test_both_know_every_role() -> None:
    listed = re.search(r"^readonly roles=\((.*)\)$", INSTALL.read_text(), re.MULTILINE)
    assert listed is not None
    assert tuple(listed[1].split()) == ROLES
    assert re.findall(r"for role in (.*); do", UNINSTALL.read_text()) == [" ".join(ROLES)] * 2


def test_the_program_is_installed_whole() -> None:
    (sources,) = re.findall(r"^sources=\((.*)\)$", INSTALL.read_text(), re.MULTILINE)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= set(sources.split())


def test_nothing_is_purged_without_the_folders_name() -> None:
    """Asked before anything is touched; on a machine where nothing is installed, too."""
    for typed in ("", "yes\n", "/var/lib\n"):
        done = subprocess.run([UNINSTALL, "--purge"], input=typed, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "nothing was removed" in done.stderr or "only root" in done.stderr


def test_a_role_that_cannot_start_is_told_of_and_not_waited_for_without_end() -> None:
    """The waiting alone, with a service manager whose gateway never starts."""
    waiting = re.search(r"^await\(\) \{.*?^\}", INSTALL.read_text(), re.MULTILINE | re.DOTALL)
    fail = re.search(r"^fail\(\) .*$", INSTALL.read_text(), re.MULTILINE)
    assert waiting is not None and fail is not None
    fakes = 'systemctl() { [ "$3" != nightsafe-gateway ]; }; journalctl() { echo "port 2022 is taken"; }'
    for units, code, words in (
        ("nightsafe-keyd", 0, ""),
        ("nightsafe-keyd nightsafe-gateway", 5, "nightsafe-gateway does not run:\nport 2022 is taken\n"),
    ):
        script = f"set -euo pipefail\n{fail[0]}\n{waiting[0]}\n{fakes}\nawait 1 {units}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr[: len(words)]) == (code, words), done.stderr
