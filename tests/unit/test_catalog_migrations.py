"""Older catalogs are raised with what is in them."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from gateway.catalog import Catalog, schema
from gateway.catalog.database import Database

PAPER = {
    "id": "0" * 32,
    "client": "acme",
    "path": "/inbox/a.pdf",
    "version": 1,
    "person": "acme",
    "state": "accepted",
    "reason": "",
    "size": 5,
    "sha256": "ab" * 32,
    "received_at": 1,
    "sealed_at": 1,
    "generation": 1,
    "header_mac": "cd" * 32,
    "sealed_sha256": "ef" * 32,
    "sealed_size": 221,
    "session": "s",
    "address": "127.0.0.1",
    "receipted": True,
}


def catalog_of(revision: str, path: Path) -> None:
    """An older catalog with one client and one paper."""
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    database = Database(path)
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.execute(text("INSERT INTO clients (name, custody, active, created_at) VALUES ('acme', 'managed', 1, 1)"))
        names = ", ".join(PAPER)
        connection.execute(text(f"INSERT INTO papers ({names}) VALUES ({', '.join(':' + name for name in PAPER)})"), PAPER)
    database.close()


def test_a_paper_of_the_first_revision_is_kept_and_has_no_class(tmp_path: Path) -> None:
    catalog_of("0001", tmp_path / "catalog.sqlite3")
    with Catalog.create(tmp_path / "catalog.sqlite3") as catalog:
        paper = catalog.paper("0" * 32)
    assert paper is not None
    assert (paper.sha256, paper.size, paper.class_name, paper.code) == ("ab" * 32, 5, "", "")


def test_a_second_factor_of_before_counts_on_and_is_as_old_as_nobody_knows(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite3"
    catalog_of("0008", path)
    database = Database(path)
    with database.writing() as connection:
        connection.execute(
            text("INSERT INTO people (name, role, client, active, totp, created_at) VALUES ('ann', 'client', 'acme', 1, 1, 1)"),
        )
    database.close()
    with Catalog.create(path) as catalog:
        before, paper = catalog.existing_person("ann"), catalog.paper("0" * 32)
        assert (before.totp, before.totp_since, paper is not None) == (True, None, True)
        assert catalog.edit_person("ann", totp=True).totp_since is not None
