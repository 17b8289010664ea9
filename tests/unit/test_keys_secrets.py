"""Each role gets its own secrets and no others, by each of the three ways."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.errors import SettingsError
from config.folder import DataFolder
from config.loading import Installation
from config.settings import Settings
from gateway.age import Identity
from gateway.keys.keyring import RESTIC_PAPERS, S3_PRUNER, S3_READER, Keyring
from gateway.keys.master import make_master
from gateway.keys.secrets import DESCRIPTOR, INGEST_IDENTITIES, MASTER, ROLES, RoleSecrets, encode_secrets, role_secrets, secrets_for


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Installation, Keyring, Identity]:
    base = tmp_path_factory.mktemp("secrets")
    folder = DataFolder(base / "data")
    folder.root.mkdir()
    master = make_master(base / "master.key", folder)
    return Installation(folder, Settings()), Keyring.create(folder, master.recipient, Identity.generate().recipient), master


Made = tuple[Installation, Keyring, Identity]


def piped(data: bytes) -> dict[str, str]:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return {DESCRIPTOR: str(reader)}


def test_each_role_gets_its_row_and_no_more(made: Made) -> None:
    installation, keyring, master = made
    for role, names in ROLES.items():
        assert set(role_secrets(installation, role, {})) == set(names)
        assert set(secrets_for(role, keyring, master)) == set(names)
    assert not ROLES["gateway"]
    assert [role for role, names in ROLES.items() if MASTER in names] == ["keyd"]
    assert [role for role, names in ROLES.items() if INGEST_IDENTITIES in names] == ["ingest"]


def test_the_master_opens_the_same_as_the_supervisor(made: Made) -> None:
    installation, keyring, master = made
    own = role_secrets(installation, "scheduler", {})
    assert dict(own) == secrets_for("scheduler", keyring, master)
    assert len(own.text(RESTIC_PAPERS)) >= 43
    assert set(own.values_of(S3_READER)) == {"access_key", "secret_key"}
    assert own.values_of(S3_READER) != own.values_of(S3_PRUNER)
    assert role_secrets(installation, "keyd", {}).identities(MASTER) == [master]
    assert role_secrets(installation, "ingest", {}).identities(INGEST_IDENTITIES) == keyring.ingest_identities(master)


def test_a_descriptor_is_read_once_and_closed(made: Made) -> None:
    installation, keyring, master = made
    environment = piped(encode_secrets(secrets_for("ingest", keyring, master)))
    number = int(environment[DESCRIPTOR])
    given = role_secrets(installation, "ingest", environment)
    assert given.identities(INGEST_IDENTITIES) == keyring.ingest_identities(master)
    assert environment == {}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_with_a_descriptor_nothing_else_is_asked(made: Made) -> None:
    installation, *_ = made
    given = role_secrets(installation, "scheduler", piped(encode_secrets({"restic-papers": b"x"})))
    with pytest.raises(SettingsError, match="was given no secret 's3-reader'"):
        given["s3-reader"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"a":"not base64!"}', b'{"a":7}', b'"x"', b"\xff"])
def test_a_bad_descriptor_is_an_error_without_its_content(made: Made, data: bytes) -> None:
    with pytest.raises(SettingsError, match="cannot be read from the descriptor"):
        role_secrets(made[0], "ingest", piped(data))
    with pytest.raises(SettingsError, match="cannot be read from the descriptor"):
        role_secrets(made[0], "ingest", {DESCRIPTOR: "x"})


def test_credentials_come_before_the_master(made: Made, tmp_path: Path) -> None:
    installation, keyring, master = made
    for name, value in secrets_for("s3", keyring, master).items():
        (tmp_path / name).write_bytes(value)
    (tmp_path / S3_READER).write_bytes(b'{"access_key":"from","secret_key":"systemd"}')
    without_master = Installation(installation.folder, Settings.model_validate({"keys": {"master_file": "/nowhere/master"}}))
    given = role_secrets(without_master, "s3", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert given.values_of(S3_READER) == {"access_key": "from", "secret_key": "systemd"}
    (tmp_path / S3_PRUNER).unlink()
    with pytest.raises(SettingsError, match="master file"):
        role_secrets(without_master, "s3", {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_no_secret_in_repr_or_errors() -> None:
    values = RoleSecrets("ingest", {"a": b"AGE-SECRET-KEY-1XYZ", "b": b'{"k": 1}', "c": b"hush"})
    assert repr(values) == str(values) == "RoleSecrets('ingest', ['a', 'b', 'c'])"
    for fail in (lambda: values.identities("a"), lambda: values.values_of("b"), lambda: values.values_of("c"), lambda: values["d"]):
        with pytest.raises(SettingsError) as caught:
            fail()
        told = f"{caught.value} {caught.value.__cause__!r}"
        assert "XYZ" not in told
        assert "hush" not in told
