"""Drills that begin with the recovery kit: the clean room, back to a gateway, and escrow. Real restic, S3, keyd, gateway and SFTP client."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.drill.run import run_drill
from backup.drill.scratch import YOUNG_SECONDS
from backup.kit.kit import WholeKit, parse_whole_kit
from backup.repositories.access import access
from backup.run import run_backup
from backup.status.overview import overview
from config.cli import run
from config.errors import Exit, UsageError
from config.loading import open_installation
from gateway.age import Identity, seal
from gateway.audit.signatures import EVIDENCE, verify
from gateway.catalog import Paper
from gateway.keys.keyring import EVIDENCE_SIGNING, RESTIC_KIT
from gateway.keys.kit import KitValues, part_a, part_b
from gateway.keys.resealing import add_recovery
from nightsafe import cli
from tests.integration.conftest import S3Server, make_installation
from tests.integration.drill_house import SETS, DrillHouse

pytestmark = pytest.mark.xdist_group("drill-kit")
RECOVERY = Identity.generate()


@dataclass
class Firm:
    """A house with clients of every custody, one backup of it, and its kit."""

    house: DrillHouse
    pages: str
    papers: dict[str, Paper]

    @property
    def kit(self) -> WholeKit:
        return parse_whole_kit(self.pages)


@pytest.fixture(scope="module")
def firm(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firm]:
    root = tmp_path_factory.mktemp("firm")
    with contextlib.closing(DrillHouse(make_installation(root, s3.settings(root, f"t-{secrets.token_hex(6)}")))) as house:
        add_recovery(house.keyring, RECOVERY.recipient, house.master, None)
        papers = {paper.path: paper for paper in house.fill(8)}
        house.add_partial("acme", "/inbox/on its way")
        papers["old"] = house.add_paper("acme", "/inbox/version", b"first")
        papers["new"] = house.add_paper("acme", "/inbox/version", b"second")
        house.catalog.edit_client("zeta", active=False, profile="drop", download_bytes_per_second=1)
        deposits, outbox = house.keyring.add_deposit_client("deposits", None)
        house.catalog.add_client(
            "deposits", custody="deposit-only", recipient=str(deposits.recipient), besides={outbox.generation: str(outbox.recipient)}
        )
        closed, outbox = house.keyring.add_deposit_client("closed", Identity.generate().recipient)
        house.catalog.add_client(
            "closed", custody="deposit-only", recipient=str(closed.recipient), besides={outbox.generation: str(outbox.recipient)}
        )
        from gateway.jail.tree import Tree

        for name in ("deposits", "closed"):
            Tree.create(house.folder.jail(name)).close()
            papers[name] = house.add_paper(name, "/inbox/deposit", os.urandom(70_000))
            papers[name + " out"] = house.add_paper(name, "/outbox/for you", b"from the firm")
        run_backup(house.installation)
        bucket = access(house.installation, "reader")
        password = house.keyring.open_secret(RESTIC_KIT, house.master).decode()
        values = KitValues(bucket.url("papers"), bucket.url("keys"), password, bucket.access_key, bucket.secret_key, bucket.region)
        yield Firm(house, part_a(RECOVERY, house.keyring) + part_b(values, house.keyring), papers)


def secrets_of(firm: Firm) -> list[bytes]:
    return [RECOVERY.encode().encode(), firm.kit.values["RESTIC_PASSWORD"].encode()]


def test_the_clean_room_goes_from_the_kit_to_papers_fetched_by_their_clients(firm: Firm) -> None:
    house = firm.house
    run = house.drill("clean-room", kit=firm.kit)  # it asserts that the scratch folder is empty
    assert run.state == "passed", json.dumps(run.detail, indent=1, ensure_ascii=False)
    evidence = house.evidence(run)
    assert [stage["name"] for stage in evidence["stages"]] == [
        "find the snapshots", "restore the keys", "restore everything", "read both catalogs", "read the receipts", "put the data folder together",
        "start keyd and the gateway", "log in and list", "download and hash", "compare the sealed files",
    ]  # fmt: skip
    assert evidence["recovery"]["time_seconds"] == pytest.approx(sum(stage["seconds"] for stage in evidence["stages"]), abs=0.01)
    counts = evidence["counts"]
    assert (counts["of"], counts["verified"], counts["by_ciphertext"]) == (14, 14, 3)  # an older version, and two deposits
    assert "With the recovery kit alone, all 14 papers came back: 11 were fetched over SFTP" in evidence["statement"]["text"]
    assert "4 of 4 clients logged in to the restored gateway." in evidence["notes"]
    path = house.folder.root / str(run.detail["evidence"])
    assert "from the recovery kit to papers fetched over SFTP" in path.with_suffix(".html").read_text()
    assert verify(house.keyring.public_half(EVIDENCE_SIGNING), EVIDENCE, path.read_bytes(), Path(f"{path}.sig").read_text())
    for secret in secrets_of(firm):
        assert not any(secret in file.read_bytes() for file in house.folder.root.rglob("*") if file.is_file())
    assert [person.name for person in house.catalog.people()] == [], "the login of the drill is in the restored copy alone"
    line = next(line for line in overview(house.installation) if line.name == "recovery kit")
    assert line.colour == "green"


@pytest.mark.long
def test_what_a_client_does_not_get_fails_the_clean_room(firm: Firm) -> None:
    """A name that went, content that is not what arrived, and a deposit that was replaced."""
    house, papers = firm.house, firm.papers
    pointer = house.folder.jail("acme") / "inbox" / "version"
    named = pointer.read_bytes()
    forged, deposit = papers["/inbox/-rf"], papers["closed"]
    kept = {paper.id: house.vault_file(paper).read_bytes() for paper in (forged, deposit)}
    sink = io.BytesIO()
    with seal(sink, [house.keyring.client_recipient("closed").recipient]) as writer:
        writer.write(b"something else")
    try:
        pointer.write_bytes(named.replace(b'"state":"whole"', b'"state":"gone!"'))
        house.vault_file(deposit).write_bytes(sink.getvalue())
        house.alter(house.folder.catalog, forged.id, sha256="1" * 64)  # live and dump agree, and its receipt does not
        run_backup(house.installation)
        run = house.drill("clean-room", kit=firm.kit)
    finally:
        pointer.write_bytes(named)
        house.vault_file(deposit).write_bytes(kept[deposit.id])
        house.alter(house.folder.catalog, forged.id, sha256=forged.sha256)
        run_backup(house.installation)
    assert run.state == "failed"
    assert f"closed {deposit.path} (version 1): its file is not the one that was sealed" in "\n".join(run.detail["bad"])
    assert forged.path in "\n".join(run.detail["bad"])
    assert run.detail["by_cause"]["damaged"] == 1


@pytest.mark.long
def test_a_gateway_that_does_not_start_on_what_came_back_fails(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backup.drill.cleanroom.SETTINGS", "[gateway]\nprot = 0\n")
    run = firm.house.drill("clean-room", kit=firm.kit)
    assert run.state == "failed" and "the role 'keyd' does not start on what came back" in run.detail["cause"]


@pytest.mark.parametrize("kind", ["escrow", pytest.param("clean-room", marks=pytest.mark.long)])
def test_a_kit_that_opens_nothing_fails(firm: Firm, kind: str) -> None:
    kit = firm.kit
    other = firm.house.drill(kind, kit=replace(kit, identity=Identity.generate()))
    assert (other.state, other.detail["cause"]) == ("failed", "the kit's part A is no recovery identity of this backup: it opens none of its keys")
    stale = firm.house.drill(kind, kit=replace(kit, values={**kit.values, "RESTIC_PASSWORD": "of another bucket"}))
    assert stale.state == "failed" and "the kit's restic key does not open the repository of the papers" in stale.detail["cause"]
    refused = firm.house.drill(kind, kit=replace(kit, values={**kit.values, "AWS_SECRET_ACCESS_KEY": "wrong"}))
    assert refused.state == "failed" and "the kit's credential does not read the bucket" in refused.detail["cause"]
    line = next(line for line in overview(firm.house.installation) if line.name == "recovery kit")
    assert line.colour == "yellow" and "part B did not open" in line.text


def test_escrow_opens_one_paper_of_each_client(firm: Firm) -> None:
    house = firm.house
    run = house.drill("escrow", kit=firm.kit)
    assert run.state == "passed", json.dumps(run.detail, indent=1, ensure_ascii=False)
    evidence = house.evidence(run)
    assert evidence["statement"]["text"] == "The recovery kit opened both repositories, and one paper of each of the 4 clients that have any."
    clients = {house.catalog.paper(paper).client for paper in evidence["draw"]["papers"]}
    assert clients == {"acme", "zeta", "deposits", "closed"} and evidence["counts"]["verified"] == 4 and run.detail["of"] == 14
    assert evidence["counts"]["by_ciphertext"] <= 1  # of the client that holds its key alone, where its deposit was drawn


@pytest.mark.long
def test_escrow_names_a_key_that_the_kit_does_not_open(firm: Firm) -> None:
    """A key that was sealed to the master alone, by mistake or on purpose: everyday drills do not see it."""
    house = firm.house
    key = house.folder.client_keys("zeta") / "1.age"
    data = key.read_bytes()
    from gateway.age import open_bytes, seal_bytes

    key.write_bytes(seal_bytes(open_bytes(data, [house.master]), [house.master.recipient]))
    try:
        run_backup(house.installation)
        everyday, escrow = house.drill("sample", sample=20), house.drill("escrow", kit=firm.kit)
    finally:
        key.write_bytes(data)
        run_backup(house.installation)
    assert everyday.state == "passed", everyday.detail
    assert escrow.state == "failed" and escrow.detail["by_cause"] == {"no-key": 1} and "zeta" in escrow.detail["bad"][0]


def test_the_commands_ask_for_the_kit(firm: Firm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    pages = tmp_path / "kit.txt"
    pages.write_text(firm.pages)
    data = ["--data", str(firm.house.folder.root), "--json"]
    assert run(cli, ["drill", "run", "--escrow", "--kit", str(pages), *data]) == Exit.DONE
    told = json.loads(capfd.readouterr().out)
    assert told["detail"]["kind"] == "escrow"
    part = tmp_path / "part-a.txt"
    part.write_text(part_a(RECOVERY, firm.house.keyring))
    assert run(cli, ["drill", "run", "--escrow", "--kit", str(part), *data]) == Exit.USAGE
    assert "lacks part B" in capfd.readouterr().err
    assert run(cli, ["drill", "run", "--full", "--kit", str(pages), *data]) == Exit.USAGE
    assert run(cli, ["drill", "run", "--full", "--escrow", *data]) == Exit.USAGE
    with pytest.raises(UsageError):
        run_drill(firm.house.installation, "clean-room")


@pytest.mark.long
def test_a_killed_clean_room_leaves_no_process_and_the_next_drill_clears_its_folder(firm: Firm, tmp_path: Path) -> None:
    pages = tmp_path / "kit.txt"
    pages.write_text(firm.pages)
    scratch = firm.house.installation.path(firm.house.installation.settings.drill.scratch)
    command = [sys.executable, "-m", "nightsafe", "drill", "run", "--clean-room", "--kit", str(pages), "--data", str(firm.house.folder.root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(scratch.glob("*/restored/run/keyd.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    (left,) = scratch.iterdir()
    plaintext = [content for content in firm.house.contents.values() if len(content) > 100]
    process.send_signal(signal.SIGKILL)
    process.wait()

    def running() -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = entry.read_bytes().decode(errors="replace")
                found += [words] if str(left) in words else []
        return found

    while running():
        assert time.monotonic() < deadline, running()
        time.sleep(0.05)
    for file in left.rglob("*"):
        data = file.read_bytes() if file.is_file() else b""
        assert not any(content[:64] in data for content in plaintext), f"{file} holds plaintext"
        assert not any(secret in data for secret in secrets_of(firm)), f"{file} holds a secret of the kit"
    long_ago = time.time() - 10 * YOUNG_SECONDS
    os.utime(left, (long_ago, long_ago))
    firm.house.drill("sample", sample=1)  # it asserts that the scratch folder is empty


@pytest.mark.long
def test_a_lost_machine_is_made_again_out_of_the_kit(firm: Firm, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`kit restore`: a data folder that works, with a new master; its drills pass and its backups go on where the others ended."""
    pages, target = tmp_path / "kit.txt", tmp_path / "new" / "data"
    pages.write_text(firm.pages)
    target.mkdir(parents=True)
    (target.parent / "s3.toml").write_bytes((firm.house.folder.root.parent / "s3.toml").read_bytes())
    (target.parent / "s3.toml").chmod(0o600)
    assert run(cli, ["kit", "restore", str(pages), "--data", str(target), "--json"]) == Exit.DONE
    told = json.loads(capfd.readouterr().out)
    assert (told["clients"], told["papers"]) == (4, 14)
    assert sorted(path.name for path in target.parent.iterdir()) == ["data", "master.key", "s3.toml"]
    assert run(cli, ["kit", "restore", str(pages), "--data", str(target)]) == Exit.USAGE  # never over something
    installation = open_installation(target, {})
    with contextlib.closing(DrillHouse(installation, revived=True)) as new:
        assert new.master.recipient != firm.house.master.recipient
        assert new.keyring.master_recipients == [new.master.recipient]
        assert new.folder.host_key.read_bytes() == firm.house.folder.host_key.read_bytes()
        assert {person.name for person in new.catalog.people()} == {person.name for person in firm.house.catalog.people()}
        assert run_backup(installation).state == "passed"
        assert new.drill("full").state == "passed"


