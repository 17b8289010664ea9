"""A data folder of the first version, taken over by this program: nothing is lost, everything goes on."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection

from backup.drill.run import run_drill
from backup.run import run_backup
from config.errors import SettingsError
from config.loading import Installation, load_settings, open_installation
from config.roles import running_role
from gateway.audit.verify import verify
from gateway.catalog import Catalog, schema
from gateway.catalog.schema import HEAD, migrate
from gateway.commands.catalog import upgrade
from gateway.keys.agent import key_agent
from gateway.store import Vault
from tests.integration.conftest import S3Server

FIRST = Path(__file__).parents[1] / "fixtures" / "first-version.tar.xz"
PAPERS = {b"Invoice 1\n", b"x" * 20_000, b"second version\n"}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("first")
    with tarfile.open(FIRST) as archive:
        archive.extractall(home, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # Python 3.11.2 has no filters yet
    return home


@pytest.fixture
def old(first: Path, tmp_path: Path) -> Installation:
    """One to upgrade."""
    shutil.copytree(first, tmp_path / "home", copy_function=shutil.copy2)
    return open_installation(tmp_path / "home" / "data")


def brought_along(installation: Installation) -> str:
    done = CliRunner().invoke(upgrade, ["--data", str(installation.folder.root)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def rows(catalog: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as connection:
        return sorted(connection.execute("SELECT id, client, sha256, state FROM papers"))


def everything(catalog: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as connection:
        return list(connection.iterdump())


def contents(installation: Installation) -> set[bytes]:
    """Every accepted paper, opened the way that ops do it."""
    agent = key_agent(installation)
    with Catalog.open(installation.folder.catalog) as catalog:
        vault = Vault(installation.folder.vault)
        found = set()
        for paper in catalog.papers("acme"):
            key = agent.paper_key("acme", paper.id, "vault", "ops:test", "upgrade")
            with vault.open(paper.client, paper.id, file_key=key) as reader:
                found.add(reader.read())
        return found


def test_the_catalog_is_copied_and_brought_along_and_every_paper_opens(old: Installation) -> None:
    before = rows(old.folder.catalog)
    with pytest.raises(SettingsError, match="catalog upgrade"):
        Catalog.open(old.folder.catalog)
    said = brought_along(old)
    copy = old.folder.root / f"catalog.before-{HEAD}.sqlite3"
    assert str(copy) in said
    assert rows(copy) == rows(old.folder.catalog) == before
    assert len(before) == len(PAPERS)
    assert contents(old) == PAPERS
    assert "already" in brought_along(old)
    assert verify(old.folder.audit, (old.folder.keys / "allowed_signers").read_text().splitlines()).ok


def test_an_upgrade_that_was_cut_off_changed_nothing(old: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(connection: Connection) -> None:
        migrate(connection)
        raise KeyboardInterrupt

    before = everything(old.folder.catalog)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(schema, "migrate", cut_off)
        Catalog.upgrade(old.folder.catalog)
    assert everything(old.folder.catalog) == before
    brought_along(old)
    assert everything(old.folder.root / f"catalog.before-{HEAD}.sqlite3") == before


def test_an_upgrade_after_one_that_was_taken_back_makes_a_copy_of_its_own(old: Installation) -> None:
    copy = old.folder.root / f"catalog.before-{HEAD}.sqlite3"
    copy.write_bytes(b"of the first upgrade")
    before = rows(old.folder.catalog)
    brought_along(old)
    assert rows(copy) == before


def test_of_two_upgrades_at_once_the_later_one_leaves_the_copy_of_the_first(old: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """`nightsafe up` and `nightsafe catalog upgrade`: both found the catalog old."""
    before = everything(old.folder.catalog)
    copy = old.folder.root / f"catalog.before-{HEAD}.sqlite3"
    check_known, copies = schema.check_known, []

    def overtaken(revision: str | None) -> None:
        check_known(revision)
        monkeypatch.setattr(schema, "check_known", check_known)
        if not copies:
            copies.append(Catalog.upgrade(old.folder.catalog))

    monkeypatch.setattr(schema, "check_known", overtaken)
    assert Catalog.upgrade(old.folder.catalog) is None and copies == [copy]
    assert everything(copy) == before


@pytest.mark.parametrize("tables", ["", "CREATE TABLE bans (address)"])
def test_no_catalog_is_made_in_a_database_that_is_none(old: Installation, tables: str) -> None:
    """Another of our databases, put there by mistake; one whose first transaction did not come along."""
    for path in old.folder.root.glob("catalog.sqlite3*"):
        path.unlink()
    with closing(sqlite3.connect(old.folder.catalog)) as connection:
        connection.executescript(f"PRAGMA journal_mode=WAL; {tables}")
    before = old.folder.catalog.read_bytes()
    with pytest.raises(SettingsError, match="no catalog"):
        Catalog.open(old.folder.catalog)
    done = CliRunner().invoke(upgrade, ["--data", str(old.folder.root)])
    assert isinstance(done.exception, SettingsError) and "no catalog" in str(done.exception)
    assert old.folder.catalog.read_bytes() == before
    assert not list(old.folder.root.glob("catalog.before-*"))


@pytest.mark.parametrize("name", ["gateway", "ingest", "ingest-2"])
def test_nothing_is_upgraded_under_the_feet_of_a_role(old: Installation, name: str) -> None:
    with running_role(old.folder, name) as role:
        role.announce()
        done = CliRunner().invoke(upgrade, ["--data", str(old.folder.root)])
    assert name in str(done.exception)
    assert not list(old.folder.root.glob("catalog.before-*"))


def test_where_nothing_is_to_be_upgraded_roles_may_run(old: Installation) -> None:
    """scripts/install run once more over the same release."""
    assert CliRunner().invoke(upgrade, ["--data", str(old.folder.root)]).exit_code == 0
    with running_role(old.folder, "gateway") as role:
        role.announce()
        done = CliRunner().invoke(upgrade, ["--data", str(old.folder.root)])
    assert (done.exit_code, done.output) == (0, "The catalog is of this version already.\n")


@pytest.mark.parametrize("newer", ["catalog", "settings", "folder"])
def test_what_a_newer_program_wrote_is_refused_and_left_as_it_is(old: Installation, newer: str) -> None:
    folder = old.folder
    if newer == "catalog":
        with closing(sqlite3.connect(folder.catalog)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
            connection.commit()
    elif newer == "settings":
        folder.settings.write_text('format = 2\n[something]\nnew = "x"\n')
    else:
        folder.version_file.write_text("2\n")
    before = {path: path.read_bytes() for path in (folder.catalog, folder.settings, folder.version_file)}
    done = CliRunner().invoke(upgrade, ["--data", str(folder.root)])
    assert isinstance(done.exception, SettingsError)
    assert "newer" in str(done.exception)
    assert {path: path.read_bytes() for path in before} == before
    assert not list(folder.root.glob("catalog.before-*"))


@pytest.mark.long
def test_it_backs_up_and_drills_as_if_it_were_new(old: Installation, s3: S3Server) -> None:
    brought_along(old)
    settings = s3.settings(old.folder.root.parent, f"upgrade-{os.urandom(6).hex()}")
    old.folder.settings.write_text(f"format = 1\n{settings}")
    installation = Installation(old.folder, load_settings(old.folder.settings))
    assert run_backup(installation).state == "passed"
    drilled = run_drill(installation, "full")
    assert (drilled.state, drilled.detail["verified"]) == ("passed", len(PAPERS))
