"""Backups in several places at once: a folder, another dialect of S3, an append-only REST server. Real restic, rclone, SeaweedFS."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backup.bucket import RegionForbidden, check_bucket
from backup.clock.lanes import Job
from backup.destruction.run import Order, destroy_client
from backup.drill.lineage import is_of_its_run
from backup.drill.run import run_drill
from backup.plan import found_dump
from backup.repositories.access import S3Access
from backup.repositories.anew import give_up
from backup.repositories.locks import quiet
from backup.repositories.places import FolderPlace, RestPlace, place
from backup.repositories.repository import RepositoryLost, Writer
from backup.restore.papers import restore_papers
from backup.run import run_backup, snapshots
from backup.scheduler import usual_jobs
from backup.status.overview import backup_lines
from backup.upkeep.check import run_check
from backup.upkeep.forget import run_forget
from config.errors import Busy, CheckFailed, Exit, NightsafeError, OutOfReach, SettingsError
from config.loading import Installation, parse_settings
from config.settings import CopySettings
from gateway.audit.checkpoint import sign_checkpoint
from gateway.catalog import Catalog
from gateway.keys.secrets import role_secrets
from tests.integration.conftest import S3Server, make_installation
from tests.integration.drill_house import DrillHouse
from tests.integration.ready_repositories import fill_place
from tests.ports import quiet_port

pytestmark = pytest.mark.xdist_group("copies")


@pytest.fixture(scope="module")
def house(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrillHouse]:
    root = tmp_path_factory.mktemp("copies")
    (root / "cellar").mkdir()
    made = DrillHouse(make_installation(root, s3.settings(root, f"t-{secrets.token_hex(6)}") + '[copies.cellar]\nurl = "../cellar"\n'))
    made.fill(6)
    (made.folder.keys / "host").mkdir(exist_ok=True)
    yield made
    made.close()


@contextlib.contextmanager
def rclone(*words: str) -> Iterator[int]:
    """rclone, serving on a port of its own."""
    port = quiet_port()
    process = subprocess.Popen(["rclone", "serve", *words, "--addr", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(240)


def with_copy(house: DrillHouse, name: str, **values: object) -> Installation:
    settings = house.installation.settings
    return Installation(house.folder, settings.model_copy(update={"copies": {name: CopySettings(**values)}}))


def credentials(path: Path, first: str, second: str) -> Path:
    path.write_text("".join(f'[{role}]\n{first} = "somebody"\n{second} = "a-pass/word"\n' for role in ("writer", "reader", "pruner")))
    path.chmod(0o600)
    return path


def by_the_clock(installation: Installation) -> Job:
    """The scheduler's drill of the cellar."""
    jobs = usual_jobs(installation, role_secrets(installation, "scheduler"), threading.Event(), "drill")
    return next(job for job in jobs if job.label == "drill:cellar")


def test_a_folder_takes_a_copy_drills_and_restores(house: DrillHouse, tmp_path: Path) -> None:
    installation = house.installation
    with pytest.raises(Busy, match="holds no backup yet"):
        by_the_clock(installation).run()
    fill_place(installation, "cellar")
    done = run_backup(installation, copy="cellar")
    assert (done.kind, done.state, done.detail["copy"]) == ("copy", "passed", "cellar")
    assert done.snapshot in [snapshot.id for _, snapshot in snapshots(installation, copy="cellar")]
    assert house.catalog.repository("papers@cellar") is not None
    assert house.catalog.repository("papers") is None, "the first place has none yet, and does not get one by this"
    drilled = by_the_clock(installation).run()
    assert (drilled.state, drilled.detail["copy"], drilled.detail["kind"]) == ("passed", "cellar", "sample"), drilled.detail
    with house.agent() as agent:
        assert restore_papers(installation, "zeta", (), None, tmp_path / "back", agent, copy="cellar").restored == 2
    lines = {line.name: line for line in backup_lines(installation, done.started_at)}
    assert lines["copy cellar"].colour == "yellow"
    assert "not offsite" in lines["copy cellar"].text
    assert lines["newest backup"].colour == "red", "a copy is no first backup"


