"""An installation with two clients for the tests of keyd, and keyd's server and service in this process."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from config.folder import DataFolder
from config.loading import Installation
from config.settings import Settings
from gateway.age import Identity
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.keys.client import KeydClient
from gateway.keys.keyd import KeyServer
from gateway.keys.keyring import Keyring
from gateway.keys.limits import KeyLimits
from gateway.keys.master import make_master
from gateway.keys.service import KeyService
from gateway.store import Arrival, SealedPaper, Spool, Vault, new_paper_id

KEY_BYTES = 16


@dataclass
class House:
    """An installation with the clients acme and zeta, and a person of each."""

    installation: Installation
    keyring: Keyring
    master: Identity
    recovery: Identity

    @property
    def folder(self) -> DataFolder:
        return self.installation.folder

    def seal(self, client: str, content: bytes, root: Path | None = None) -> tuple[str, SealedPaper]:
        paper = new_paper_id()
        writer = Vault(root or self.folder.vault).writer(client, paper, self.keyring.client_recipient(client).recipient)
        writer.write(content)
        return paper, writer.commit()

    def spool(self) -> Spool:
        return Spool(self.folder.spool_partial, self.folder.spool_landed, self.keyring.ingest_recipient)

    def land(self, client: str, content: bytes) -> str:
        paper = new_paper_id()
        with self.spool() as spool:
            file = spool.create(paper, client)
            file.write(0, content)
            file.finish(Arrival(paper, client, client, "/inbox/a", datetime.now(UTC), None, "s", "127.0.0.1", "test"))
            file.close()
            spool.land(paper)
        return paper

    def header(self, client: str, paper: str) -> bytes:
        return Vault(self.folder.vault).header(client, paper)

    def catalog(self) -> Catalog:
        return Catalog.open(self.folder.catalog)

    def alter(self, statement: str) -> None:
        """Change the catalog as another process would."""
        engine = create_engine(f"sqlite:///{self.folder.catalog}")
        with engine.begin() as connection:
            assert connection.execute(text(statement)).rowcount == 1
        engine.dispose()

    def audited(self) -> list[dict[str, Any]]:
        lines = [line for path in sorted(self.folder.audit.glob("*.jsonl")) for line in path.read_text().splitlines()]
        return [event for event in map(json.loads, lines) if str(event["event"]).startswith("key.")]

    def everything_written(self) -> str:
        return "".join(path.read_text(errors="replace") for path in self.folder.audit.iterdir())


def build(base: Path) -> House:
    folder = DataFolder(base / "data")
    folder.root.mkdir(parents=True, mode=0o700)
    master, recovery = make_master(base / "master.key", folder), Identity.generate()
    keyring = Keyring.create(folder, master.recipient, recovery.recipient)
    with Catalog.create(folder.catalog) as catalog:
        for name in ("acme", "zeta"):
            catalog.add_client(name, recipient=str(keyring.add_client(name).recipient))
            catalog.add_person(name, client=name)
        catalog.add_person("staff", role="staff")
    return House(Installation(folder, Settings()), keyring, master, recovery)


@contextlib.contextmanager
def served(house: House, *, per_minute: int = 1_000_000, clock: Callable[[], float] = time.monotonic, **options: Any) -> Iterator[KeydClient]:
    """keyd's server and service in this process, and a client of it."""
    with house.catalog() as catalog, AuditLog(house.folder.audit, "keyd") as audit:
        service = KeyService(house.keyring, house.master, catalog, audit, limits=KeyLimits(per_minute, clock()), clock=clock)
        with KeyServer(house.folder.keyd_socket, service, **options):
            client = KeydClient(house.folder.keyd_socket, answer_seconds=5)
            try:
                yield client
            finally:
                client.close()
