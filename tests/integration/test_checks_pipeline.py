"""Checks on real stores: what each verdict leaves in vault, quarantine, catalog and receipts; papers that are held, and go on."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pyzipper

from config.checks import ArchiveSettings, ChecksSettings, ScanSettings
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog.rows import Paper
from gateway.ingest import handing
from gateway.ingest.checking import DayCount, Decisions, scanner_of
from gateway.ingest.checks.pool import WorkerPool
from gateway.ingest.checks.scanner import PROBE
from gateway.ingest.checks.services import Checks
from gateway.ingest.checks.standby import Standby
from gateway.ingest.pipeline import Pipeline
from gateway.jail import Tree, path_of
from gateway.keys.archive_password import archive_password, remove_archive_password, set_archive_password
from gateway.store import Vault
from tests.integration.ingest_world import World
from tests.integration.scanner_parts import FINDS, RealClamd, clamd, command_settings
from tests.integration.test_checks_workers import locked, zipped

MIB = 1024 * 1024
PROGRAM = b"MZ" + bytes(range(256)) * 300


def lzma_zipped(name: str, content: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(name, content)
    return held.getvalue()


LEFT_OUT = {  # by a scanner that looks at 1 MiB; beside them, nothing is wrong
    "large": zipped(("a", bytes(MIB + 1))),
    "large-inside": zipped(("b.zip", zipped(("a", bytes(MIB + 1))))),
    "behind-odd-names": zipped(("../a", b"x"), ("/b", bytes(MIB + 1))),
    "deep": functools.reduce(lambda inner, _: zipped(("a.zip", inner)), range(6), zipped(("a", b"x"))),
    "behind-a-program": PROGRAM + zipped(("a", bytes(MIB + 1))),
    "behind-a-program-inside": zipped(("setup.exe", PROGRAM + zipped(("a", bytes(MIB + 1))))),
}
WHOLE = zipped(("a.txt", b"letter" * 1000))
UNREAD = {  # by us, or by the scanner, and clean to the scanner
    "cut": WHOLE[:-30],
    "changed": WHOLE[:60] + bytes(4) + WHOLE[64:],
    "changed-behind-a-program": PROGRAM + WHOLE[:60] + bytes(4) + WHOLE[64:],
    "changed-inside": zipped(("i.zip", WHOLE[:60] + bytes(4) + WHOLE[64:])),
    "two-ends": WHOLE[:-2] + len(WHOLE).to_bytes(2, "little") + WHOLE,
    "lzma": lzma_zipped("a.txt", b"letter" * 1000),
    "method": WHOLE.replace(b"\x08\x00", b"\x61\x00"),
}


@functools.cache
def sealed_archives() -> dict[str, bytes]:
    """What nobody opens without a password: by the real 7z, names closed, too; and a zip."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["7z", "a", "-psecret", "-mhe=on", f"{folder}/a.7z", "-si"]
        subprocess.run(command, input=PROBE, stdout=subprocess.DEVNULL, check=True)
        return {"7z": Path(f"{folder}/a.7z").read_bytes(), "zip": locked(b"another", ("a", PROBE))}


def locked_and(entry: tuple[str, bytes]) -> bytes:
    """A zip with an encrypted entry, and one in clear."""
    held = io.BytesIO(locked(b"s3cret-word", ("letter.txt", b"fine")))
    with pyzipper.AESZipFile(held, "a") as archive:
        archive.writestr(*entry)
    return held.getvalue()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.catalog.close()


@pytest.fixture(scope="module")
def real() -> Iterator[RealClamd]:
    with clamd() as made:
        yield made


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    made = WorkerPool(512 * MIB)
    yield made
    made.close()


def rules(*values: dict[str, Any], **more: Any) -> ChecksSettings:
    return ChecksSettings.model_validate({"rules": values, **more})


@contextmanager
def scanning(scan: ScanSettings, **more: Any) -> Iterator[Checks]:
    scanner = scanner_of(scan)
    assert scanner is not None
    standby = Standby(scanner)
    standby.ask()
    yield Checks(scan=scan, standby=standby, **more)