def test_an_older_snapshot_than_the_kit_knows_of_is_not_taken_for_the_newest(firm: Firm, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    later = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%MZ}"
    known = re.compile(r"(?m)^export NIGHTSAFE_NEWEST=.*\n")
    line = f"export NIGHTSAFE_NEWEST={later}\n"
    pages = known.sub(line, firm.pages) if known.search(firm.pages) else firm.pages.replace("export NIGHTSAFE_", f"{line}export NIGHTSAFE_", 1)
    assert restored(pages, tmp_path) == Exit.BAD
    told = capfd.readouterr().err
    assert "when part B was printed there was one of" in told
    assert "newer ones are gone" in told and "--at " in told


@pytest.mark.long
def test_an_old_snapshot_that_passes_for_new_is_not_restored(firm: Firm, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its tag names a backup that the catalog in it does not know of."""
    papers = firm.house.repository("papers")
    papers.backup(SETS["papers"], cwd=firm.house.folder.root, host="nightsafe", tags=["nightsafe", "run:99"])
    forged = papers.snapshots()[-1]
    try:
        assert restored(firm.pages, tmp_path) == Exit.BAD
    finally:
        firm.house.forget_snapshots("papers", forged.id)
    assert not list((tmp_path / "new").glob("data*")), "the next one, of another snapshot, begins with nothing of it"
    assert f"snapshot {forged.short} of" in (told := capfd.readouterr().err)
    assert "its catalog is that of another backup" in told and "--at TIME" in told


def restored(pages: str, base: Path) -> int:
    """The exit code of `kit restore`, which makes no data folder when it is refused."""
    (base / "kit.txt").write_text(pages)
    code = run(cli, ["kit", "restore", str(base / "kit.txt"), "--data", str(base / "new" / "data")])
    assert code == Exit.DONE or not (base / "new" / "data").exists()
    return code
