"""One byte of a stored thing is another one, or two things are in each other's place: reading says so, with an error of ours.

Landed spool files have a matrix of their own: test_store_damage.py. Here: vault files, key files, receipts; every byte of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.errors import NightsafeError
from config.folder import DataFolder
from gateway.age import Identity
from gateway.audit.log import AuditLog
from gateway.audit.signatures import RECEIPT, SigningKey, sign, verify
from gateway.catalog import Catalog
from gateway.ingest.receipts import receipt_body
from gateway.keys.errors import KeyRefused
from gateway.keys.keyring import Keyring
from gateway.keys.protocol import PaperRequest
from gateway.keys.service import KeyService
from gateway.store import SealedPaper, Vault, new_paper_id
from tests.integration.catalog_rows import accepted_row

CLIENT = "acme"
NOW = datetime(2024, 5, 1, tzinfo=UTC)


def missed(data: bytes, accepts: Callable[[bytes], bool], bits: int = 1) -> list[tuple[int, int]]:
    """(place, bit) of every flip that `accepts` did not notice, `bits` of them in each byte. An error that is not ours passes through: it
    crossed a package."""
    assert accepts(data)
    found = []
    for place in range(len(data)):
        for bit in {(place + step) % 8 for step in range(bits)}:
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            try:
                if accepts(bytes(changed)):
                    found.append((place, bit))
            except NightsafeError:
                continue
    return found


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


def put(vault: Vault, identity: Identity, content: bytes) -> tuple[str, SealedPaper]:
    paper = new_paper_id()
    with vault.writer(CLIENT, paper, identity.recipient) as writer:
        writer.write(content)
        return paper, writer.commit()


EVERY = [1, pytest.param(8, marks=pytest.mark.long)]


@pytest.mark.parametrize("bits", EVERY)
def test_a_vault_file(vault: Vault, bits: int) -> None:
    identity = Identity.generate()
    paper, _ = put(vault, identity, b"a small paper")
    path = vault.path(CLIENT, paper)

    def accepts(data: bytes) -> bool:
        path.write_bytes(data)
        with vault.open(CLIENT, paper, identities=[identity]) as source:
            return source.read() == b"a small paper"

    assert missed(path.read_bytes(), accepts, bits) == []


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[tuple[DataFolder, Identity, Keyring]]:
    folder, master = DataFolder(tmp_path / "data"), Identity.generate()
    keyring = Keyring.create(folder, master.recipient, Identity.generate().recipient)
    keyring.add_client(CLIENT)
    yield folder, master, keyring


@pytest.mark.parametrize("bits", EVERY)
@pytest.mark.parametrize("name", ["clients/acme/1.age", "clients/acme/1.recipient", "../ingest-keys/1.age", "secrets/receipt-signing.age"])
def test_a_key_file(folder: tuple[DataFolder, Identity, Keyring], name: str, bits: int) -> None:
    data, master, keyring = folder
    path = data.keys / name
    readers: dict[str, Callable[[], object]] = {
        "clients": lambda: [key.encode() for key in keyring.client_identities(CLIENT, master)],
        "..": lambda: [key.encode() for key in keyring.ingest_identities(master)],
        "secrets": lambda: keyring.open_secret("receipt-signing", master),
    }
    read = readers[name.split("/")[0]]
    before = read()

    def accepts(changed: bytes) -> bool:
        path.write_bytes(changed)
        return read() == before

    assert missed(path.read_bytes(), accepts, bits) == []


def test_two_vault_files_of_one_client_in_each_others_place(folder: tuple[DataFolder, Identity, Keyring]) -> None:
    data, master, keyring = folder
    vault = Vault(data.vault)
    identity = keyring.client_identities(CLIENT, master)[0]
    papers = [put(vault, identity, content) for content in (b"pay one", b"pay two")]
    with Catalog.create(data.catalog) as catalog:
        catalog.add_client(CLIENT, recipient=str(identity.recipient))
        rows = catalog.record([accepted_row(*paper, client=CLIENT, path=f"/inbox/{paper[0]}", at=NOW) for paper in papers])
        agent = KeyService(keyring, master, catalog, AuditLog(data.audit, "ops"), limits=None)
        requests = [PaperRequest(CLIENT, paper, "vault", "ops:test", "test") for paper, _ in papers]
        keys = [agent.answer(request)[0] for request in requests]
        one, two = (vault.path(CLIENT, paper) for paper, _ in papers)
        held = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(held)
        for request, key, (paper, _) in zip(requests, keys, papers, strict=True):
            with pytest.raises(KeyRefused, match="not the one that was catalogued"):
                agent.answer(request)
            with pytest.raises(NightsafeError):  # even with the key that was given out before
                vault.open(CLIENT, paper, file_key=key)
    assert len(rows) == 2


def test_a_receipt_and_its_signature(folder: tuple[DataFolder, Identity, Keyring]) -> None:
    data, master, _ = folder
    sealed = put(Vault(data.vault), master, b"x")
    with Catalog.create(data.catalog) as catalog:
        catalog.add_client(CLIENT, recipient=str(master.recipient))
        body = receipt_body(catalog.record([accepted_row(*sealed, client=CLIENT, path=f"/inbox/{sealed[0]}", at=NOW)])[0], "ab" * 32)
    key = SigningKey.generate("receipts")
    signature = sign(key, RECEIPT, body)
    assert missed(body, lambda changed: verify(key.public, RECEIPT, changed, signature), 8) == []
    assert missed(signature.encode(), lambda changed: verify(key.public, RECEIPT, body, changed.decode("latin-1")), 8) == []
