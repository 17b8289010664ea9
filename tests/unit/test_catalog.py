"""The catalog against a real SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from config.errors import SettingsError, UsageError
from gateway.catalog import Catalog, CatalogError, NewPaper, PublicKey, check_name, schema, tables

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
PAPER = NewPaper(
    id="0" * 32,
    client="acme",
    path="/inbox/a.pdf",
    person="acme",
    state="accepted",
    reason="",
    size=5,
    sha256="ab" * 32,
    received_at=NOW,
    sealed_at=NOW,
    modified_at=None,
    generation=1,
    header_mac="cd" * 32,
    sealed_sha256="ef" * 32,
    sealed_size=221,
    session="s",
    address="127.0.0.1",
)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = Catalog.create(tmp_path / "catalog.sqlite3")
    made.add_client("acme", recipient="age1x")
    return made


def test_migrations_and_tables_agree(tmp_path: Path) -> None:
    Catalog.create(tmp_path / "c").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'c'}")
    with engine.connect() as connection:
        search = ("paper_names", "paper_words")  # SQLite's own
        ours = {"include_name": lambda name, kind, _: kind != "table" or not name.startswith(search)}
        assert compare_metadata(MigrationContext.configure(connection, opts=ours), tables.metadata) == []
    files = sorted(path.name[:4] for path in (Path(schema.__file__).parent / "migrations" / "versions").glob("[0-9]*.py"))
    assert tuple(files) == schema.REVISIONS


def test_client_and_person_come_back(catalog: Catalog) -> None:
    key = PublicKey("ssh-ed25519 AAAA", "SHA256:x", "laptop")
    added = catalog.add_person("ann", client="acme", keys=[key, key])
    assert catalog.person("ann") == added
    assert added.keys == (key,)
    client = catalog.client("acme")
    assert client is not None
    assert [key.recipient for key in client.keys] == ["age1x"]
    assert catalog.client("nobody") is None


def test_taken_and_unknown_names_are_refused(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="already"):
        catalog.add_client("acme", recipient="age1y")
    with pytest.raises(UsageError, match="no client"):
        catalog.add_person("bob", client="nobody")


@pytest.mark.parametrize("name", ["", "A", ".x", "-x", "a/b", "a" * 33, "ä", "a\n", "a b"])
def test_bad_names(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


def test_versions_are_numbered_and_recording_is_idempotent(catalog: Catalog) -> None:
    second = replace(PAPER, id="1" * 32, sha256="00" * 32)
    other = replace(PAPER, id="2" * 32, path="/inbox/b.pdf")
    recorded = catalog.record([PAPER, second, other, PAPER])
    assert [paper.version for paper in recorded] == [1, 2, 1, 1]
    assert [paper.version for paper in catalog.record([second])] == [2]
    assert [paper.id for paper in catalog.versions("acme", "/inbox/a.pdf")] == [PAPER.id, second.id]
    assert catalog.count_papers() == (3, 15)
    first = catalog.paper(PAPER.id)
    assert first is not None
    assert first.received_at == NOW


def test_all_papers_page_by_page(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.catalog.papers.PAGE", 3)
    ids = [f"{number:032x}" for number in range(10)]
    catalog.record([replace(PAPER, id=paper) for paper in ids])
    assert [paper.id for paper in catalog.papers("acme")] == ids
    assert list(catalog.papers("acme", state="refused")) == []


def test_receipts_are_remembered(catalog: Catalog) -> None:
    catalog.record([PAPER])
    assert [paper.id for paper in catalog.unreceipted()] == [PAPER.id]
    catalog.mark_receipted([PAPER])
    assert catalog.unreceipted() == []


def test_a_paper_that_is_released_counts_as_sealed_now(catalog: Catalog) -> None:
    """No snapshot from before has it in the vault, so no drill of one may miss it, and none may be said to have proven it."""
    refused = replace(PAPER, state="refused", code="rule", sealed_at=datetime.now(UTC) - timedelta(days=9))
    catalog.record([refused])
    assert catalog.change_verdict(PAPER.id, "refused", "A person said so.", "deleted").sealed_at == refused.sealed_at
    assert datetime.now(UTC) - catalog.change_verdict(PAPER.id, "accepted", "A person said so.", "released").sealed_at < timedelta(minutes=1)


def test_a_receipt_that_is_out_of_date_stays_due(catalog: Catalog) -> None:
    """Its verdict, or what its lines as a manifest say, changed between its writing and its marking."""
    others = [replace(PAPER, id=f"{number:032x}", path=f"/inbox/{number}") for number in (1, 2)]
    catalog.put_manifest(PAPER.id, PAPER.client, [("/inbox/later", "a" * 64)], 0, "")
    catalog.record([PAPER, *others])
    catalog.change_verdict(others[0].id, "refused", "A person said so.", "declined")
    catalog.mark_receipted([PAPER, *others], {PAPER.id: {"missing": 1}})
    assert [paper.id for paper in catalog.unreceipted()] == [others[0].id]
    later = replace(PAPER, id="f" * 32, path="/inbox/later", sha256="b" * 64)
    (manifest,) = catalog.compare_manifests(catalog.record([later]))
    catalog.mark_receipted([manifest, later], {PAPER.id: {"missing": 1}})
    assert PAPER.id in [paper.id for paper in catalog.unreceipted()]
    catalog.mark_receipted([manifest], {PAPER.id: {"differs": 1}})
    assert [paper.id for paper in catalog.unreceipted()] == [others[0].id]


def test_runs_and_what_a_dead_process_left(catalog: Catalog) -> None:
    run = catalog.start_run("backup", {"a": 1})
    assert catalog.run(run).state == "running"
    assert catalog.reconcile_runs() == 0  # this process is alive
    assert catalog.reconcile_runs("drill") == 0
    assert catalog.reconcile_runs("backup") == 1  # the caller holds the lock: it cannot be running
    assert catalog.run(run).state == "interrupted"
    done = catalog.finish_run(catalog.start_run("backup"), "passed", snapshot="abc", detail={"papers": 3})
    assert (done.snapshot, done.detail) == ("abc", {"papers": 3})
    assert [found.id for found in catalog.runs("backup")] == [done.id, run]
    with pytest.raises(UsageError):
        catalog.run(999)


def test_dump_is_a_catalog_of_its_own(catalog: Catalog, tmp_path: Path) -> None:
    catalog.record([PAPER])
    catalog.dump(tmp_path / "dump.sqlite3")
    catalog.record([replace(PAPER, id="9" * 32)])
    with Catalog.open(tmp_path / "dump.sqlite3") as copy:
        assert copy.count_papers() == (1, 5)
    assert (tmp_path / "dump.sqlite3").stat().st_mode & 0o777 == 0o600


def test_a_newer_catalog_is_refused_and_unchanged(catalog: Catalog, tmp_path: Path) -> None:
    catalog.close()
    with sqlite3.connect(tmp_path / "catalog.sqlite3") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SettingsError, match="newer"):
        Catalog.open(tmp_path / "catalog.sqlite3")
    with pytest.raises(SettingsError, match="newer"):
        Catalog.create(tmp_path / "catalog.sqlite3")


def test_a_missing_catalog_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="missing"):
        Catalog.open(tmp_path / "none.sqlite3")
    assert not (tmp_path / "none.sqlite3").exists()


def test_a_catalog_that_was_damaged_and_is_mended_is_read_again_without_a_restart(tmp_path: Path) -> None:
    """SQLite's connections remember the pages that they met: every process would go on to find it damaged."""
    path = tmp_path / "catalog.sqlite3"
    with Catalog.create(path) as made:
        made.add_client("acme", recipient="age1x")
    with Catalog.open(path) as catalog, closing(catalog.changes()) as changes:
        assert changes.happened() and not changes.happened()
        assert [client.name for client in catalog.clients()] == ["acme"]
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        whole = path.read_bytes()
        with path.open("r+b") as file:  # in place: a new file would be another one
            file.write(bytes(len(whole)))
        for look in (catalog.clients, changes.happened):
            with pytest.raises(CatalogError, match="not a database"):
                look()
        with path.open("r+b") as file:
            file.write(whole)
        assert [client.name for client in catalog.clients()] == ["acme"]
        assert changes.happened(), "nobody knows what was committed meanwhile"
        assert not changes.happened()


def test_too_many_at_once_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Catalog.create(tmp_path / "catalog.sqlite3")) as made, ExitStack() as stack:
        monkeypatch.setattr(made._database._engine.pool, "_timeout", 0.01)
        with pytest.raises(CatalogError) as refused:
            for _ in range(100):
                stack.enter_context(made._database.reading())
        assert "connections" in str(refused.value)