def test_a_folder_that_is_not_mounted_and_one_that_was_emptied(house: DrillHouse) -> None:
    cellar = house.folder.root.parent / "cellar"
    cellar.rename(cellar.with_name("unmounted"))
    with pytest.raises(OutOfReach, match="is not there"):
        run_backup(house.installation, copy="cellar")
    assert not cellar.exists()
    cellar.mkdir()
    with pytest.raises(RepositoryLost):
        run_backup(house.installation, copy="cellar")
    assert list(cellar.iterdir()) == []
    drilled = run_drill(house.installation, "full", copy="cellar")
    assert drilled.state == "failed"
    cellar.rmdir()
    cellar.with_name("unmounted").rename(cellar)
    assert run_backup(house.installation, copy="cellar").state == "passed"


def test_a_destroyed_client_is_pending_until_every_copy_is_clean(house: DrillHouse) -> None:
    house.add_client("leaving")
    house.add_paper("leaving", "/inbox/a", b"a")
    assert run_backup(house.installation, copy="cellar").state == "passed"
    cellar = house.folder.root.parent / "cellar"
    cellar.rename(cellar.with_name("unmounted"))
    order = Order("R. Keller", "the contract ended", "ops")
    outcome = destroy_client(house.installation, "leaving", order)
    assert outcome.destruction.state == "pending"
    assert "keys@cellar: the folder" in outcome.obstacle
    cellar.with_name("unmounted").rename(cellar)
    outcome = destroy_client(house.installation, "leaving", order)
    assert (outcome.destruction.state, outcome.obstacle) == ("done", "")
    assert outcome.proof is not None and outcome.proof.snapshots > 0
    assert run_drill(house.installation, "full", copy="cellar").state == "passed"


