"""Credentials files, names in the bucket, and what counts as another machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.repositories.access import S3Access, access, file_credentials, is_offsite
from config.errors import Exit, SettingsError
from config.folder import DataFolder
from config.loading import Installation
from config.settings import Settings

GOOD = "".join(f'[{role}]\naccess_key = "{role}-key"\nsecret_key = "{role}-secret"\n' for role in ("writer", "reader", "pruner"))


def installation(tmp_path: Path, **s3: object) -> Installation:
    values = {"endpoint": "https://s3.example.com", "credentials_file": str(tmp_path / "s3.toml"), **s3}
    return Installation(DataFolder(tmp_path / "data"), Settings.model_validate({"s3": values}))


def write(tmp_path: Path, text: str, mode: int = 0o600) -> None:
    path = tmp_path / "s3.toml"
    path.write_text(text)
    path.chmod(mode)


def test_each_role_has_its_own(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    found = access(installation(tmp_path, prefix="/a//b/"), "reader")
    assert (found.access_key, found.secret_key) == ("reader-key", "reader-secret")
    assert "reader-secret" not in repr(found)
    assert found.url("papers") == "s3:https://s3.example.com/nightsafe/a/b/papers"
    assert found.folder("keys") == "a/b/keys/"
    assert found.environment()["AWS_DEFAULT_REGION"] == "us-east-1"


def test_the_place_of_the_embedded_server_does_not_change_with_its_port() -> None:
    places = {S3Access(f"http://127.0.0.1:{port}", "b", "", "r", "k", "s", embedded=True).place("papers") for port in (1, 2)}
    assert places == {"s3:embedded/b/papers"}


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (GOOD, 0o640, "other users"),
        (GOOD, 0o604, "other users"),
        ("[writer", 0o600, "not valid TOML"),
        ('secret_key = "sesame', 0o600, "not valid TOML"),
        ("", 0o600, r"no table \[writer\]"),
        ("writer = 1", 0o600, r"no table \[writer\]"),
        ('[writer]\naccess_key = "k"', 0o600, "lacks access_key or secret_key"),
        ('[writer]\naccess_key = "k"\nsecret_key = 7', 0o600, "lacks access_key or secret_key"),
        ('[writer]\naccess_key = ""\nsecret_key = "sesame"', 0o600, "lacks access_key or secret_key"),
    ],
)
def test_a_bad_file_is_named_and_nothing_of_it_quoted(text: str, mode: int, words: str, tmp_path: Path) -> None:
    write(tmp_path, text, mode)
    with pytest.raises(SettingsError, match=words) as error:
        file_credentials(installation(tmp_path), "writer")
    assert error.value.exit_code == Exit.USAGE
    assert "sesame" not in str(error.value)
    assert error.value.__cause__ is None


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        file_credentials(installation(tmp_path), "writer")
    (tmp_path / "s3.toml").mkdir(mode=0o700)
    with pytest.raises(SettingsError, match="cannot be read"):
        file_credentials(installation(tmp_path), "writer")


def test_an_endpoint_without_a_credentials_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="credentials_file is not"):
        file_credentials(installation(tmp_path, credentials_file=None), "writer")


@pytest.mark.parametrize(
    ("endpoint", "offsite"),
    [
        ("https://s3.eu-central-1.example.com", True),
        ("https://192.0.2.7:9000", True),
        ("http://127.0.0.1:8333", False),
        ("http://127.9.9.9:8333", False),
        ("http://[::1]:8333", False),
        ("http://localhost:8333", False),
        ("http://s3:8333", False),  # another container, or a machine beside this one
        ("http://s3.localhost", False),
        ("http://0.0.0.0:1", False),
        ("embedded", False),
    ],
)
def test_what_is_on_this_machine_is_not_offsite(endpoint: str, offsite: bool) -> None:
    assert is_offsite(endpoint) is offsite