def row(world: World, paper: str) -> Paper:
    found = world.catalog.paper(paper)
    assert found is not None
    return found


def check_refused(world: World, paper: str, code: str) -> None:
    """In quarantine, sealed to the client's key, with a receipt; nowhere else."""
    found, content = row(world, paper), world.contents[paper]
    assert (found.state, found.code, found.sha256, found.size) == ("refused", code, hashlib.sha256(content).hexdigest(), len(content))
    quarantine = Vault(world.folder.quarantine)
    with quarantine.open("acme", paper, identities=world.keyring.client_identities("acme", world.master)) as sealed:
        assert sealed.read() == content
    assert hashlib.sha256(quarantine.path("acme", paper).read_bytes()).hexdigest() == found.sealed_sha256
    assert not world.vault.exists("acme", paper) and paper not in world.spool.landed_papers()
    receipt = world.receipts()[paper]
    assert (receipt["verdict"], receipt["code"], receipt["reason"]) == ("refused", code, found.reason)


def check_held(world: World, paper: str, code: str) -> None:
    """In the spool, in the catalog, with a receipt that says so; the name stays."""
    found = row(world, paper)
    assert (found.state, found.code, found.sealed_size) == ("held", code, 0)
    assert paper in world.spool.landed_papers() and not world.vault.exists("acme", paper)
    assert not Vault(world.folder.quarantine).exists("acme", paper)
    receipt = world.receipts()[paper]
    assert (receipt["verdict"], receipt["code"], receipt["sha256"]) == ("held", code, hashlib.sha256(world.contents[paper]).hexdigest())
    with Tree(world.folder.jail("acme")) as tree:
        pointer = tree.stat(path_of(found.path)).pointer
        assert pointer is not None and pointer.paper == paper


# refusals


def test_a_rule_refuses_into_the_quarantine(world: World) -> None:
    checks = Checks(rules({"extensions": ["pdf"], "largest_bytes": 2 * MIB}))
    wrong, large, fine = world.land("a.exe", b"x" * 1000), world.land("b.pdf", os.urandom(2 * MIB + 1)), world.land("c.pdf", b"%PDF-")
    world.ingest(checks=checks)
    check_refused(world, wrong, "ending")
    check_refused(world, large, "too-large")
    assert row(world, fine).state == "accepted"
    assert {line["paper"]: line["code"] for line in world.events(Event.PAPER_REFUSED)} == {wrong: "ending", large: "too-large"}


def test_a_virus_is_refused_and_a_letter_is_not(world: World, real: RealClamd) -> None:
    virus, letter, large = world.land("a.txt", PROBE), world.land("b.txt", b"letter"), world.land("c.bin", bytes(5 * MIB))
    with scanning(real.settings) as checks:
        world.ingest(checks=checks)
    check_refused(world, virus, "virus")
    check_refused(world, large, "too-large-to-scan")  # clamd said so: StreamMaxLength is 4 MiB there
    assert row(world, letter).state == "accepted" and row(world, letter).reason == ""
    assert "Eicar-Test" in row(world, virus).reason


def test_a_paper_above_the_limit_is_not_sent_to_the_scanner(world: World, real: RealClamd) -> None:
    paper = world.land("c.bin", bytes(2 * MIB))
    with scanning(real.settings.model_copy(update={"largest_bytes": MIB, "too_large": "accept"})) as checks:
        world.ingest(checks=checks)
    found = row(world, paper)
    assert (found.state, found.code) == ("accepted", "too-large-to-scan")
    assert world.receipts()[paper]["reason"] == found.reason != ""


def test_a_virus_in_an_encrypted_archive_is_found_with_the_agreed_password(world: World, real: RealClamd, pool: WorkerPool) -> None:
    content = locked(b"s3cret-word", ("letter.txt", b"fine"), ("a.txt", PROBE))
    paper, other = world.land("a.zip", content), world.land("b.zip", locked(b"another", ("a", b"x")))
    set_archive_password(world.keyring, "acme", "s3cret-word")
    identities = world.keyring.ingest_identities(world.master)
    with scanning(
        real.settings, settings=rules({"archives": True}), pool=pool, password=lambda client: archive_password(world.keyring, client, identities)
    ) as checks:
        world.ingest(checks=checks, way="thorough")
    check_refused(world, paper, "virus")
    check_held(world, other, "archive-locked")
    assert "s3cret-word" not in repr(world.events(Event.PAPER_HELD))
    assert remove_archive_password(world.keyring, "acme") and archive_password(world.keyring, "acme", identities) is None


