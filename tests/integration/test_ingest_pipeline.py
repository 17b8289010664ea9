"""Ingest on real stores: stopped after every step, damaged papers, two at once. Each paper ends once, with the right hash and one receipt."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config.disks import Disks
from gateway.age import Identity
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.ingest.aside import aside_path
from gateway.ingest.outcome import Stopping
from gateway.ingest.pipeline import GROUP, Pipeline
from gateway.ingest.receipts import receipt_path
from gateway.ingest.worker import Sources, Worker
from gateway.jail import Tree, path_of
from gateway.store import Spool
from tests.integration.ingest_world import World

STEPS = ("claimed", "sealed", "audited", "recorded", "receipted", "marked", "cleared")


class Stop(BaseException):
    """The world ends here, as far as the pipeline can tell."""


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
    assert world.ssh_keygen_verifies(path)
    assert not world.ssh_keygen_verifies(path, principal="evidence")
    head = json.loads(path.read_bytes())["audit_head"]
    lines = [line for log in world.folder.audit.glob("*.jsonl") for line in log.read_bytes().splitlines()]
    named = [line for line in lines if hashlib.sha256(line).hexdigest() == head]
    assert len(named) == 1 and json.loads(named[0])["paper"] == paper
    path.write_bytes(path.read_bytes().replace(b'"size": 1000', b'"size": 1001'))
    assert not world.ssh_keygen_verifies(path)


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
    assert world.ssh_keygen_verifies(receipt)


class Noted:
    """A store that works, and of which each call is noted."""

    def __init__(self, store: object, notes: list[str]) -> None:
        self._store = store
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        self._notes.append(name)
        return getattr(self._store, name)


def test_the_audit_log_is_durable_before_the_row_and_the_row_before_the_spool_file_goes(world: World) -> None:
    paper = world.land("a.pdf", b"content")
    notes: list[str] = []
    with AuditLog(world.folder.audit, "ingest") as audit:
        parts = world.parts(audit)
        noted = {name: Noted(getattr(parts, name), notes) for name in ("audit", "catalog", "spool")}
        with Pipeline(replace(parts, **noted)) as pipeline:
            pipeline.handle([paper])
    order = [note for note in notes if note in ("open_landed", "sync", "record", "mark_receipted", "remove_landed")]
    assert order == ["open_landed", "sync", "record", "mark_receipted", "remove_landed"]


def test_a_batch_that_is_synced_together_is_on_the_disk_before_anything_is_said_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(GROUP):
        world.land(f"{number}.pdf", os.urandom(2000))
    notes: list[str] = []
    real = Disks.sync

    def sync(disks: Disks) -> None:
        assert disks.together
        notes.append(f"disks with {len(list(world.folder.vault.rglob('*.age')))} sealed and {len(list(world.folder.jails.rglob('*.json')))} receipts")
        real(disks)

    monkeypatch.setattr(Disks, "sync", sync)
    with AuditLog(world.folder.audit, "ingest") as audit:
        parts = world.parts(audit, sync_together=(world.folder.vault, world.folder.jails))
        noted = {name: Noted(getattr(parts, name), notes) for name in ("catalog", "audit", "spool")}
        with Pipeline(replace(parts, **noted)) as pipeline:
            pipeline.handle(world.spool.landed_papers())
    order = [note for note in notes if note.startswith("disks") or note in ("sync", "record", "mark_receipted", "remove_landed")]
    sealed, handed_out = f"disks with {GROUP} sealed and 0 receipts", f"disks with {GROUP} sealed and {GROUP} receipts"
    assert order == [sealed, "sync", "record", handed_out, "mark_receipted", *["remove_landed"] * GROUP]
    world.check_all_safe()


def test_a_disk_that_cannot_be_synced_keeps_everything_in_the_spool(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    papers = [world.land(f"{number}.pdf", b"content") for number in range(GROUP)]

    def fail(_: Disks) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="Input/output"):
        patched.setattr(Disks, "sync", fail)
        world.ingest(sync_together=(world.folder.vault, world.folder.jails))
    assert sorted(world.spool.landed_papers()) == sorted(papers) and list(world.catalog.papers()) == [] and world.receipts() == {}
    world.ingest(sync_together=(world.folder.vault, world.folder.jails))
    world.check_all_safe()


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
        deadline = time.monotonic() + 120
        while world.spool.landed_papers() and time.monotonic() < deadline:
            stop.wait(0.02)
        stop.set()
        for thread in threads:
            thread.join()
    world.check_all_safe()
    sealed = [line["paper"] for line in world.events(Event.PAPER_SEALED)]
    assert sorted(map(str, sealed)) == sorted(world.contents), "one of them was sealed twice"


def test_stop_leaves_a_long_paper_between_two_pieces_and_nothing_behind(world: World) -> None:
    long = world.land("long.bin", os.urandom(3 * 1024 * 1024))
    world.land("short.pdf", b"short")

    def stopping() -> None:
        raise Stopping

    world.ingest(between_pieces=stopping)
    assert world.spool.landed_papers() == [long]
    assert [path.name for path in world.folder.vault.rglob("*") if (path.is_file() and long in path.name) or path.name.startswith(".tmp")] == []
    world.ingest()
    world.check_all_safe()


def test_a_client_without_a_key_holds_up_nobody(world: World) -> None:
    world.add_client("keyless")
    shutil.rmtree(world.folder.client_keys("keyless"))
    bad = world.land("x.pdf", b"x", client="keyless")
    world.land("good.pdf", b"good")
    with AuditLog(world.folder.audit, "ingest") as audit, Pipeline(world.parts(audit)) as pipeline:
        outcome = pipeline.handle(world.spool.landed_papers())
    assert list(outcome.failed) == [bad] and len(outcome.done) == 1
    assert world.spool.landed_papers() == [bad] and world.catalog.paper(bad) is None


def test_a_client_without_a_jail_is_catalogued_and_gets_its_receipt_later(world: World) -> None:
    world.add_client("jailless")
    paper = world.land("x.pdf", b"x", client="jailless")
    hidden = world.folder.jail("jailless").rename(world.folder.root / "hidden")
    world.ingest()
    row = world.catalog.paper(paper)
    assert row is not None and not row.receipted and world.spool.landed_papers() == [paper]
    hidden.rename(world.folder.jail("jailless"))
    world.ingest()
    assert set(world.receipts("jailless")) == {paper} and world.spool.landed_papers() == []
