"""Ingest on real stores: stopped after every step, damaged papers, two at once. Each paper ends once, with the right hash and one receipt."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.folder import DataFolder
from gateway.age import Identity
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.signatures import SigningKey
from gateway.catalog import Catalog
from gateway.catalog.rows import Paper
from gateway.ingest.aside import aside_path
from gateway.ingest.parts import Parts
from gateway.ingest.pipeline import Pipeline
from gateway.ingest.receipts import receipt_body, receipt_path
from gateway.ingest.worker import Sources, Worker
from gateway.jail import Pointer, Tree, path_of
from gateway.keys.keyring import RECEIPT_SIGNING, Keyring
from gateway.store import Arrival, Spool, Vault
from gateway.store.ids import new_paper_id

STEPS = ("claimed", "sealed", "audited", "recorded", "receipted", "marked", "cleared")


class Stop(BaseException):
    """The world ends here, as far as the pipeline can tell."""


class World:
    """A data folder with the client acme, and what a gateway would have done to it."""

    def __init__(self, root: Path) -> None:
        self.folder = DataFolder(root / "data")
        self.master = Identity.generate()
        self.keyring = Keyring.create(self.folder, self.master.recipient, Identity.generate().recipient)
        for path in (self.folder.spool_partial, self.folder.spool_landed, self.folder.vault, self.folder.quarantine, self.folder.audit):
            path.mkdir(parents=True, exist_ok=True)
        self.catalog = Catalog.create(self.folder.catalog)
        self.spool = Spool(self.folder.spool_partial, self.folder.spool_landed, self.keyring.ingest_recipient)
        self.vault = Vault(self.folder.vault)
        self.contents: dict[str, bytes] = {}
        self.add_client("acme")

    def add_client(self, name: str) -> None:
        key = self.keyring.add_client(name)
        self.catalog.add_client(name, recipient=str(key.recipient))
        Tree.create(self.folder.jail(name)).close()

    def land(self, name: str, content: bytes, client: str = "acme") -> str:
        paper = new_paper_id()
        file = self.spool.create(paper, client)
        file.write(0, content)
        now = datetime.now(UTC)
        file.finish(Arrival(paper, client, client, f"/inbox/{name}", now, None, "session-1", "192.0.2.7", "SSH-2.0-test"))
        if self.folder.jail(client).exists():
            with Tree(self.folder.jail(client)) as tree:
                tree.put(path_of(f"/inbox/{name}"), Pointer(paper, len(content), "whole"), mtime=None, durable=False)
        self.spool.land(paper)
        file.close()
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
                assert path.with_name(path.name + ".sig") in files
        assert len(files) == 2 * len(found)
        return found

    def verify(self, receipt: Path, principal: str = "receipts") -> bool:
        """By the real ssh-keygen."""
        command = ["ssh-keygen", "-Y", "verify", "-f", str(self.keyring.allowed_signers), "-I", principal, "-n", "receipt@nightsafe"]
        return subprocess.run([*command, "-s", f"{receipt}.sig"], input=receipt.read_bytes(), capture_output=True, check=False).returncode == 0

    def check_all_safe(self) -> None:
        """Every paper that landed: once in the catalog, readable in the vault with the right hash, one receipt, out of the spool."""
        rows = {row.id: row for row in self.catalog.papers()}
        assert set(rows) == set(self.contents)
        identities = self.keyring.client_identities("acme", self.master)
        receipts = self.receipts()
        for paper, content in self.contents.items():
            row = rows[paper]
            assert (row.state, row.size, row.sha256, row.receipted) == ("accepted", len(content), hashlib.sha256(content).hexdigest(), True)
            with self.vault.open("acme", paper, identities=identities) as sealed:
                assert sealed.read() == content
            assert hashlib.sha256(self.vault.path("acme", paper).read_bytes()).hexdigest() == row.sealed_sha256
            self.check_receipt(row, receipts[paper])
        assert set(receipts) == set(rows)
        assert self.spool.landed_papers() == []
        assert sorted(path.stem for _, _, path in self.vault.papers()) == sorted(rows), "nothing else in the vault"

    def check_receipt(self, row: Paper, receipt: dict[str, object]) -> None:
        path = self.folder.jail(row.client) / receipt_path(row)[1:]
        assert path.read_bytes() == receipt_body(row, str(receipt["audit_head"]))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.catalog.close()


def test_a_landed_paper_ends_sealed_catalogued_receipted(world: World) -> None:
    for size in (0, 1, 65_535, 65_536, 65_537, 3 * 1024 * 1024 + 7):
        world.land(f"{size} 中文 'x'.bin", os.urandom(size))
    world.ingest()
    world.check_all_safe()
    sealed = world.events(Event.PAPER_SEALED)
    assert [line["paper"] for line in sealed] == sorted(world.contents)
    row = world.catalog.paper(min(world.contents))
    assert row is not None
    assert (row.person, row.session, row.address, row.version, row.generation) == ("acme", "session-1", "192.0.2.7", 1, 1)


def test_receipts_are_verified_by_ssh_keygen_and_anchor_the_audit_log(world: World) -> None:
    paper = world.land("a.pdf", b"x" * 1000)
    world.ingest()
    row = world.catalog.paper(paper)
    assert row is not None
    path = world.folder.jail("acme") / receipt_path(row)[1:]
    assert world.verify(path)
    assert not world.verify(path, principal="evidence")
    head = json.loads(path.read_bytes())["audit_head"]
    lines = [line for log in world.folder.audit.glob("*.jsonl") for line in log.read_bytes().splitlines()]
    named = [line for line in lines if hashlib.sha256(line).hexdigest() == head]
    assert len(named) == 1 and json.loads(named[0])["paper"] == paper
    path.write_bytes(path.read_bytes().replace(b'"size": 1000', b'"size": 1001'))
    assert not world.verify(path)


@pytest.mark.parametrize("step", STEPS)
def test_stopped_after_any_step_everything_is_done_once(world: World, step: str) -> None:
    for number in range(5):
        world.land(f"{number}.pdf", os.urandom(20_000 + number))

    def stop(done: str) -> None:
        if done == step and world.spool.landed_papers():
            raise Stop

    stops = 0
    for _ in range(2):
        try:
            world.ingest(after=stop)
        except Stop:
            stops += 1
    seen = {path: path.read_bytes() for path in (world.folder.jail("acme") / "receipts").rglob("*.*") if path.is_file()}
    world.ingest()
    assert stops == (0 if step == "cleared" else 2)
    world.check_all_safe()
    for path, content in seen.items():
        assert path.read_bytes() == content, "a receipt that a client may have fetched has changed"


def test_receipts_are_finished_when_the_spool_file_is_gone(world: World) -> None:
    paper = world.land("a.pdf", b"content")

    def stop(done: str) -> None:
        if done == "recorded":
            raise Stop

    with pytest.raises(Stop):
        world.ingest(after=stop)
    world.spool.remove_landed(paper)
    assert world.receipts() == {}
    world.ingest()
    world.check_all_safe()
    assert [line["paper"] for line in world.events(Event.RECEIPT_RESUMED)] == [paper]


def test_a_receipt_that_was_damaged_is_written_anew(world: World) -> None:
    world.land("a.pdf", b"content")

    def stop(done: str) -> None:
        if done == "receipted":
            raise Stop

    with pytest.raises(Stop):
        world.ingest(after=stop)
    (receipt,) = (world.folder.jail("acme") / "receipts").rglob("*.json")
    receipt.write_bytes(b"")
    world.ingest()
    world.check_all_safe()
    assert world.verify(receipt)


def test_two_versions_landed_while_ingest_was_down_exist_in_order(world: World) -> None:
    first = world.land("a.pdf", b"first")
    second = world.land("a.pdf", b"second")
    world.ingest()
    world.check_all_safe()
    assert [(row.id, row.version) for row in world.catalog.versions("acme", "/inbox/a.pdf")] == [(first, 1), (second, 2)]


@pytest.mark.parametrize("step", STEPS[:3])
def test_a_rename_at_a_step_counts_until_the_row_is_written(world: World, step: str) -> None:
    paper = world.land("a.pdf", b"content")

    def rename(done: str) -> None:
        if done == step and world.spool.landed_papers():
            with Tree(world.folder.jail("acme")) as tree:
                tree.rename(path_of("/inbox/a.pdf"), path_of("/inbox/b.pdf"), replace=False)

    with AuditLog(world.folder.audit, "ingest") as audit, Pipeline(world.parts(audit), after=rename) as pipeline:
        pipeline.handle([paper])
    row = world.catalog.paper(paper)
    assert row is not None and row.path == "/inbox/b.pdf"
    world.check_all_safe()


def damage(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("place", ["block", "footer", "header", "cut", "empty"])
def test_a_damaged_paper_is_set_aside_and_refused_and_the_others_go_on(world: World, place: str) -> None:
    bad = world.land("bad.pdf", os.urandom(200_000))
    path = world.folder.spool_landed / bad
    size = path.stat().st_size
    match place:
        case "block":
            damage(path, size // 2)
        case "footer":
            damage(path, size - 60)
        case "header":
            damage(path, 200)
        case "cut":
            os.truncate(path, size - 1)
        case "empty":
            os.truncate(path, 0)
    before = path.read_bytes()
    world.land("good.pdf", b"good")
    world.ingest()
    world.ingest()
    aside = aside_path(world.folder.quarantine, "acme" if place != "empty" else "", bad)
    assert aside.read_bytes() == before and not path.exists()
    del world.contents[bad]
    refused = world.catalog.paper(bad)
    assert [line["paper"] for line in world.events(Event.PAPER_REFUSED)] == [bad]
    if place == "empty":  # nothing tells whose it was
        assert refused is None
        world.check_all_safe()
        return
    assert refused is not None and refused.state == "refused" and refused.path == "/inbox/bad.pdf"
    receipts = world.receipts()
    assert receipts[bad]["verdict"] == "refused" and "again" in str(receipts[bad]["reason"])
    world.check_receipt(refused, receipts[bad])
    assert len(receipts) == 2 and not world.vault.exists("acme", bad)
    assert world.spool.landed_papers() == []


@pytest.mark.parametrize("step", STEPS[:-1])
def test_a_refusal_that_is_stopped_at_any_step_happens_once(world: World, step: str) -> None:
    bad = world.land("bad.pdf", os.urandom(100_000))
    damage(world.folder.spool_landed / bad, 50_000)

    def stop(done: str) -> None:
        if done == step and world.spool.landed_papers():
            raise Stop

    with pytest.raises(Stop):
        world.ingest(after=stop)
    world.ingest()
    row = world.catalog.paper(bad)
    assert row is not None and (row.state, row.receipted) == ("refused", True)
    assert set(world.receipts()) == {bad}
    assert aside_path(world.folder.quarantine, "acme", bad).exists() and world.spool.landed_papers() == []


def test_a_paper_of_a_client_that_is_not_known_is_set_aside(world: World) -> None:
    stranger = world.land("x.pdf", b"x", client="nobody")
    del world.contents[stranger]
    world.land("good.pdf", b"good")
    world.ingest()
    world.check_all_safe()
    assert aside_path(world.folder.quarantine, "nobody", stranger).exists()
    assert [line["client"] for line in world.events(Event.PAPER_REFUSED)] == ["nobody"]


def test_a_paper_whose_ingest_key_is_gone_is_refused(world: World) -> None:
    other = Identity.generate()
    old, world.spool = world.spool, Spool(world.folder.spool_partial, world.folder.spool_landed, other.recipient)
    paper = world.land("a.pdf", b"content")
    world.spool = old
    world.ingest()
    row = world.catalog.paper(paper)
    assert row is not None and row.state == "refused"


def test_with_the_wrong_identities_nothing_is_refused(world: World) -> None:
    paper = world.land("a.pdf", b"content")
    with AuditLog(world.folder.audit, "ingest") as audit, Pipeline(world.parts(audit, identities=[Identity.generate()])) as pipeline:
        outcome = pipeline.handle([paper])
    assert list(outcome.failed) == [paper] and world.spool.landed_papers() == [paper]
    world.ingest()
    world.check_all_safe()


def test_a_catalogued_paper_that_is_not_in_the_vault_keeps_its_spool_file(world: World) -> None:
    paper = world.land("a.pdf", b"content")

    def stop(done: str) -> None:
        if done == "recorded":
            raise Stop

    with pytest.raises(Stop):
        world.ingest(after=stop)
    world.vault.path("acme", paper).unlink()
    world.ingest()
    assert world.spool.landed_papers() == [paper]


def test_two_at_once_handle_each_paper_once(world: World) -> None:
    for number in range(60):
        world.land(f"{number}.pdf", os.urandom(3000))
    with ExitStack() as stack:
        workers = []
        for _ in range(2):
            parts = world.parts(stack.enter_context(AuditLog(world.folder.audit, "ingest")))
            pipeline = stack.enter_context(Pipeline(parts))
            workers.append(Worker(pipeline, Sources(parts.spool.landed_papers), batch=4, sweep_seconds=0.05))
        stop = threading.Event()
        threads = [threading.Thread(target=worker.run, args=(stop, threading.Event())) for worker in workers]
        for thread in threads:
            thread.start()
        deadline = datetime.now(UTC).timestamp() + 30
        while world.spool.landed_papers() and datetime.now(UTC).timestamp() < deadline:
            stop.wait(0.02)
        stop.set()
        for thread in threads:
            thread.join()
    world.check_all_safe()
    sealed = [line["paper"] for line in world.events(Event.PAPER_SEALED)]
    assert sorted(map(str, sealed)) == sorted(world.contents), "one of them was sealed twice"