def test_a_slow_place_keeps_nothing_from_another_and_each_has_its_own_dump(
    house: DrillHouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One backup is held after its dump; meanwhile another place is saved, checked and cleared up, and the slow one ends whole."""
    attic = house.folder.root.parent / "attic"
    attic.mkdir()
    copies = {**house.installation.settings.copies, "attic": CopySettings(url="../attic")}
    installation = Installation(house.folder, house.installation.settings.model_copy(update={"copies": copies}))
    fill_place(installation, "attic")
    dumped, go_on, real = threading.Event(), threading.Event(), sign_checkpoint

    def held(*words: object) -> str:
        if threading.current_thread() is not threading.main_thread():
            dumped.set()
            assert go_on.wait(120)
        return real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr("backup.run.sign_checkpoint", held)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(run_backup, installation, copy="attic")
        try:
            assert dumped.wait(120)
            house.add_paper("zeta", "/inbox/meanwhile", b"sealed while the slow place waits")
            quick = run_backup(installation, copy="cellar")
            assert run_check(installation, copy="cellar").state == run_forget(installation, copy="cellar").state == "passed"
            for work in (run_backup, run_forget):
                with pytest.raises(Busy):
                    work(installation, copy="attic")
            with pytest.raises(Busy), quiet(installation.folder, ""):
                pass
        finally:
            go_on.set()
        ended = slow.result(300)
    assert (quick.state, ended.state) == ("passed", "passed")
    assert quick.id > ended.id and house.catalog.run(ended.id).state == "passed", "the later run did not take the earlier one for dead"
    for run in (quick, ended):
        copy = run.detail["copy"]
        (snapshot,) = [one for name, one in snapshots(installation, copy=copy) if name == "papers" and one.id == run.snapshot]
        reader = Writer.create(installation, role_secrets(installation, "backup"), copy=copy).restic("papers")
        reader.restore(snapshot.id, tmp_path / copy, includes=["/dump"])
        dump = found_dump(tmp_path / copy / "dump")
        assert dump is not None and [dump.name] == os.listdir(tmp_path / copy / "dump")
        with Catalog.adopt(dump) as catalog:
            assert is_of_its_run(snapshot, catalog)
            assert catalog.count_papers(state="accepted")[0] == run.detail["papers"]


@pytest.mark.long
def test_a_place_that_is_given_up_is_named_by_every_certificate(house: DrillHouse) -> None:
    """Before its keys were cleaned of one client, and before another client was destroyed at all."""
    order, cellar = Order("R. Keller", "the contract ended", "ops"), house.folder.root.parent / "cellar"
    for client in ("early", "late"):
        house.add_client(client)
    copies = {name: CopySettings(url=f"../{name}") for name in ("cellar", "attic")}
    installation = Installation(house.folder, house.installation.settings.model_copy(update={"copies": copies}))
    assert run_backup(installation, copy="cellar").state == "passed"
    cellar.rename(cellar.with_name("stolen"))
    assert destroy_client(installation, "early", order).destruction.state == "pending"
    cellar.mkdir()
    give_up(installation, "cellar", "the disk was stolen", "ops")
    assert run_backup(installation, copy="cellar").state == "passed", "a new one is made"
    for client in ("early", "late"):
        outcome = destroy_client(installation, client, order)
        states = {one.repository.partition(" given up ")[0]: one.state for one in outcome.destruction.repositories if "given up" in one.repository}
        assert (outcome.destruction.state, outcome.obstacle, states) == ("done", "", {"keys@cellar": "lost"})
        assert [one.state for one in outcome.destruction.repositories if one.repository == "keys@cellar"] == ["clean"]
        assert "given up as lost" in outcome.certificate.with_suffix(".html").read_text()


def test_another_dialect_of_s3_with_credentials_of_its_own(house: DrillHouse, tmp_path: Path) -> None:
    (tmp_path / "buckets" / "safe").mkdir(parents=True)
    file = credentials(tmp_path / "s3.toml", "access_key", "secret_key")
    with rclone("s3", str(tmp_path / "buckets"), "--auth-key", "somebody,a-pass/word") as port:
        installation = with_copy(house, "dialect", url=f"s3:http://127.0.0.1:{port}/safe/deep/inside", credentials_file=file)
        fill_place(installation, "dialect")
        assert run_backup(installation, copy="dialect").state == "passed"
        assert (tmp_path / "buckets" / "safe" / "deep" / "inside" / "papers" / "snapshots").is_dir()
        assert run_drill(installation, "sample", sample=3, copy="dialect").state == "passed"


def test_an_append_only_rest_server_with_a_password(house: DrillHouse, tmp_path: Path) -> None:
    file = credentials(tmp_path / "rest.toml", "user", "password")
    (tmp_path / "served").mkdir()
    with rclone("restic", str(tmp_path / "served"), "--append-only", "--user", "somebody", "--pass", "a-pass/word") as port:
        installation = with_copy(house, "rest", url=f"rest:http://127.0.0.1:{port}", credentials_file=file)
        there = place(installation, "writer", copy="rest")
        assert isinstance(there, RestPlace)
        assert "pass" not in there.url("papers") + there.shown("papers") + repr(there)
        fill_place(installation, "rest", tmp_path / "served")
        done = run_backup(installation, copy="rest")
        assert done.state == "passed"
        assert there.names("papers", "locks/") == []
        assert there.names("papers", f"snapshots/{done.snapshot}") == [f"snapshots/{done.snapshot}"]
        with pytest.raises(NightsafeError, match="refuses"):
            there.remove("papers", [f"snapshots/{done.snapshot}"])
        assert run_drill(installation, "sample", sample=3, copy="rest").state == "passed"
        wrong = credentials(tmp_path / "wrong.toml", "user", "password")
        wrong.write_text(wrong.read_text().replace("a-pass/word", "wrong"))
        with pytest.raises(SettingsError, match="refuses the credentials"):
            run_backup(with_copy(house, "rest", url=f"rest:http://127.0.0.1:{port}", credentials_file=wrong), copy="rest")
    with pytest.raises(OutOfReach):
        run_backup(installation, copy="rest")


def test_a_bucket_elsewhere_is_refused_before_the_first_byte(house: DrillHouse, s3: S3Server, tmp_path: Path) -> None:
    settings = house.installation.settings
    pinned = settings.backup.model_copy(update={"allowed_regions": ["eu-central-1"]})
    with pytest.raises(RegionForbidden, match=r"backup\.allowed_regions"):
        run_backup(Installation(house.folder, settings.model_copy(update={"backup": pinned})))
    assert house.objects("papers", "snapshots") == {}
    here = s3.access("reader")
    check_bucket(S3Access(here.endpoint, here.bucket, "", "eu-central-1", here.access_key, here.secret_key), ["us-east-1", "eu-central-1"])


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ('[copies.a]\nregion = "x"\n', "has no url"),
        ('[copies."A b"]\nurl = "/x"\n', "no name for a copy"),
        ('[copies.a]\nurl = "s3:https://host"\n', "name a bucket"),
        ('[copies.a]\nurl = "rest:https://me:secret@host/x"\n', "no password"),
        ('[copies.a]\nurl = "sftp://host/x"\n', "must be s3:"),
        ('[copies.a]\nurl = "s3:ftp://host/x"\n', "must go on with a URL"),
    ],
)
def test_mistakes_in_the_settings_are_named(block: str, words: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_settings(block, "nightsafe.toml", {})
    assert words in error.value.message


def test_unknown_copies_and_missing_credentials(house: DrillHouse, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no copy 'attic'"):
        run_backup(house.installation, copy="attic")
    with pytest.raises(SettingsError, match="no credentials_file"):
        run_backup(with_copy(house, "far", url="s3:https://s3.invalid/bucket"), copy="far")
    assert FolderPlace(tmp_path).names("papers") == []
    assert issubclass(RepositoryLost, CheckFailed)
    assert os.listdir(tmp_path) == []


def test_a_look_at_the_locks_of_a_folder_does_not_go_through_its_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config", "locks/aa", "locks/ab", "data/00/ff", "snapshots/aabb"):
        (tmp_path / "papers" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "papers" / name).write_text("x")
    walked: list[str] = []
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda top: (walked.append(str(top)), walk(top))[1])
    where = FolderPlace(tmp_path)
    assert where.names("papers", "locks/", limit=1) == ["locks/aa"]
    assert where.names("papers", "snapshots/aa") == ["snapshots/aabb"]
    assert where.names("papers", "locks/none/") == []
    assert [Path(top).name for top in walked] == ["locks", "snapshots", "none"]
    assert where.names("papers") == ["config", "data/00/ff", "locks/aa", "locks/ab", "snapshots/aabb"]


def test_advice_about_a_copy_names_the_copy(house: DrillHouse) -> None:
    """Whoever follows it word by word must not mend, or forget in, another place."""
    cellar = house.folder.root.parent / "cellar"
    assert run_backup(house.installation, copy="cellar").state == "passed"
    pack = max((cellar / "papers" / "data").glob("*/*"), key=lambda path: path.stat().st_size)
    data = pack.read_bytes()
    pack.chmod(0o600)
    pack.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    said = {}
    try:
        for words in ("check --whole", "forget", "repair"):
            command = [sys.executable, "-m", "nightsafe", "backup", *words.split(), "--from", "cellar", "--data", str(house.folder.root)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == Exit.BAD, done.stderr
            said[words] = done.stdout + done.stderr
    finally:
        pack.write_bytes(data)
    assert "nightsafe drill run --full --from cellar; " in said["check --whole"]
    assert "nightsafe backup forget --from cellar --confirm" in said["forget"]
    assert "nightsafe backup repair --remove --from cellar" in said["repair"]
    assert run_check(house.installation, copy="cellar", whole=True).state == "passed"
