"""A catalog that was deleted comes back from keys, vault, quarantine, receipts and the audit log, row by row as it was."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from config.cli import run
from config.roles import running_role
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Paper
from gateway.catalog.search import Search
from gateway.jail import Tree, path_of
from nightsafe import cli
from tests.integration.ingest_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.add_client("zeta")
    with AuditLog(made.folder.audit, "ops") as log:
        for name in ("acme", "zeta"):
            log.append(Event.CLIENT_ADDED, client=name, custody="managed")
        log.append(Event.CLIENT_SUSPENDED, client="zeta")
        log.append(Event.PERSON_ADDED, person="ann", client="acme")
    return made


@pytest.fixture
def rebuild(world: World, capfd: pytest.CaptureFixture[str]) -> Any:
    def asked(*words: str) -> tuple[int, Any]:
        code = run(cli, ["catalog", "rebuild", *words, "--data", str(world.folder.root), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else err

    return asked


def lose(world: World) -> dict[str, Paper]:
    """Delete the catalog; what it knew."""
    known = {paper.id: paper for paper in world.catalog.papers()}
    world.catalog.close()
    for end in ("", "-wal", "-shm"):
        Path(f"{world.folder.catalog}{end}").unlink(missing_ok=True)
    return known


def test_clients_papers_versions_names_and_hashes_come_back(world: World, rebuild: Any) -> None:
    for content in (b"first", b"second"):
        world.land("a.pdf", content)
    world.land("中文 'x'.bin", os.urandom(100_000))
    world.land("a.pdf", b"of zeta", client="zeta")
    world.ingest()
    with Tree(world.folder.jail("acme")) as tree:
        tree.rename(path_of("/inbox/a.pdf"), path_of("/inbox/b.pdf"), replace=False)  # names live in the jail; the catalog keeps them as recorded
        tree.set_times(path_of("/inbox/b.pdf"), 1e9, 1e9)
    bad = world.land("bad.pdf", b"bad")
    path = world.folder.spool_landed / bad
    path.write_bytes(path.read_bytes()[:-40])
    virus = world.land("virus.pdf", b"virus")
    world.ingest()
    target = world.folder.quarantine / "acme" / virus[-2:] / f"{virus}.age"
    target.parent.mkdir(parents=True)
    os.rename(world.vault.path("acme", virus), target)
    world.catalog.change_verdict(virus, "refused", "A virus was found.", "virus")
    world.ingest()
    hold = world.catalog.set_hold("acme", reason="trial", ordered_by="court", path="/inbox")
    with AuditLog(world.folder.audit, "ops") as log:
        log.append(Event.HOLD_SET, hold=hold.id, client="acme", path="/inbox", reason="trial", by="court")
    clients = world.catalog.clients()
    before = lose(world)
    code, told = rebuild()
    assert (code, told["clients"], told["papers"], told["holds"]) == (0, 2, len(before), 1)
    assert told["lost"] == told["unexplained"] == [] and told["people"] == ["ann"] and told["never"]
    with Catalog.open(world.folder.catalog) as catalog:
        after = {paper.id: paper for paper in catalog.papers()}
        for paper, row in before.items():
            # what no witness tells: the session of what could not be opened, and the client's own time where no name is left
            assert replace(after[paper], modified_at=row.modified_at) == row
        assert [(one.name, one.custody, [(key.generation, key.recipient) for key in one.keys]) for one in catalog.clients()] == [
            (one.name, one.custody, [(key.generation, key.recipient) for key in one.keys]) for one in clients
        ]
        assert [one.active for one in catalog.clients()] == [True, False]
        assert [(one.id, one.path, one.reason) for one in catalog.holds()] == [(hold.id, "/inbox", "trial")]
        assert [paper.id for paper in catalog.find(Search(name="virus"))] == [virus]
    assert world.events(Event.CATALOG_REBUILT)[-1]["papers"] == len(before)


def test_what_is_lost_and_what_nothing_explains_is_listed(world: World, rebuild: Any) -> None:
    gone, swapped, forged = (world.land(f"{name}.pdf", name.encode() * 100) for name in ("gone", "swapped", "forged"))
    world.ingest()
    world.vault.path("acme", gone).unlink()
    world.vault.path("acme", swapped).write_bytes(world.vault.path("acme", forged).read_bytes())
    (receipt,) = (world.folder.jail("acme") / "receipts").rglob("forged*.json")
    receipt.write_bytes(receipt.read_bytes().replace(b'"version": 1', b'"version": 9'))
    stranger = world.vault.path("acme", f"{'0' * 30}ab")
    stranger.parent.mkdir(parents=True, exist_ok=True)
    stranger.write_bytes(world.vault.path("acme", forged).read_bytes())
    lose(world)
    code, told = rebuild()
    assert code == 3 and len(told["lost"]) == 1 and gone in told["lost"][0]
    text = "\n".join(told["unexplained"])
    assert len(told["unexplained"]) == 3 and swapped in text and stranger.stem in text and "forged.pdf" in text
    with Catalog.open(world.folder.catalog) as catalog:
        (row,) = catalog.papers()
        assert (row.id, row.version, row.receipted) == (forged, 1, False), "the log tells of it; its receipt is due anew"


def test_a_paper_without_a_receipt_comes_back_and_gets_one(world: World, rebuild: Any) -> None:
    first = world.land("a.pdf", b"first")
    world.ingest()
    second = world.land("a.pdf", b"second")

    def stop(step: str) -> None:
        if step == "recorded":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.ingest(after=stop)
    lose(world)
    assert rebuild()[0] == 0
    world.catalog = Catalog.open(world.folder.catalog)
    assert [(row.id, row.version, row.receipted) for row in world.catalog.versions("acme", "/inbox/a.pdf")] == [(first, 1, True), (second, 2, False)]
    world.ingest()
    assert world.receipts()[second]["version"] == 2
    world.catalog.close()


def test_who_was_shut_out_stays_so(world: World, rebuild: Any) -> None:
    with AuditLog(world.folder.audit, "ops") as log:
        for name in ("leaver", "back", "idle"):
            log.append(Event.PERSON_ADDED, person=name, client="acme")
        log.append(Event.PERSON_OFF_BOARDED, person="leaver")
        log.append(Event.PERSON_SUSPENDED, person="back")
        log.append(Event.PERSON_RESUMED, person="back")
        log.append(Event.PERSON_SUSPENDED, person="idle")
        log.append(Event.CERTIFICATE_REVOKED, kind="serial", value="1", by="ops")
        log.append(Event.CERTIFICATE_REVOKED, kind="key", value="SHA256:x", by="ops")
    lose(world)
    code, told = rebuild()
    assert code == 0 and told["people"] == ["ann", "back", "idle (suspended)"]
    with Catalog.open(world.folder.catalog) as catalog:
        assert catalog.is_revoked(1, "ann", "SHA256:y") and catalog.is_revoked(7, "ann", "SHA256:x") and not catalog.is_revoked(7, "ann", "SHA256:y")
        catalog.add_person("ann", client="acme")
        moment = datetime.now(UTC)
        issued = catalog.issue_certificate("ann", key_id="ann", fingerprint="SHA256:z", source_address=(), valid_after=moment, valid_before=moment)
        assert not catalog.is_revoked(issued.serial, "ann", "SHA256:z"), "a number that was revoked is not given out again"


def test_a_catalog_that_is_there_is_set_aside_only_when_asked(world: World, rebuild: Any) -> None:
    world.land("a.pdf", b"a")
    world.ingest()
    world.catalog.close()
    before = world.folder.catalog.read_bytes()
    code, complaint = rebuild()
    assert code == 2 and "--over" in complaint and world.folder.catalog.read_bytes() == before
    with running_role(world.folder, "ingest") as role:
        role.announce()
        assert rebuild("--over")[0] == 4
    code, told = rebuild("--over")
    assert code == 0 and Path(told["old"]).exists() and told["papers"] == 1
    assert sorted(
        path.name for path in world.folder.root.glob("catalog.sqlite3*") if "before" not in path.name and path.name[-4:] not in ("-wal", "-shm")
    ) == ["catalog.sqlite3"]
