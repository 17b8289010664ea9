"""Every fault of a backup ends in the right verdict with the right names; an untouched one passes. Real restic, real S3, real age files.

The tests share one installation with one snapshot. Each spoils something, drills, and puts it back.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.drill.run import run_drill
from backup.run import run_backup
from backup.status.overview import overview
from config.errors import Busy, Exit
from config.loading import Installation
from config.roles import exclusive
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Paper, Run
from tests.integration.conftest import S3Server, make_installation
from tests.integration.drill_house import A_WHILE, LONG_AGO, SETS, DrillHouse

pytestmark = pytest.mark.xdist_group("drill")  # one house for all of them
COUNT = 12


@pytest.fixture(scope="module")
def house(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrillHouse]:
    """An installation with COUNT papers and one snapshot of them."""
    root = tmp_path_factory.mktemp("drills")
    made = DrillHouse(make_installation(root, s3.settings(root, f"t-{secrets.token_hex(6)}")))
    made.fill(COUNT)
    made.save()
    yield made
    made.close()


@pytest.fixture
def papers(house: DrillHouse) -> list[Paper]:
    return [paper for paper in house.catalog.papers(state="accepted") if paper.size]


@contextmanager
def altered_objects(house: DrillHouse, kind: str, change: Callable[[bytes], bytes | None]) -> Iterator[None]:
    """The objects of the papers' repository changed, or deleted, for a while."""
    before = house.objects("papers", kind)
    assert before
    for key, data in before.items():
        changed = change(data)
        if changed is None:
            house.delete_object(key)
        else:
            house.put_object(key, changed)
    try:
        yield
    finally:
        for key, data in before.items():
            house.put_object(key, data)


def names(run: Run, kind: str = "bad") -> str:
    return "\n".join(run.detail[kind])


def flipped(data: bytes) -> bytes:
    """One bit, in the middle."""
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def test_an_untouched_backup_passes_in_full(house: DrillHouse) -> None:
    house.add_paper("acme", "/inbox/later", b"sealed after the snapshot", age=timedelta())
    run = house.drill()
    assert run.state == "passed", run.detail
    assert (run.detail["drawn"], run.detail["of"], run.detail["newer"]) == (COUNT, COUNT, 1)
    assert run.detail["bad"] == run.detail["missing"] == run.detail["surplus"] == []
    evidence = house.evidence(run)
    assert evidence["verdict"] == "passed"
    assert evidence["counts"]["keys_compared"] == 2
    assert len(evidence["repositories"]["papers"]["snapshot"]) == 64
    assert 0 < evidence["recovery"]["point_seconds"] - A_WHILE.total_seconds() < 300
    assert evidence["tools"]["restic"].startswith("0.")
    assert [event for event in house.events() if event.startswith("drill.")] == [Event.DRILL_STARTED, Event.DRILL_PASSED]


def test_the_evidence_is_signed(house: DrillHouse) -> None:
    run = house.drill()
    path = house.folder.root / str(run.detail["evidence"])
    command = ["ssh-keygen", "-Y", "verify", "-f", house.keyring.allowed_signers, "-I", "evidence", "-n", "evidence@nightsafe", "-s", f"{path}.sig"]
    assert subprocess.run(command, input=path.read_bytes(), capture_output=True).returncode == 0
    assert path.with_suffix(".html").exists()
    assert house.evidence(run)["coverage"]["percent"] == 100.0
    assert any(line.name == "drilled so far" and line.colour == "green" for line in overview(house.installation))
    _check_proof(house, run)


