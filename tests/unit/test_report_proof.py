"""A client's own evidence: written paper by paper, and the same bytes as if it had been written at once."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.report import proof
from backup.report.evidence import encode
from config.folder import DataFolder
from config.loading import Installation
from config.settings import Settings
from gateway.age import Identity
from gateway.audit.signatures import EVIDENCE, SigningKey, verify
from gateway.catalog import Catalog
from gateway.keys.keyring import EVIDENCE_SIGNING, Keyring
from gateway.keys.master import make_master
from gateway.store import SealedPaper
from tests.integration.catalog_rows import accepted_row

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
SEALED = SealedPaper(size=5, sealed_size=500, header_mac="a" * 64, sealed_sha256="b" * 64)
HOSTILE = '/inbox/a\u2028b\x85"c\\\n]}{\u202e.pdf'


@pytest.fixture
def firm(tmp_path: Path) -> tuple[Installation, SigningKey]:
    folder = DataFolder(tmp_path / "data")
    (folder.keys / "host").mkdir(parents=True)
    master = make_master(tmp_path / "master.key", folder)
    keyring = Keyring.create(folder, master.recipient, Identity.generate().recipient)
    with Catalog.create(folder.catalog) as catalog:
        catalog.add_client("acme", recipient="age1x")
    return Installation(folder, Settings()), SigningKey.parse(keyring.open_secret(EVIDENCE_SIGNING, master))


def fill(installation: Installation, client: str, count: int) -> None:
    with Catalog.open(installation.folder.catalog) as catalog:
        rows = (accepted_row(f"{n:032x}", SEALED, client=client, path=f"{HOSTILE}{n}", at=NOON + timedelta(seconds=n)) for n in range(count))
        catalog.record(list(rows))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_it_is_one_signed_document(firm: tuple[Installation, SigningKey], count: int) -> None:
    installation, signer = firm
    fill(installation, "acme", count)
    path, counts, sha256 = proof.write_proof(installation, "acme", signer, NOON)
    body = path.read_bytes()
    values = json.loads(body)
    assert body == encode(values)
    assert [paper["path"] for paper in values["papers"]] == [f"{HOSTILE}{n}" for n in range(count)]
    assert values["counts"] == counts == {"papers": count, "proven": 0}
    assert hashlib.sha256(body).hexdigest() == sha256
    public = Keyring(installation.folder).public_half(EVIDENCE_SIGNING)
    assert verify(public, EVIDENCE, body, path.with_name(path.name + ".sig").read_text())
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".html", ".json", ".sig"]


def test_memory_does_not_grow_with_the_papers(firm: tuple[Installation, SigningKey], monkeypatch: pytest.MonkeyPatch) -> None:
    installation, signer = firm
    monkeypatch.setattr(proof, "LISTED", 10)
    monkeypatch.setattr(proof, "PIECE", 64 * 1024)
    fill(installation, "acme", 3000)
    tracemalloc.start()
    try:
        path, counts, _ = proof.write_proof(installation, "acme", signer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert counts["papers"] == 3000
    assert "The newest 10" in path.with_suffix(".html").read_text()
    assert peak < 4_000_000, peak  # a page of the catalog, and the page for people; all papers at once take more than twice as much
