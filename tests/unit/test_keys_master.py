"""Where the master may come from, and where it may not lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.errors import SettingsError
from config.folder import DataFolder
from config.loading import Installation
from config.settings import Settings
from gateway.age import Identity
from gateway.keys.master import identity_file, load_master, make_master


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    folder = DataFolder(tmp_path / "data")
    folder.root.mkdir(0o700)
    return Installation(folder, Settings())


@pytest.fixture
def identity() -> Identity:
    return Identity.generate()


def put(path: Path, identity: Identity, mode: int = 0o600) -> Path:
    path.write_text(identity_file(identity))
    path.chmod(mode)
    return path


def at(installation: Installation, path: Path) -> Installation:
    return Installation(installation.folder, Settings.model_validate({"keys": {"master_file": path}}))


def test_made_once_and_loaded_again(installation: Installation, tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    made = make_master(path, installation.folder)
    assert path.stat().st_mode & 0o777 == 0o600
    assert make_master(path, installation.folder) == made == load_master(installation, {})
    assert sorted(os.listdir(tmp_path)) == ["data", "master.key"]


def test_what_an_interrupted_run_left_is_replaced(installation: Installation, tmp_path: Path) -> None:
    left = put(tmp_path / "master.key.new", Identity.generate())
    made = make_master(tmp_path / "master.key", installation.folder)
    assert not left.exists()
    assert load_master(installation, {}) == made


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_modes_that_are_taken(installation: Installation, tmp_path: Path, identity: Identity, mode: int) -> None:
    put(tmp_path / "master.key", identity, mode)
    assert load_master(installation, {}) == identity


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o666, 0o601])
def test_a_file_that_is_open_to_others_is_refused(installation: Installation, tmp_path: Path, identity: Identity, mode: int) -> None:
    put(tmp_path / "master.key", identity, mode)
    with pytest.raises(SettingsError, match="open to other users"):
        load_master(installation, {})


@pytest.mark.parametrize("inside", ["master.key", "keys/master.key", "../data/x", "./a/../master.key"])
def test_a_master_in_the_data_folder_is_refused(installation: Installation, identity: Identity, inside: str) -> None:
    path = installation.folder.root / inside
    for made in ("a", "keys"):
        (installation.folder.root / made).mkdir()
    put(path, identity)
    with pytest.raises(SettingsError, match="inside the data folder"):
        load_master(at(installation, Path(inside)), {})
    with pytest.raises(SettingsError, match="inside the data folder"):
        make_master(path, installation.folder)


def test_a_way_into_the_data_folder_through_links_is_refused(installation: Installation, tmp_path: Path, identity: Identity) -> None:
    put(installation.folder.root / "m", identity)
    (tmp_path / "elsewhere").symlink_to(installation.folder.root)
    with pytest.raises(SettingsError, match="inside the data folder"):
        load_master(at(installation, tmp_path / "elsewhere" / "m"), {})


def test_links_folders_and_pipes_are_refused(installation: Installation, tmp_path: Path, identity: Identity) -> None:
    path = tmp_path / "master.key"
    with pytest.raises(SettingsError, match="missing"):
        load_master(installation, {})
    path.symlink_to(put(tmp_path / "real", identity))
    with pytest.raises(SettingsError, match="cannot be opened"):
        load_master(installation, {})
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(SettingsError, match="not a plain file"):
        load_master(installation, {})
    path.unlink()
    path.mkdir(0o700)
    with pytest.raises(SettingsError, match="not a plain file"):
        load_master(installation, {})


@pytest.mark.parametrize("change", [lambda t: "", lambda t: t + t, lambda t: t[:-10], lambda t: t.replace("KEY-1", "KEY-2"), lambda t: "\xff" + t])
def test_a_text_that_is_no_identity_is_refused_and_not_told(installation: Installation, tmp_path: Path, identity: Identity, change: object) -> None:
    path = put(tmp_path / "master.key", identity)
    path.write_text(change(identity.encode() + "\n"), encoding="latin-1")  # type: ignore[operator]
    with pytest.raises(SettingsError, match="does not hold one age identity") as caught:
        load_master(installation, {})
    told = f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert identity.encode()[20:40] not in told


def test_the_credentials_directory_comes_first(installation: Installation, tmp_path: Path, identity: Identity) -> None:
    put(tmp_path / "master.key", Identity.generate())
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert load_master(installation, environment) != identity  # none there: the file
    put(credentials / "master", identity, 0o440)
    assert load_master(installation, environment) == identity
    put(credentials / "master", identity).write_text("garbage")
    with pytest.raises(SettingsError, match="does not hold one age identity"):
        load_master(installation, environment)
