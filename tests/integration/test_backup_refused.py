"""Backups that are refused before anything is sent: places that are not ours or not there, wrong credentials, missing programs and sources."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.bucket import BucketRefused, BucketUnreachable, list_names
from backup.plan import SourceMissing
from backup.repositories.access import access
from backup.repositories.repository import PlaceTaken, RepositoryLost
from backup.restic import CredentialsRefused
from backup.run import run_backup
from config.errors import Exit, OutOfReach, SettingsError
from config.loading import Installation
from gateway.audit.events import Event
from gateway.catalog import Catalog, CatalogError
from tests.integration.backup_house import House, failed, script
from tests.integration.conftest import S3Server


@pytest.fixture
def fresh(installation: Installation) -> House:
    """One without any backup."""
    return House(installation)


def test_an_emptied_bucket_is_an_error_and_stays_empty(fresh: House) -> None:
    with Catalog.open(fresh.installation.folder.catalog) as catalog:
        catalog.add_repository("papers", "s3:somewhere", "a" * 64)
    error = failed(fresh, RepositoryLost, Exit.BAD)
    assert "emptied, or swapped" in error.message
    assert "s3:somewhere" in error.hint
    assert fresh.objects() == 0


def test_a_place_with_something_else_in_it_is_left_alone(fresh: House) -> None:
    fresh.put("papers/holiday.jpg")
    error = failed(fresh, PlaceTaken, Exit.USAGE)
    assert "not empty" in error.message
    assert fresh.objects() == 1
    assert fresh.repository("papers") is None


@pytest.mark.long
def test_an_init_that_died_is_begun_anew(fresh: House) -> None:
    fresh.put("papers/keys/" + "ab" * 32)
    assert run_backup(fresh.installation).state == "passed"
    keys = list_names(access(fresh.installation, "reader"), f"{fresh.installation.settings.s3.prefix}/papers/keys/")
    assert not any(name.endswith("ab" * 32) for name in keys)
    assert len(keys) == 2


@pytest.mark.long
def test_a_repository_that_the_catalog_never_came_to_know_is_taken_up(fresh: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:

        def no_space(*_: object) -> None:
            raise CatalogError("the catalog cannot be used", "make space")

        broken.setattr(Catalog, "add_repository", no_space)
        failed(fresh, CatalogError, Exit.OUT_OF_REACH)
    assert run_backup(fresh.installation).state == "passed"
    created = {event["repository"]: event for event in fresh.events(Event.REPOSITORY_CREATED)}
    assert (created["papers"]["adopted"], created["keys"]["adopted"]) == (True, False)
    assert len(json.loads(fresh.restic("key", "list", "--json", role="writer").stdout)) == 2, "the kit was let in once"


def test_credentials_that_may_not_write_leave_nothing(fresh: House, s3: S3Server, tmp_path: Path) -> None:
    reader = s3.access("reader")
    file = tmp_path / "s3.toml"
    text = file.read_text()
    writer = s3.access("writer")
    file.write_text(text.replace(writer.access_key, reader.access_key).replace(writer.secret_key, reader.secret_key))
    failed(fresh, CredentialsRefused, Exit.USAGE)
    assert fresh.objects() == 0
    assert fresh.repository("papers") is None


def test_an_endpoint_that_refuses(fresh: House) -> None:
    failed(fresh.change(s3={"endpoint": "http://127.0.0.1:9"}), BucketUnreachable, Exit.OUT_OF_REACH)


def test_wrong_credentials(fresh: House, tmp_path: Path) -> None:
    file = tmp_path / "s3.toml"
    file.write_text(file.read_text().replace('secret_key = "', 'secret_key = "wrong'))
    failed(fresh, BucketRefused, Exit.USAGE)


def test_a_bucket_that_is_not_there(fresh: House) -> None:
    failed(fresh.change(s3={"bucket": "no-such-bucket"}), BucketRefused, Exit.USAGE)


def test_an_embedded_server_that_does_not_run(new_installation: Callable[..., Installation]) -> None:
    failed(House(new_installation()), OutOfReach, Exit.OUT_OF_REACH)


def test_restic_missing_and_too_old(fresh: House, tmp_path: Path) -> None:
    failed(fresh.change(backup={"restic": "no-such-restic"}), OutOfReach, Exit.OUT_OF_REACH)
    old = script(tmp_path, "echo restic 0.12.0 compiled with go1.15")
    failed(fresh.change(backup={"restic": str(old)}), SettingsError, Exit.USAGE)


@pytest.mark.parametrize("source", ["vault", "quarantine"])
def test_a_source_that_is_missing_is_named(fresh: House, source: str) -> None:
    (fresh.installation.folder.root / source).rmdir()
    error = failed(fresh, SourceMissing, Exit.BAD)
    assert source in error.message
    assert fresh.objects() == 0, "nothing was made for it"
