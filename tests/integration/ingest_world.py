"""A data folder with a client, and what a gateway would have done to it: for the tests of ingest."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from config.folder import DataFolder
from config.loading import Installation, open_installation
from gateway.age import Identity
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.signatures import RECEIPT, SigningKey, verify
from gateway.catalog import Catalog
from gateway.catalog.rows import Paper
from gateway.ingest.parts import Parts
from gateway.ingest.pipeline import Pipeline
from gateway.ingest.receipts import receipt_body, receipt_path
from gateway.jail import Pointer, Tree, path_of
from gateway.keys.keyring import RECEIPT_SIGNING, Keyring
from gateway.keys.master import make_master
from gateway.store import Arrival, Spool, Vault, new_paper_id


class World:
    """A data folder with the client acme, and what a gateway would have done to it."""

    def __init__(self, root: Path) -> None:
        self.folder = DataFolder(root / "data")
        self.folder.root.mkdir(exist_ok=True)
        self.folder.settings.write_text("[ingest]\nsweep_seconds = 0.5\n")
        self.folder.version_file.write_text("1\n")
        self.master = make_master(root / "master.key", self.folder)
        self.keyring = Keyring.create(self.folder, self.master.recipient, Identity.generate().recipient)
        for path in (self.folder.spool_partial, self.folder.spool_landed, self.folder.vault, self.folder.quarantine, self.folder.audit):
            path.mkdir(parents=True, exist_ok=True)
        self.catalog = Catalog.create(self.folder.catalog)
        self.spool = Spool(self.folder.spool_partial, self.folder.spool_landed, self.keyring.ingest_recipient)
        self.vault = Vault(self.folder.vault)
        self.public = SigningKey.parse(self.keyring.open_secret(RECEIPT_SIGNING, self.master)).public
        self.contents: dict[str, bytes] = {}
        self.add_client("acme")

    @property
    def installation(self) -> Installation:
        return open_installation(self.folder.root, {})

    def add_client(self, name: str) -> None:
        key = self.keyring.add_client(name)
        self.catalog.add_client(name, recipient=str(key.recipient))
        Tree.create(self.folder.jail(name)).close()

    def land(self, name: str, content: bytes | Iterable[bytes], client: str = "acme", received_at: datetime | None = None) -> str:
        """An upload that ended; one that is too large for memory comes in pieces, and is not kept in `contents`."""
        paper, size = new_paper_id(), 0
        file = self.spool.create(paper, client)
        for piece in [content] if isinstance(content, bytes) else content:
            file.write(size, piece)
            size += len(piece)
        moment = received_at or datetime.now(UTC)
        file.finish(Arrival(paper, client, client, f"/inbox/{name}", moment, None, "session-1", "192.0.2.7", "SSH-2.0-test"))
        if self.folder.jail(client).exists():
            with Tree(self.folder.jail(client)) as tree:
                tree.put(path_of(f"/inbox/{name}"), Pointer(paper, size, "whole"), mtime=None, durable=False)
        self.spool.land(paper)
        file.close()
        if isinstance(content, bytes):
            self.contents[paper] = content
        return paper

    def parts(self, audit: AuditLog, **changes: object) -> Parts:
        values: dict[str, object] = {
            "spool": Spool(self.folder.spool_partial, self.folder.spool_landed, self.keyring.ingest_recipient),
            "vault": Vault(self.folder.vault),
            "quarantine": self.folder.quarantine,
            "landed": self.folder.spool_landed,
            "claims": self.folder.run / "ingest.claims",
            "catalog": self.catalog,
            "audit": audit,
            "keyring": self.keyring,
            "tree": lambda client: Tree(self.folder.jail(client)),
            "identities": self.keyring.ingest_identities(self.master),
            "signing": SigningKey.parse(self.keyring.open_secret(RECEIPT_SIGNING, self.master)),
        }
        return Parts(**(values | changes))  # type: ignore[arg-type]

    def ingest(self, after: Callable[[str], None] = lambda step: None, **changes: object) -> None:
        """One life of ingest: everything that is there."""
        with AuditLog(self.folder.audit, "ingest") as audit:
            parts = self.parts(audit, **changes)
            with Pipeline(parts, after=after) as pipeline:
                pipeline.handle([paper.id for paper in self.catalog.unreceipted()])
                pipeline.handle(self.spool.landed_papers())

    def events(self, event: Event) -> list[dict[str, object]]:
        lines = [json.loads(line) for path in sorted(self.folder.audit.glob("*.jsonl")) for line in path.read_text().splitlines()]
        return [line for line in lines if line["event"] == event]

    def receipts(self, client: str = "acme") -> dict[str, dict[str, object]]:
        """By paper; each signature is checked, and that there is one receipt for each paper and nothing else."""
        found: dict[str, dict[str, object]] = {}
        folder = self.folder.jail(client) / "receipts"
        files = [path for path in folder.rglob("*") if path.is_file()]
        for path in files:
            if path.suffix == ".json":
                receipt = json.loads(path.read_bytes())
                assert receipt["paper"] not in found, "two receipts for one paper"
                found[receipt["paper"]] = receipt
                assert verify(self.public, RECEIPT, path.read_bytes(), path.with_name(path.name + ".sig").read_text())
        assert len(files) == 2 * len(found)
        return found

    def ssh_keygen_verifies(self, receipt: Path, principal: str = "receipts") -> bool:
        """By the real ssh-keygen."""
        command = ["ssh-keygen", "-Y", "verify", "-f", str(self.keyring.allowed_signers), "-I", principal, "-n", "receipt@nightsafe"]
        return subprocess.run([*command, "-s", f"{receipt}.sig"], input=receipt.read_bytes(), capture_output=True, check=False).returncode == 0

    def check_all_safe(self) -> None:
        """Every paper that landed: once in the catalog, readable in the vault with the right hash, one receipt, out of the spool."""
        rows = {row.id: row for row in self.catalog.papers()}
        assert set(rows) == set(self.contents)
        clients = [client.name for client in self.catalog.clients()]
        identities = {client: self.keyring.client_identities(client, self.master) for client in clients}
        receipts = {paper: receipt for client in clients for paper, receipt in self.receipts(client).items()}
        for paper, content in self.contents.items():
            row = rows[paper]
            assert (row.state, row.size, row.sha256, row.receipted) == ("accepted", len(content), hashlib.sha256(content).hexdigest(), True)
            with self.vault.open(row.client, paper, identities=identities[row.client]) as sealed:
                assert sealed.read() == content
            assert hashlib.sha256(self.vault.path(row.client, paper).read_bytes()).hexdigest() == row.sealed_sha256
            self.check_receipt(row, receipts[paper])
        assert set(receipts) == set(rows)
        assert self.spool.landed_papers() == []
        assert sorted(path.stem for _, _, path in self.vault.papers()) == sorted(rows), "nothing else in the vault"

    def check_receipt(self, row: Paper, receipt: dict[str, object]) -> None:
        path = self.folder.jail(row.client) / receipt_path(row)[1:]
        assert path.read_bytes() == receipt_body(row, str(receipt["audit_head"]))
