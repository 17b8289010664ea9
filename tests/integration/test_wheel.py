"""The wheel that users install: whole, alone in its names, and able to make a data folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIP = (sys.executable, "-m", "pip")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    source = target / "source"
    files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(target.glob("nightsafe-*.whl"))


def test_it_holds_our_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"nightsafe", "nightsafe.py", "config", "gateway", "backup"}
    for expected in (
        "gateway/catalog/migrations/env.py",
        "gateway/catalog/migrations/versions/0001_first.py",
        "gateway/catalog/migrations/versions/0010_words.py",
        "gateway/keys/restore.sh",
        "backup/report/page.html",
        "config/nightsafe.example.toml",
    ):
        assert expected in names


def test_it_makes_a_data_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)], check=True, capture_output=True
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-P", "-m", "nightsafe", "init", "--data", str(tmp_path / "data"), "--recovery-kit", str(tmp_path / "kit")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-P", "-c", "import config; print(config.__file__)"]
    where = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert where.stdout.startswith(str(site))


def test_no_other_distribution_provides_our_packages() -> None:
    owners = packages_distributions()
    for package in ("config", "gateway", "backup", "nightsafe"):
        assert set(owners[package]) == {"nightsafe"}