def test_what_the_scanner_leaves_out_is_never_clean(world: World, real: RealClamd, pool: WorkerPool) -> None:
    """No rule asks for archives. clamd itself says nothing of a large entry in a small zip."""
    lying = bytearray(zipped(("a", bytes(2 * MIB))))
    for magic, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # the sizes that the entry and the directory tell
        start = lying.index(magic) + place
        lying[start : start + 4] = (10).to_bytes(4, "little")
    large = [world.land(f"{name}.zip", content) for name, content in LEFT_OUT.items()] + [world.land("lying.zip", bytes(lying))]
    unopened = [world.land(f"{name}.7z", content) for name, content in sealed_archives().items()]
    fine = world.land("fine.docx", zipped(("word/document.xml", bytes(MIB // 2)), ("../odd", b"x")))
    with scanning(real.settings.model_copy(update={"largest_bytes": MIB}), pool=pool) as checks:
        world.ingest(checks=checks, way="thorough")
    for paper in large:
        check_refused(world, paper, "too-large-to-scan")
    for paper in unopened:
        check_held(world, paper, "archive-locked")
    assert (row(world, fine).state, row(world, fine).code) == ("accepted", "")


def test_what_cannot_be_looked_into_is_never_clean(world: World, real: RealClamd, pool: WorkerPool) -> None:
    """No rule asks for archives. clamd calls all of them clean."""
    papers = [world.land(f"{name}.zip", content) for name, content in UNREAD.items()]
    infected = world.land("infected.exe", PROGRAM + zipped(("a", PROBE)))
    fine = [world.land("fine.exe", PROGRAM + WHOLE), world.land("program.exe", PROGRAM)]
    with scanning(real.settings, pool=pool) as checks:
        world.ingest(checks=checks, way="thorough")
    for paper in papers:
        check_held(world, paper, "archive-unreadable")
    check_refused(world, infected, "virus")
    assert [(row(world, paper).state, row(world, paper).code) for paper in fine] == [("accepted", "")] * 2
    marked = world.land("marked.zip", UNREAD["cut"])
    with scanning(real.settings, pool=pool, archives=ArchiveSettings(unreadable="accept")) as checks:
        world.ingest(checks=checks, way="thorough")
    assert (row(world, marked).state, row(world, marked).code) == ("accepted", "archive-unreadable")


def test_an_archive_that_we_open_is_scanned_as_a_whole(world: World, real: RealClamd, pool: WorkerPool) -> None:
    """Beside entries that the agreed password opens lie some without it: clamd calls the paper encrypted, and these are scanned one by one, too."""
    mixed = {"clean": ("b.txt", b"fine"), "infected": ("b.txt", PROBE), "closed": ("b.7z", sealed_archives()["7z"])}
    papers = {name: world.land(f"{name}.zip", locked_and(entry)) for name, entry in mixed.items()}
    with scanning(real.settings, settings=rules({"archives": True}), pool=pool, password=lambda _: "s3cret-word") as checks:
        world.ingest(checks=checks, way="thorough")
    assert (row(world, papers["clean"]).state, row(world, papers["clean"]).code) == ("accepted", "")
    check_refused(world, papers["infected"], "virus")
    check_held(world, papers["closed"], "archive-locked")


def test_a_bomb_and_a_lying_ending_are_refused(world: World, pool: WorkerPool) -> None:
    bomb, liar = world.land("a.zip", zipped(("a", bytes(20 * MIB)))), world.land("b.pdf", b"MZ" + bytes(500))
    world.ingest(checks=Checks(rules({"archives": True, "match_type": True}), pool=pool, archives=ArchiveSettings()), way="thorough")
    check_refused(world, bomb, "archive-bomb")
    check_refused(world, liar, "wrong-type")


def test_a_check_that_never_ends_puts_its_paper_into_quarantine(world: World) -> None:
    hostile = WorkerPool(512 * MIB, "tests.integration.hostile_worker")
    checks = Checks(rules({"match_type": True}, seconds=0.2, quick_seconds=0.1), pool=hostile)
    papers = [world.land(name, b"x") for name in ("hang", "crash", "memory")]
    fine = world.land("fine", b"x")
    handed: list[str] = []
    try:
        world.ingest(checks=checks, hand_over=handed.append)
        assert sorted(handed) == papers and row(world, fine).state == "accepted", "the others went by"
        world.ingest(checks=checks, way="thorough")
    finally:
        hostile.close()
    for paper in papers:
        check_refused(world, paper, "check-failed")


def test_more_than_agreed_in_a_day(world: World) -> None:
    checks = Checks(rules({"papers_per_day": 2}), over_the_day=DayCount(world.catalog).is_over)
    papers = [world.land(f"{number}.pdf", b"x") for number in range(4)]
    world.ingest(checks=checks)
    assert [row(world, paper).state for paper in papers] == ["accepted", "accepted", "refused", "refused"]
    late = Checks(rules({"papers_per_day": 4}), over_the_day=DayCount(world.catalog).is_over)
    fifth = world.land("5.pdf", b"x")
    world.ingest(checks=late)
    check_refused(world, fifth, "too-many")


# held papers


@pytest.mark.parametrize("policy", ["hold", "accept", "refuse"])
def test_a_scanner_that_is_down(world: World, tmp_path: Path, policy: str) -> None:
    settings = ScanSettings.model_validate({"scanner": "clamd", "address": str(tmp_path / "none"), "unavailable": policy})
    paper = world.land("a.pdf", b"content")
    with scanning(settings) as checks:
        world.ingest(checks=checks)
        world.ingest(checks=checks)
    if policy == "hold":
        check_held(world, paper, "unscanned")
        assert len(world.events(Event.PAPER_HELD)) == len(world.events(Event.RECEIPT_WRITTEN)) == 1, "told once, not at each look"
    elif policy == "accept":
        assert (row(world, paper).state, row(world, paper).code) == ("accepted", "unscanned")
    else:
        check_refused(world, paper, "unscanned")


def test_held_papers_go_on_when_the_scanner_is_back_and_versions_stay_in_order(world: World) -> None:
    with clamd() as own:
        own.stop()
        with scanning(own.settings) as checks:
            first, virus = world.land("a.pdf", b"first"), world.land("v.txt", PROBE)
            world.ingest(checks=checks)
            check_held(world, first, "unscanned")
            old = world.receipts()[first]
            second = world.land("a.pdf", b"second")
            world.ingest(checks=replace(checks, settings=rules({"name": "a.pdf", "scan": False})))  # a newer version passes by
            assert row(world, first).state == "held"
            own.start()
            assert checks.standby is not None and checks.standby.ask().ready
            world.ingest(checks=checks)
    check_refused(world, virus, "virus")
    assert [(one.id, one.state) for one in world.catalog.versions("acme", "/inbox/a.pdf")] == [(first, "accepted"), (second, "accepted")]
    new = world.receipts()[first]
    assert (new["verdict"], new["version"], new["path"]) == ("accepted", 1, old["path"])
    assert world.spool.landed_papers() == []


@pytest.mark.parametrize("step", ["claimed", "sealed", "audited", "recorded", "receipted", "marked"])
def test_stopped_at_any_step_a_held_paper_is_held_once_and_settled_once(world: World, tmp_path: Path, step: str) -> None:
    class Stop(BaseException):
        pass

    def stop(done: str) -> None:
        if done == step:
            raise Stop

    checks = Checks(rules({"extensions": ["pdf"], "breach": "hold"}))
    paper = world.land("a.exe", b"content")
    with pytest.raises(Stop):
        world.ingest(after=stop, checks=checks)
    world.ingest(checks=checks)
    check_held(world, paper, "ending")
    world.catalog.decide(paper, "release", person="ops:x", reason="fine")
    decisions = Decisions(world.catalog, lambda: None)
    decisions.look()
    decided = Checks(checks.settings, decided=decisions.of)
    with pytest.raises(Stop):
        world.ingest(after=stop, checks=decided)
    world.ingest(checks=decided)
    found = row(world, paper)
    assert (found.state, found.code, found.version, found.receipted) == ("accepted", "released", 1, True)
    assert "waits" not in found.reason, "it does not wait any more"
    assert world.receipts()[paper]["verdict"] == "accepted" and world.spool.landed_papers() == []
    assert world.vault.exists("acme", paper) and not Vault(world.folder.quarantine).exists("acme", paper)


def test_a_person_refuses_and_asks_again(world: World) -> None:
    checks = Checks(rules({"extensions": ["pdf"], "breach": "hold"}))
    one, other = world.land("a.exe", b"one"), world.land("b.exe", b"other")
    world.ingest(checks=checks)
    world.catalog.decide(one, "refuse", person="ops:x", reason="no")
    world.catalog.decide(other, "again", person="ops:x", reason="the rule was changed")
    decisions = Decisions(world.catalog, lambda: None)
    decisions.look()
    world.ingest(checks=Checks(decided=decisions.of))
    check_refused(world, one, "declined")
    assert (row(world, other).state, row(world, other).code) == ("accepted", "")
    with pytest.raises(Exception, match="no paper"):
        world.catalog.decide(other, "release", person="ops:x", reason="too late")


def test_a_person_who_asks_again_a_second_time_is_heard(world: World) -> None:
    paper = world.land("a.exe", b"one")
    world.ingest(checks=Checks(rules({"extensions": ["pdf"], "breach": "hold"})))
    heard: list[str] = []
    decisions = Decisions(world.catalog, lambda: heard.append(paper))
    for times in (1, 2):
        world.catalog.decide(paper, "again", person="ops:x", reason="the rule was changed")
        decisions.look()
        decisions.look()
        assert len(heard) == times


def test_what_is_held_and_then_infected_is_refused_even_when_released(world: World) -> None:
    paper = world.land("a.exe", PROBE)
    with scanning(command_settings(FINDS), settings=rules({"extensions": ["pdf"], "breach": "hold"}), decided=lambda _: "release") as checks:
        world.ingest(checks=checks)
    check_refused(world, paper, "virus")


def test_a_scanner_that_breaks_down_over_one_paper_does_not_hold_it_for_ever(world: World) -> None:
    """It dies of a letter that says poison, and is well otherwise."""
    program = "import os, sys; data = sys.stdin.buffer.read(); b'poison' in data and os.kill(os.getpid(), 9); sys.exit(b'EICAR-STANDARD' in data)"
    poison, letter = world.land("p.txt", b"poison"), world.land("l.txt", b"letter")
    handed: list[str] = []
    with scanning(command_settings(program)) as checks:
        world.ingest(checks=checks, hand_over=handed.append)
        assert handed == [poison] and row(world, letter).state == "accepted"
        world.ingest(checks=checks, way="thorough")
    check_refused(world, poison, "check-failed")


# classes and manifests


def test_a_paper_gets_its_class(world: World, pool: WorkerPool) -> None:
    classes = [{"name": "*.csv", "class": "data"}, {"type": "pdf", "class": "document"}]
    data, document, other = world.land("a.csv", b"a,b"), world.land("b.bin", b"%PDF-1.7"), world.land("c.txt", b"x")
    world.ingest(checks=Checks(ChecksSettings.model_validate({"classes": classes}), pool=pool), way="thorough")
    assert [row(world, paper).reason for paper in (data, document, other)] == ["", "", ""]
    assert [row(world, paper).class_name for paper in (data, document, other)] == ["data", "document", ""]
    assert [world.receipts()[paper]["class"] for paper in (data, document, other)] == ["data", "document", None]


def line(content: bytes, name: str) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


def test_a_manifest_is_compared_with_what_came_before_and_after_it(world: World) -> None:
    world.land("before.pdf", b"before")
    world.land("differs.pdf", b"damaged")
    world.ingest()
    names = [(b"before", "before.pdf"), (b"whole", "differs.pdf"), (b"after", "./after.pdf"), (b"never", "never.pdf"), (b"out", "../../out")]
    manifest = world.land("SHA256SUMS", b"".join(line(*one) for one in names) + b"nonsense\n")
    world.ingest()
    told = world.receipts()[manifest]["manifest"]
    assert isinstance(told, dict)
    assert (told["matches"], told["differs"], told["missing"], told["unread"]) == (1, 1, 2, 2)
    assert told["differs_names"] == ["/inbox/differs.pdf"] and told["missing_names"] == ["/inbox/after.pdf", "/inbox/never.pdf"]
    world.land("after.pdf", b"after")
    world.land("differs.pdf", b"whole")
    world.ingest()
    told = world.receipts()[manifest]["manifest"]
    assert isinstance(told, dict)
    assert (told["matches"], told["differs"], told["missing"]) == (3, 0, 1)
    world.land("before.pdf", b"a new version is no fault of the manifest")
    world.ingest()
    assert world.receipts()[manifest]["manifest"] == told
    assert world.catalog.unreceipted() == []


def test_a_manifest_and_its_papers_in_one_batch(world: World) -> None:
    manifest = world.land("a.pdf.sha256", hashlib.sha256(b"a").hexdigest().encode() + b"\n")
    world.land("a.pdf", b"a")
    world.ingest()
    told = world.receipts()[manifest]["manifest"]
    assert isinstance(told, dict) and told["matches_names"] == ["/inbox/a.pdf"]


def test_two_lanes_that_write_the_receipt_of_one_manifest_do_so_one_after_the_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has read what the receipt is to say, and waits; the other comes with the second line. Neither may write over the newer one."""
    first, second = b"first", b"second"
    lines = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in (("a.pdf", first), ("b.pdf", second)))
    manifest = world.land("SHA256SUMS", lines.encode())
    world.ingest()
    here, go_on = threading.Event(), threading.Event()
    real = handing._files

    def files(parts: Any, paper: Paper, body: bytes) -> Any:
        if paper.id == manifest and not here.is_set():
            here.set()
            go_on.wait(120)
        return real(parts, paper, body)

    monkeypatch.setattr(handing, "_files", files)
    with ExitStack() as stack:
        lanes = [stack.enter_context(Pipeline(world.parts(stack.enter_context(AuditLog(world.folder.audit, "ingest"))), lane=lane)) for lane in "xy"]
        threads = [threading.Thread(target=lanes[0].handle, args=([world.land("a.pdf", first)],))]
        threads[0].start()
        assert here.wait(120)
        threads.append(threading.Thread(target=lanes[1].handle, args=([world.land("b.pdf", second)],)))
        threads[1].start()
        threads[1].join(1.0)
        assert threads[1].is_alive(), "the second has to wait"
        go_on.set()
        for thread in threads:
            thread.join(120)
    assert world.receipts()[manifest]["manifest"]["matches"] == 2  # type: ignore[index]


def test_hostile_manifests_are_bounded(world: World) -> None:
    long = world.land("long.sha256", b"x" * (2 * MIB + 1))
    many = world.land("many.sha256", line(b"x", "a") * 10_001)
    binary = world.land("binary.sha256", bytes(range(256)))
    names = world.land("names.sha256", b"".join(line(b"x", f"{number:04}" + "é" * 120) for number in range(3000)))
    world.ingest()
    receipts = world.receipts()
    for paper in (long, many, binary):
        told = receipts[paper]["manifest"]
        assert isinstance(told, dict) and told["fault"] and told["missing"] == 0
    assert json.loads(json.dumps(receipts[names]["manifest"]))["missing"] == 3000
    path = next((world.folder.jail("acme") / "receipts").rglob("names*.json"))
    assert path.stat().st_size < 64 * 1024
    assert world.ssh_keygen_verifies(path)