def _check_proof(house: DrillHouse, run: Run) -> None:
    """The evidence of one client: its papers alone, each with the drill that proved it, as long as the drill's own evidence holds."""
    command = [sys.executable, "-m", "nightsafe", "drill", "proof", "acme", "--data", str(house.folder.root), "--json"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    papers = {paper.id: paper for paper in house.catalog.papers(client="acme", state="accepted")}
    old = {paper.id for paper in papers.values() if paper.sealed_at < run.started_at - LONG_AGO / 2}
    assert Event.PROOF_WRITTEN in house.events()
    path = Path(told["evidence"])
    verify = ["ssh-keygen", "-Y", "verify", "-f", house.keyring.allowed_signers, "-I", "evidence", "-n", "evidence@nightsafe", "-s", f"{path}.sig"]
    assert subprocess.run(verify, input=path.read_bytes(), capture_output=True).returncode == 0
    values = json.loads(path.read_bytes())
    assert {one["paper"] for one in values["papers"]} == set(papers)
    assert {one["paper"] for one in values["papers"] if one["proven_by"] == run.id} >= old
    assert [one["run"] for one in values["drills"]] == [run.id]
    page = path.with_suffix(".html").read_text()
    assert "zeta" not in page + path.read_text() and papers[min(papers)].sha256 in page
    own = house.folder.root / str(run.detail["evidence"])
    body = own.read_bytes()
    own.write_bytes(body.replace(b'"verified": ', b'"verified": 1'))  # an altered one proves nothing
    try:
        values = json.loads(Path(json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["evidence"]).read_bytes())
    finally:
        own.write_bytes(body)
    assert all(one["proven_by"] != run.id for one in values["papers"])


def test_a_sample_passes_says_what_it_shows_and_can_be_drawn_again(house: DrillHouse) -> None:
    first = house.drill("sample", sample=5, seed="one")
    assert first.state == "passed", first.detail
    assert first.detail["drawn"] == 5
    assert first.detail["of"] == COUNT
    evidence = house.evidence(first)
    assert "5 of 12 papers were drawn and none is bad" in evidence["statement"]["text"]
    assert len(evidence["draw"]["papers"]) == 5
    assert "papers" in evidence["coverage"]["text"]
    assert house.evidence(house.drill("sample", sample=COUNT))["statement"]["text"] == f"All {COUNT} papers were checked and none is bad."


def test_the_command_says_what_a_sample_shows_and_how_many_papers_are_sound(house: DrillHouse, papers: list[Paper]) -> None:
    command = [sys.executable, "-m", "nightsafe", "drill", "run", "--sample", "5", "--data", str(house.folder.root)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "5 of 12 papers were drawn and none is bad: with 95 % confidence at most " in told and "sound" not in told
    gone = house.vault_file(papers[0])
    kept = gone.read_bytes()
    gone.unlink()
    try:
        house.save()
        command[5:7] = ["--full"]
        done = subprocess.run(command, capture_output=True, text=True)
    finally:
        gone.write_bytes(kept)
        house.save()
    assert done.returncode == Exit.BAD
    assert re.search(r"\b(\d+) of \1 compared, (\d+) of them sound", done.stdout), done.stdout


def test_what_a_full_drill_proved_stays_proven_however_young_it_was(house: DrillHouse) -> None:
    """Papers that were sealed just before the backup: neither the next drill's coverage nor the client's evidence forgets them."""
    young = house.add_paper("zeta", "/inbox/just before", b"young", age=timedelta())
    house.save()
    full, sampled = house.drill(), house.drill("sample", sample=1)
    assert (full.state, sampled.state) == ("passed", "passed")
    assert young.id in house.evidence(full)["young"]["papers"]
    assert sampled.detail["coverage"]["percent"] == 100.0, sampled.detail["coverage"]["text"]
    command = [sys.executable, "-m", "nightsafe", "drill", "proof", "zeta", "--data", str(house.folder.root), "--json"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    values = json.loads(Path(told["evidence"]).read_bytes())
    assert {one["path"]: one["proven_by"] for one in values["papers"]}[young.path] == full.id


def test_a_flipped_bit_in_every_pack_fails_and_names_papers(house: DrillHouse, papers: list[Paper]) -> None:
    with altered_objects(house, "data", flipped):
        run = house.drill()
    assert run.state == "failed"
    assert "damaged" in run.detail["cause"]


@pytest.mark.long  # restic 0.14 asks for what is not there for most of a minute
def test_a_deleted_pack_fails_and_names_the_pack_and_the_papers(house: DrillHouse, papers: list[Paper]) -> None:
    big = house.add_paper("zeta", "/inbox/in a pack that goes", secrets.token_bytes(300_000))
    before = house.objects("papers", "data")
    house.save()
    ((key, data),) = ((key, data) for key, data in house.objects("papers", "data").items() if key not in before and len(data) > 300_000)
    house.delete_object(key)
    try:
        run = house.drill()
    finally:
        house.put_object(key, data)
    assert run.state == "failed"
    assert f"pack {key.rpartition('/')[2]}: does not exist" in run.detail["cause"]
    assert big.path in names(run) + names(run, "missing")
    assert house.drill().state == "passed"


def test_one_flipped_bit_in_one_papers_pack_names_that_paper(house: DrillHouse, papers: list[Paper]) -> None:
    big = house.add_paper("zeta", "/inbox/a pack of its own", secrets.token_bytes(3_000_000))
    before = house.objects("papers", "data")
    house.save()
    own = {key: data for key, data in house.objects("papers", "data").items() if key not in before and len(data) > 3_000_000}
    ((key, data),) = own.items()
    house.put_object(key, flipped(data))  # in the middle, where the paper is: the dump beside it is small
    try:
        run = house.drill()
    finally:
        house.put_object(key, data)
    assert run.state == "failed"
    named = names(run) + names(run, "missing")
    assert named, run.detail["cause"]
    assert big.path in named
    assert len(named.splitlines()) <= 2  # it, and at most one small thing beside it
    assert house.drill().state == "passed"


def test_the_newest_snapshots_deleted(house: DrillHouse) -> None:
    house.save()
    newest = max(house.repository("papers").snapshots(), key=lambda snapshot: snapshot.time)
    key = next(key for key in house.objects("papers", "snapshots") if newest.id in key)
    data = house.objects("papers", "snapshots")[key]
    house.delete_object(key)
    try:
        run = house.drill()
    finally:
        house.put_object(key, data)
    assert run.state == "failed"
    assert "the newest snapshots were deleted: 1 " in run.detail["cause"]
    assert run.detail["verified"] >= COUNT  # and what is left was looked at all the same
    with altered_objects(house, "snapshots", lambda _: None):
        run = house.drill()
    assert run.state == "failed"
    assert "none is left" in run.detail["cause"]


def test_the_newest_snapshots_forgotten_by_restic(house: DrillHouse) -> None:
    """As somebody does who got hold of the pruner's credential. The command ends 1 and names the cause, for either repository."""
    house.save()
    house.save()
    *_, older, newest = house.repository("papers").snapshots()
    house.forget_snapshots("papers", newest.id, older.id)
    command = [sys.executable, "-m", "nightsafe", "drill", "run", "--full", "--data", str(house.folder.root), "--json"]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == Exit.BAD
    assert b"Traceback" not in done.stderr
    cause = "the newest snapshots were deleted: 2 recorded in the repository of the papers are gone; the newest that is left is of "
    assert cause in done.stderr.decode()
    told = json.loads(done.stdout)
    assert told["state"] == "failed"
    assert told["detail"]["verified"] >= COUNT  # what is left was looked at all the same
    house.save()
    house.forget_snapshots("keys", house.repository("keys").snapshots()[-1].id)
    run = house.drill("sample", sample=1)
    assert run.state == "failed"
    assert "1 recorded in the repository of the keys are gone" in run.detail["cause"]
    house.save()
    assert house.drill().state == "passed"


def test_an_old_snapshot_presented_as_new(house: DrillHouse) -> None:
    """Dated anew, or saved again, under the number of an older backup: alone, and in the place of the newest, which is gone."""
    first, second = house.save(), house.save()
    assert first and second
    papers = house.repository("papers")
    papers.backup(SETS["papers"], cwd=house.folder.root, host="elsewhere", tags=["nightsafe", f"run:{first.id}"])
    forged = papers.snapshots()[-1]
    try:
        beside = house.drill("sample", sample=1)
        house.forget_snapshots("papers", str(second.snapshot))
        instead = house.drill("sample", sample=1)
    finally:
        house.forget_snapshots("papers", forged.id)
        house.save()
    named = f"snapshot {forged.short} of {forged.time:%Y-%m-%d %H:%M:%S} UTC passes for new, and bears the number of backup {first.id}, "
    named += "which made another"
    assert (beside.state, instead.state) == ("failed", "failed")
    assert beside.detail["cause"] == f"in the repository of the papers: {named}"
    assert "the newest snapshots were deleted: 1 " in instead.detail["cause"] and named in instead.detail["cause"]


def test_hashes_altered_in_the_live_catalog_and_in_the_dump(house: DrillHouse, papers: list[Paper]) -> None:
    live, dumped = papers[0], papers[1]
    receipts = sorted(house.folder.jails.glob(f"{papers[2].client}/receipts/*/*.{papers[2].id[-12:]}.json*"))
    assert len(receipts) == 2
    renamed = [path.rename(path.with_name(f"another{path.name}")) for path in receipts]  # it is looked for by the end of its name
    house.save(lambda dump: house.alter(dump, dumped.id, sha256="0" * 64))
    house.alter(house.folder.catalog, live.id, sha256="1" * 64)
    try:
        run = house.drill()
        sampled = house.drill("sample", sample=1000)
    finally:
        house.alter(house.folder.catalog, live.id, sha256=live.sha256)
        for there, path in zip(renamed, receipts, strict=True):
            there.rename(path)
        house.save()
    for one in (run, sampled):
        assert one.state == "failed"
        assert sorted(one.detail["bad"]) == sorted(
            [
                f"acme {live.path} (version 1): the live catalog contradicts what came back (in sha256)".replace("acme", live.client),
                f"acme {dumped.path} (version 1): the catalog in the backup contradicts what came back (in sha256)".replace("acme", dumped.client),
            ]
        )


def test_a_vault_that_was_tampered_with_before_the_backup(house: DrillHouse, papers: list[Paper]) -> None:
    acme = [paper for paper in papers if paper.client == "acme"]
    one, two, gone = acme[0], acme[1], acme[2]
    kept = {paper.id: house.vault_file(paper).read_bytes() for paper in (one, two, gone)}
    stray = house.vault_file(one).with_name("f" * 30 + one.id[-2:] + ".age")
    house.vault_file(one).write_bytes(kept[two.id])
    house.vault_file(two).write_bytes(kept[one.id])
    house.vault_file(gone).unlink()
    stray.write_bytes(kept[one.id])
    try:
        house.save()
        run = house.drill()
    finally:
        for paper in (one, two, gone):
            house.vault_file(paper).write_bytes(kept[paper.id])
        stray.unlink()
        house.save()
    assert run.state == "failed"
    assert run.detail["by_cause"] == {"missing": 1, "surplus": 1, "swapped": 2}
    assert f"acme {one.path} (version 1): its file holds another paper (that of acme {two.path}" in names(run)
    assert f"acme {two.path} (version 1): its file holds another paper (that of acme {one.path}" in names(run)
    assert gone.path in names(run, "missing")
    assert stray.name in names(run, "surplus")


def test_a_dump_that_is_rubbish(house: DrillHouse) -> None:
    for rubbish in (b"", b"SQLite format 3\0" + b"\xff" * 5000):
        house.save(lambda dump, data=rubbish: dump.write_bytes(data) and None)  # type: ignore[misc]
        run = house.drill()
        assert run.state == "failed"
        assert "the catalog in the backup cannot be read" in run.detail["cause"]
        assert run.detail["by_cause"] == {}
    house.save()


def test_a_key_that_differs_from_the_live_keyring(house: DrillHouse) -> None:
    key = house.folder.client_keys("acme") / "1.age"
    data = key.read_bytes()
    key.write_bytes(flipped(data))
    try:
        house.save()
    finally:
        key.write_bytes(data)
    run = house.drill("sample", sample=1)
    house.save()
    assert run.state == "failed"
    assert names(run) == "acme keys/clients/acme/1.age: this key is not the one that the live keyring has"


def test_receipts_that_were_altered(house: DrillHouse, papers: list[Paper]) -> None:
    receipt = next(house.folder.jail("acme").glob("receipts/*/*.json"))
    data = receipt.read_bytes()
    receipt.write_bytes(data.replace(b'"size": ', b'"size": 1'))
    try:
        house.save()
        run = house.drill()
    finally:
        receipt.write_bytes(data)
        house.save()
    assert run.state == "failed"
    assert run.detail["by_cause"] == {"receipt-bad": 1}


def with_settings(house: DrillHouse, section: str, **values: Any) -> Installation:
    settings = house.installation.settings
    changed = getattr(settings, section).model_copy(update=values)
    return Installation(house.folder, settings.model_copy(update={section: changed}))


def test_an_s3_that_is_away_gives_no_verdict(house: DrillHouse) -> None:
    run = run_drill(with_settings(house, "s3", endpoint="http://127.0.0.1:9"), "full")
    assert run.state == "inconclusive"
    assert run.detail["cause"]
    assert house.evidence(run)["verdict"] == "inconclusive"
    assert Event.DRILL_INCONCLUSIVE in house.events()


def test_a_bucket_that_was_swapped_for_an_empty_one(house: DrillHouse) -> None:
    run = run_drill(with_settings(house, "s3", prefix="nothing-here"), "full")
    assert run.state == "failed"
    assert "no repository" in run.detail["cause"]


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_scratch_disk_gives_no_verdict(house: DrillHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "small", "300k") as small:
        installation = with_settings(house, "drill", scratch=small)
        run = run_drill(installation, "full")
        assert run.state == "inconclusive"
        assert "too full" in run.detail["cause"]
        monkeypatch.setattr("backup.drill.rehearsal.check_room", lambda *_: None)  # it fills up on the way
        run = run_drill(installation, "full")
        assert run.state == "inconclusive", run.detail
        assert "full" in run.detail["cause"]
        assert list(small.iterdir()) == []


def test_one_drill_at_a_time(house: DrillHouse) -> None:
    with exclusive(house.folder, "drill", "held"), pytest.raises(Busy):
        house.drill()


def test_without_a_backup_there_is_nothing_to_rely_on(installation: Installation) -> None:
    run = run_drill(installation, "full")
    assert run.state == "failed"
    assert run.detail["cause"] == "there is no backup yet"


def test_with_the_real_backup_and_the_command(house: DrillHouse, papers: list[Paper]) -> None:
    """What `backup run` makes is what a drill reads; the command ends 0, 1 and 5."""
    saved = run_backup(house.installation)
    assert saved.state == "passed", saved.detail
    command = [sys.executable, "-m", "nightsafe", "drill", "run", "--full", "--data", str(house.folder.root), "--json"]
    good = subprocess.run(command, capture_output=True)
    assert good.returncode == Exit.DONE, good.stderr.decode()
    told = json.loads(good.stdout)
    assert (told["state"], told["snapshot"]) == ("passed", saved.snapshot)
    house.alter(house.folder.catalog, papers[0].id, sha256="1" * 64)
    try:
        bad = subprocess.run(command, capture_output=True)
    finally:
        house.alter(house.folder.catalog, papers[0].id, sha256=papers[0].sha256)
    assert bad.returncode == Exit.BAD
    assert papers[0].path in json.loads(bad.stdout)["detail"]["bad"][0]
    settings = house.folder.settings.read_text()
    house.folder.settings.write_text(settings.replace(house.installation.settings.s3.endpoint, "http://127.0.0.1:9"))
    try:
        away = subprocess.run(command, capture_output=True)
    finally:
        house.folder.settings.write_text(settings)
    assert away.returncode == Exit.OUT_OF_REACH
    for one in (good, bad, away):
        assert b"Traceback" not in one.stderr


@pytest.mark.long
def test_after_the_clock_was_set_back_there_is_no_verdict_until_the_next_backup(house: DrillHouse) -> None:
    """Neither a good backup fails, nor does one pass that lost a paper, or whose newest snapshot is an old one."""
    hour = timedelta(hours=1)
    with AuditLog(house.folder.audit, "ingest") as log:
        lost = house.add_paper("acme", "/inbox/lost", b"accepted before the backup, and not in it", hour)
        log.append(Event.PAPER_SEALED, paper=lost.id, client="acme")
        held_back = house.folder.root.parent / "held-back"
        house.vault_file(lost).rename(held_back)
        house.save(lambda dump: house.forget(lost.id, dump))
        held_back.rename(house.vault_file(lost))
        assert house.drill().detail["by_cause"]["not-in-dump"] == 1, "no clock was set"
        late = house.add_paper("acme", "/inbox/late", b"accepted after the backup, an hour before it by its time", hour)
        log.append(Event.PAPER_SEALED, paper=late.id, client="acme")
        both = house.drill()
        assert (both.state, both.detail["by_cause"]["not-in-dump"]) == ("failed", 1)
        house.save()
        again = house.add_paper("acme", "/inbox/again", b"so is this one", hour)
        log.append(Event.PAPER_SEALED, paper=again.id, client="acme")
    command = [sys.executable, "-m", "nightsafe", "drill", "run", "--full", "--data", str(house.folder.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5 and "1 paper came after the newest backup and has a time from before it, so the clock was set back" in done.stderr
    assert "back up, and drill again" in done.stderr
    assert house.drill("sample", sample=3).state == "inconclusive"
    first, second = house.save(), house.save()
    assert first and second
    house.repository("papers").backup(SETS["papers"], cwd=house.folder.root, host="nightsafe", tags=["nightsafe", f"run:{first.id}"])
    forged = house.repository("papers").snapshots()[-1]
    with closing(sqlite3.connect(house.folder.catalog)) as base, base:  # as if the clock had been two hours ahead
        base.execute("UPDATE runs SET started_at = started_at + 7200000000, ended_at = ended_at + 7200000000 WHERE id = ?", (second.id,))
    impostor = house.drill("sample", sample=3)
    house.forget_snapshots("papers", forged.id)
    assert impostor.state == "failed" and f"bears the number of backup {first.id}, which made another" in impostor.detail["cause"]
    house.save()
    assert house.drill().state == "passed"
