"""A firm with its clients, for measuring backups and drills: papers, names and receipts as a gateway and ingest leave them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice
from pathlib import Path

from backup.drill.run import run_drill
from backup.run import run_backup
from config.folder import DataFolder
from config.loading import Installation
from config.settings import Settings
from gateway.age import Identity
from gateway.audit.signatures import RECEIPT, SigningKey, sign
from gateway.catalog import Catalog, NewPaper, Paper
from gateway.ingest.receipts import SIGNATURE_SUFFIX, receipt_body, receipt_path
from gateway.jail.pointers import Pointer
from gateway.jail.tree import Tree
from gateway.keys.keyring import RECEIPT_SIGNING, Keyring
from gateway.keys.master import make_master
from gateway.keys.secrets import role_secrets
from gateway.store import Vault, new_paper_id

CLIENT, COPY = "acme", "bench"
PIECE = 1 << 20  # bytes
SAMPLE = 300
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
APART = timedelta(minutes=5)  # from one paper to the next: 288 a day


class House:
    """An installation whose only place is a folder. Papers come from its clients by turns."""

    def __init__(self, root: Path, clients: int = 1) -> None:
        self.root = root
        self.folder = DataFolder(root / "data")
        inner = (self.folder.jails, self.folder.vault, self.folder.quarantine, self.folder.audit, self.folder.evidence)
        for path in (*inner, self.folder.keys / "host", root / "offsite"):
            path.mkdir(parents=True)
        self.folder.settings.write_text("")
        self.folder.version_file.write_text("1\n")
        settings = Settings.model_validate({"copies": {COPY: {"url": str(root / "offsite")}}, "drill": {"self_test": False, "sample": SAMPLE}})
        self.installation = Installation(self.folder, settings)
        master = make_master(root / "master.key", self.folder)
        self.keyring = Keyring.create(self.folder, master.recipient, Identity.generate().recipient)
        self.recipients = {name: self.keyring.add_client(name).recipient for name in (CLIENT, *(f"{CLIENT}-{n}" for n in range(1, clients)))}
        self.catalog = Catalog.create(self.folder.catalog)
        for name, recipient in self.recipients.items():
            self.catalog.add_client(name, recipient=str(recipient))
            Tree.create(self.folder.jail(name)).close()
        self.signer = SigningKey.parse(self.keyring.open_secret(RECEIPT_SIGNING, master))
        self.secrets = role_secrets(self.installation, "scheduler")

    def fill(self, sizes: Iterator[int]) -> None:
        """Sealed, catalogued and receipted papers of these sizes, each with its name."""
        vault, block, made, clients = Vault(self.folder.vault), os.urandom(PIECE), 0, list(self.recipients)
        while batch := list(islice(sizes, 5000)):
            rows = []
            for size in batch:
                paper, digest, client = new_paper_id(), sha256(), clients[made % len(clients)]
                with vault.writer(client, paper, self.recipients[client]) as writer:
                    for start in range(0, size, PIECE):
                        piece = block[: min(PIECE, size - start)]
                        writer.write(piece)
                        digest.update(piece)
                    sealed = writer.commit()
                file = (sealed.header_mac, sealed.sealed_sha256, sealed.sealed_size)
                rows.append(row(paper, f"/inbox/{made % 100}/{made}.pdf", made, size, digest.hexdigest(), *file, client=client))
                made += 1
            self._hand_out(self.catalog.record(rows))
            _tell(f"{made} papers")
        print(file=sys.stderr)

    def _hand_out(self, papers: Sequence[Paper]) -> None:
        """What the client has of its papers: names and signed receipts."""
        for paper in papers:
            receipt, body = receipt_path(paper), receipt_body(paper, "0" * 64)
            signature = sign(self.signer, RECEIPT, body).encode()
            name = Pointer(paper.id, paper.size, "whole").encode()
            for path, content in ((paper.path, name), (receipt, body), (receipt + SIGNATURE_SUFFIX, signature)):
                file = self.folder.jail(paper.client) / path[1:]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        self.catalog.mark_receipted(papers)

    def back_up(self) -> None:
        """Nightsafe's backup."""
        if run_backup(self.installation, secrets=self.secrets, copy=COPY).state != "passed":
            sys.exit("a backup failed: the measurement is void")

    def drill(self, kind: str) -> None:
        """A drill of the newest backup."""
        done = run_drill(self.installation, kind, secrets=self.secrets, copy=COPY)  # type: ignore[arg-type]
        if done.state != "passed":
            sys.exit(f"a drill ended {done.state}: {done.detail.get('cause')}; the measurement is void")

    def restic(self, repository: Path, *words: str) -> None:
        """The program by itself."""
        environment = {"PATH": os.environ["PATH"], "RESTIC_PASSWORD": self.secrets.text("restic-papers"), "HOME": str(self.root)}
        command = ["restic", "--repo", str(repository), "--cache-dir", str(self.root / "cache-of-its-own"), *words]
        subprocess.run(command, check=True, cwd=self.folder.root.resolve(), env=environment, stdout=subprocess.DEVNULL)


def row(paper: str, path: str, number: int, size: int, digest: str, mac: str, sealed: str, sealed_size: int, client: str = CLIENT) -> NewPaper:
    """A paper of long ago."""
    moment = EPOCH + number * APART
    return NewPaper(
        id=paper, client=client, path=path, person=client, state="accepted", reason="", size=size, sha256=digest, received_at=moment,
        sealed_at=moment, modified_at=None, generation=1, header_mac=mac, sealed_sha256=sealed, sealed_size=sealed_size, session="bench",
        address="192.0.2.7",
    )  # fmt: skip


def _tell(text: str) -> None:
    print(f"\r{text}", end="", file=sys.stderr)
