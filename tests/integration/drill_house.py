"""A small real installation whose backups can be spoilt: real keyring, vault, catalog, jails and receipts, restic and S3."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
from botocore.config import Config

from backup.drill.run import run_drill
from backup.repositories.access import RepositoryName, access
from backup.restic import Restic
from backup.restic.arguments import Repository
from backup.restic.runner import Runner, Secrets
from config.loading import Installation
from gateway.audit.checkpoint import sign_checkpoint
from gateway.audit.read import read
from gateway.audit.signatures import RECEIPT, SigningKey, sign
from gateway.catalog import Catalog, Paper, Run
from gateway.ingest.receipts import receipt_body, receipt_path
from gateway.jail.paths import VirtualPath, parse
from gateway.jail.pointers import Pointer
from gateway.jail.tree import Tree
from gateway.keys.client import MasterAgent
from gateway.keys.keyring import CHECKPOINT_SIGNING, RECEIPT_SIGNING, Keyring
from gateway.keys.master import load_master
from gateway.keys.secrets import role_secrets
from gateway.store.ids import new_paper_id
from gateway.store.vault import Vault
from tests.integration.catalog_rows import accepted_row
from tests.integration.ready_repositories import prepare

LONG_AGO = timedelta(days=2)
A_WHILE = timedelta(minutes=10)  # since the dump of the newest backup, which a drill may not take for its own time
SETS: dict[RepositoryName, tuple[str, ...]] = {
    "papers": ("dump", "vault", "jails", "audit", "nightsafe.toml", "VERSION"),
    "keys": ("keys/clients", "keys/master.recipient", "keys/recovery.recipients"),
}


class DrillHouse:
    """An installation with clients and papers."""

    def __init__(self, installation: Installation, *, revived: bool = False) -> None:
        """`revived`: its repositories are there, and not empty."""
        self.installation = installation
        self.folder = installation.folder
        self.keyring = Keyring(self.folder)
        self.master = load_master(installation)
        self.catalog = Catalog.open(self.folder.catalog)
        self.vault = Vault(self.folder.vault)
        self.contents: dict[str, bytes] = {}
        if not installation.settings.s3.is_embedded and not revived:  # else there is nowhere to back up to
            prepare(installation)
        self._signer, self._checkpoints = (
            SigningKey.parse(self.keyring.open_secret(name, self.master)) for name in (RECEIPT_SIGNING, CHECKPOINT_SIGNING)
        )

    def close(self) -> None:
        self.catalog.close()

    # what a firm has

    def add_client(self, name: str) -> None:
        key = self.keyring.add_client(name)
        self.catalog.add_client(name, recipient=str(key.recipient), generation=key.generation)
        Tree.create(self.folder.jail(name)).close()

    def add_paper(self, client: str, path: str, content: bytes, age: timedelta = LONG_AGO) -> Paper:
        """A paper as ingest leaves it: sealed, catalogued, receipted, with its name in the jail."""
        sealed_at = datetime.now(UTC) - age
        key = self.keyring.client_recipient(client, outbox=path.startswith("/outbox/"))
        paper_id = new_paper_id()
        with self.vault.writer(client, paper_id, key.recipient) as writer:
            writer.write(content)
            sealed = writer.commit()
        row = accepted_row(
            paper_id, sealed, client=client, path=path, sha256=hashlib.sha256(content).hexdigest(), generation=key.generation, at=sealed_at
        )
        (paper,) = self.catalog.record([row])
        body = receipt_body(paper, "0" * 64)
        with Tree(self.folder.jail(client)) as tree:
            self._name(tree, path, Pointer(paper.id, paper.size, "whole"))
            tree.write_plains(
                [(_virtual(receipt_path(paper)), body), (_virtual(receipt_path(paper) + ".sig"), sign(self._signer, RECEIPT, body).encode())]
            )
        self.catalog.mark_receipted([paper])
        self.contents[paper.id] = content
        return paper

    def add_partial(self, client: str, path: str) -> None:
        """A name whose upload has not ended."""
        with Tree(self.folder.jail(client)) as tree:
            self._name(tree, path, Pointer(new_paper_id(), 5, "partial"))

    def fill(self, count: int = 12) -> list[Paper]:
        """Two clients with papers of awkward names and sizes."""
        self.add_client("acme")
        self.add_client("zeta")
        names = ["/inbox/报告 2024.pdf", "/inbox/a b/it's [1]*?.txt", "/inbox/-rf", "/outbox/" + "n" * 255, "/inbox/a\\b{}$(x)"]
        sizes = [0, 1, 65535, 65536, 65537, 1000]
        return [
            self.add_paper("acme" if n % 3 else "zeta", names[n] if n < len(names) else f"/inbox/paper {n}", os.urandom(sizes[n % len(sizes)]))
            for n in range(count)
        ]

    def vault_file(self, paper: Paper) -> Path:
        return self.vault.path(paper.client, paper.id)

    def alter(self, catalog: Path, paper: str, **values: object) -> None:
        """Change a row behind the catalog's back."""
        with closing(sqlite3.connect(catalog)) as base, base:
            for column, value in values.items():
                base.execute(f"UPDATE papers SET {column} = ? WHERE id = ?", (value, paper))

    def forget(self, paper: str, catalog: Path | None = None) -> None:
        """Take a row out of the live catalog behind its back, or out of another."""
        with closing(sqlite3.connect(catalog or self.folder.catalog)) as base, base:
            base.execute("DELETE FROM papers WHERE id = ?", (paper,))

    # backups, as `backup run` makes them, but open to mischief in between

    def save(self, spoil: Callable[[Path], None] = lambda _: None, record: bool = True) -> Run | None:
        """One snapshot in each repository; `spoil` may change the dump first."""
        self.folder.dump.mkdir(exist_ok=True)
        dump = self.folder.dump / "catalog.sqlite3"
        run = self.catalog.start_run("backup") if record else 0
        at = datetime.now(UTC) - A_WHILE
        self.catalog.dump(dump)
        spoil(dump)
        os.utime(dump, (at.timestamp(), at.timestamp()))
        head = sign_checkpoint(self.folder.audit, self._checkpoints)
        ids = {name: self.repository(name).backup(SETS[name], cwd=self.folder.root, host="nightsafe", tags=[]).summary.snapshot for name in SETS}
        if not record:
            return None
        detail = {"catalog_at": at.isoformat(), "audit_head": head}
        return self.catalog.finish_run(run, "passed", snapshot=ids["papers"], keys_snapshot=ids["keys"], detail=detail)

    def repository(self, name: RepositoryName) -> Restic:
        """A repository with the right to change everything."""
        there = access(self.installation, "pruner")
        secrets = role_secrets(self.installation, "scheduler")
        scratch = self.folder.root.parent / "writer"
        restic = Restic(
            Runner("restic", scratch),
            Repository(there.url(name), scratch / "cache"),
            Secrets(secrets[f"restic-{name}"], there.environment()),
        )
        if self.catalog.repository(name) is None:
            self.catalog.add_repository(name, there.place(name), restic.config())
        return restic

    def objects(self, name: RepositoryName, kind: str) -> dict[str, bytes]:
        """The objects of a repository of one kind (data, index, snapshots, keys), by key."""
        there = access(self.installation, "pruner")
        found: dict[str, bytes] = {}
        pages = self._s3().get_paginator("list_objects_v2").paginate(Bucket=there.bucket, Prefix=there.folder(name) + kind + "/")
        for page in pages:
            for entry in page.get("Contents", []):
                found[entry["Key"]] = self._s3().get_object(Bucket=there.bucket, Key=entry["Key"])["Body"].read()
        return found

    def put_object(self, key: str, data: bytes) -> None:
        self._s3().put_object(Bucket=access(self.installation, "pruner").bucket, Key=key, Body=data)

    def delete_object(self, key: str) -> None:
        self._s3().delete_object(Bucket=access(self.installation, "pruner").bucket, Key=key)

    def forget_snapshots(self, name: RepositoryName, *snapshots: str) -> None:
        """What somebody does who got hold of the pruner's credential: real `restic forget`."""
        there = access(self.installation, "pruner")
        password = role_secrets(self.installation, "scheduler").text(f"restic-{name}")
        environment = {"PATH": os.environ["PATH"], "HOME": "/", "RESTIC_PASSWORD": password, **there.environment()}
        subprocess.run(["restic", "--no-cache", "-r", there.url(name), "forget", *snapshots], env=environment, check=True, capture_output=True)

    def keep_versions(self) -> None:
        """Let the bucket keep old versions of its objects, as some firms' buckets do."""
        self._s3().put_bucket_versioning(Bucket=access(self.installation, "pruner").bucket, VersioningConfiguration={"Status": "Enabled"})

    # drills

    def drill(self, kind: str = "full", **options: object) -> Run:
        run = run_drill(self.installation, kind, **options)  # type: ignore[arg-type]
        scratch = self.installation.path(self.installation.settings.drill.scratch)
        assert list(scratch.iterdir()) == [], "the scratch folder is removed whatever happened"
        return run

    def evidence(self, run: Run) -> dict[str, object]:
        return dict(json.loads((self.folder.root / str(run.detail["evidence"])).read_bytes()))

    def events(self) -> list[str]:
        return [line["event"] for line in read(self.folder.audit)]

    @contextmanager
    def agent(self) -> Iterator[MasterAgent]:
        with MasterAgent(self.installation, self.keyring, self.master) as agent:
            yield agent

    def _s3(self):  # type: ignore[no-untyped-def]
        there = access(self.installation, "pruner")
        return boto3.client(
            "s3",
            endpoint_url=there.endpoint,
            aws_access_key_id=there.access_key,
            aws_secret_access_key=there.secret_key,
            region_name=there.region,
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )

    def _name(self, tree: Tree, path: str, pointer: Pointer) -> None:
        virtual = _virtual(path)
        parent = VirtualPath(virtual.parts[:1])
        for part in virtual.parts[1:-1]:
            parent = VirtualPath((*parent.parts, part))
            try:
                tree.make_folder(parent)
            except Exception:  # it is there
                tree.stat(parent)
        tree.put(virtual, pointer, mtime=1_700_000_000.0, durable=False)


def _virtual(path: str) -> VirtualPath:
    return parse(path.encode())
