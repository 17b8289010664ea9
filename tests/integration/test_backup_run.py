"""Whole backups with real restic and a real S3 server: the good road, and what happens on the way."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from backup.bucket import list_names
from backup.repositories.access import access
from backup.repositories.repository import PlaceTaken, RepositoryLost
from backup.restic import Interrupted, Locked, Restic, Unreachable, WrongPassword
from backup.run import run_backup, snapshots
from backup.status.backups import NOT_OFFSITE, backup_status
from config.cli import run as run_command
from config.errors import Busy, Exit, NightsafeError, OutOfReach
from config.loading import Installation
from config.roles import exclusive
from gateway.audit.events import Event
from gateway.catalog import Catalog
from gateway.keys.keyring import Keyring
from gateway.keys.master import load_master
from gateway.keys.secrets import RoleSecrets
from nightsafe import cli
from tests.integration.backup_house import House, failed, furnish, script
from tests.integration.conftest import S3Server, make_installation
from tests.integration.ready_repositories import prepare, repository_files
from tests.integration.s3_parts import proxy


@pytest.fixture(scope="module")
def ready(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> House:
    """One with a first backup; every test leaves it able to back up."""
    root = tmp_path_factory.mktemp("ready")
    installation = make_installation(root, s3.settings(root, f"t-{secrets.token_hex(6)}"))
    furnish(installation)
    prepare(installation)
    return House(installation, run_backup(installation))


@pytest.fixture
def fresh(installation: Installation) -> House:
    """One without any backup."""
    return House(installation)


# the good road


def test_a_backup_holds_everything_but_what_must_stay(ready: House) -> None:
    run = ready.first
    assert run
    assert run.state == "passed"
    assert run.snapshot and len(run.snapshot) == 64
    assert run.keys_snapshot and len(run.keys_snapshot) == 64
    papers = set(ready.restic("ls", run.snapshot).stdout.splitlines()[1:])
    keys = set(ready.restic("ls", run.keys_snapshot, name="keys").stdout.splitlines()[1:])
    assert {"/VERSION", "/nightsafe.toml", "/dump/catalog.sqlite3", "/keys/allowed_signers", "/keys/secrets/restic-papers.age"} <= papers
    assert len([name for name in papers if name.endswith(".age") and name.startswith("/vault/")]) == 5
    assert "/jails/acme/inbox/.tmp-not-ours" in papers, "no client's name is taken for a leftover"
    assert not [name for name in papers if "/.tmp-0011" in name or name.endswith("/half")]
    assert not [name for name in papers if name.startswith(("/spool", "/ingest-keys", "/run", "/cache", "/keys/clients", "/catalog"))]
    assert "/keys/host/ssh_host_ed25519_key" not in papers, "only its sealed copy"
    assert "/keys/secrets/host-key.age" in papers
    assert {name for name in keys if "." in name} == {"/keys/clients/acme/1.age", "/keys/master.recipient", "/keys/recovery.recipients"}


def test_a_snapshot_is_pinned_and_tagged_with_the_head_of_the_audit_chain(ready: House) -> None:
    run = ready.first
    assert run
    *_, (_, oldest) = [pair for pair in snapshots(ready.installation) if pair[0] == "papers"]
    assert oldest.id == run.snapshot
    assert run.keys_snapshot in [snapshot.id for name, snapshot in snapshots(ready.installation) if name == "keys"]
    assert oldest.host == "nightsafe"
    assert oldest.tag("run") == str(run.id)
    assert oldest.tag("audit") == run.detail["audit_head"]
    assert ready.events(Event.CHECKPOINT_SIGNED)[0]["checkpoint"] == run.detail["audit_head"]
    assert ready.events(Event.BACKUP_FINISHED)[0]["snapshot"] == run.snapshot


def test_the_log_is_compared_with_the_tags_of_snapshots(ready: House, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = ready.installation.folder.audit / "checkpoints.jsonl"
    words = ["audit", "verify", "--snapshots", "--data", str(ready.installation.folder.root)]
    kept = checkpoints.read_bytes()
    try:
        checkpoints.write_bytes(b"")
        assert run_command(cli, words) == Exit.BAD
    finally:
        checkpoints.write_bytes(kept)
    assert "the tag of snapshot" in capsys.readouterr().err


def test_the_counts_are_restics_own(ready: House) -> None:
    run = ready.first
    assert run
    stats = json.loads(ready.restic("stats", "--json", "--mode", "restore-size", run.snapshot).stdout)
    keys = json.loads(ready.restic("stats", "--json", "--mode", "restore-size", run.keys_snapshot, name="keys").stdout)
    assert run.detail["bytes"] == stats["total_size"] + keys["total_size"]
    assert run.detail["files"] > 20
    assert run.detail["papers"] == 0


def test_the_repository_is_sound_and_the_kits_key_opens_it(ready: House) -> None:
    assert ready.restic("check", "--read-data").returncode == 0
    kit = Keyring(ready.installation.folder).open_secret("restic-kit", load_master(ready.installation))
    for name in ("papers", "keys"):
        assert ready.restic("cat", "config", name=name, password=kit).returncode == 0
        assert len(json.loads(ready.restic("key", "list", "--json", name=name, role="writer").stdout)) == 2


def test_repositories_are_recorded_once(ready: House) -> None:
    assert {ready.repository(name).restic_id for name in ("papers", "keys")} == {
        json.loads(ready.restic("cat", "config", name=name).stdout)["id"] for name in ("papers", "keys")
    }
    assert len(ready.events(Event.REPOSITORY_CREATED)) == 2


def test_status_of_a_server_on_this_machine_is_never_green(ready: House) -> None:
    found = backup_status(ready.installation)
    assert NOT_OFFSITE in found.reasons
    assert not found.green


def test_progress_comes_in_bytes(ready: House) -> None:
    big = ready.installation.folder.vault / "acme" / "big.age"
    big.write_bytes(os.urandom(6_000_000))
    seen: list[tuple[int, int]] = []

    class Watching:
        def update(self, done: int, total: int, note: str = "") -> None:
            seen.append((done, total))

    assert run_backup(ready.installation, Watching()).detail["added_bytes"] >= 6_000_000
    assert seen
    assert max(total for _, total in seen) >= 6_000_000
    again = run_backup(ready.installation)
    assert again.detail["added_bytes"] < 1_000_000 < 6_000_000 < again.detail["bytes"], "what was there already was not sent again"
    big.unlink()


# only one at a time


def test_a_second_run_says_busy(ready: House) -> None:
    before = len(ready.runs)
    with exclusive(ready.installation.folder, "backup", "x"), pytest.raises(Busy) as error:
        run_backup(ready.installation)
    assert error.value.exit_code == Exit.BUSY
    assert len(ready.runs) == before


def test_a_lock_that_a_dead_process_left_is_removed(ready: House) -> None:
    with _locked_by_a_stopped_restic(ready) as (process, locks):
        process.kill()
        process.wait()
        assert locks() == 1
        assert run_backup(ready.installation).state == "passed"
        assert locks() == 0
    assert ready.restic("check").returncode == 0


def test_a_lock_of_a_live_process_is_respected(ready: House) -> None:
    with _locked_by_a_stopped_restic(ready) as (process, locks):
        failed(ready, Locked, Exit.BUSY)
        assert locks() == 1
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        process.wait(240)
    assert run_backup(ready.installation).state == "passed"


@contextlib.contextmanager
def _locked_by_a_stopped_restic(house: House) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], int]]]:
    """`restic check`, stopped while it holds its exclusive lock."""
    one = access(house.installation, "writer")
    environment = {"PATH": os.environ["PATH"], "HOME": "/", "RESTIC_PASSWORD": house.secrets.text("restic-papers"), **one.environment()}

    def locks() -> int:
        return len(list_names(one, one.folder("papers") + "locks/"))

    process = subprocess.Popen(
        # Slow enough (KiB a second) to be caught with its lock on the busiest machine.
        ["restic", "--no-cache", "--limit-download", "8", "-r", one.url("papers"), "check", "--read-data"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not locks():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGSTOP)
        assert locks() == 1, "it was too quick"
        yield process, locks
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


# never initialised because something failed


def test_restic_is_asked_who_the_repository_is_only_when_its_config_is_not_as_before(ready: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    config = Restic.config
    monkeypatch.setattr(Restic, "config", lambda self: (asked.append(self.repository.url), config(self))[1])
    assert run_backup(ready.installation).state == "passed"
    assert asked == []
    one = access(ready.installation, "pruner")
    key = one.folder("papers") + "config"
    ours = ready.client("pruner").get_object(Bucket=one.bucket, Key=key)["Body"].read()
    theirs = repository_files(ready.secrets["restic-papers"])[1]["config"]
    snapshots_before = ready.objects("papers/snapshots")
    ready.client("pruner").put_object(Bucket=one.bucket, Key=key, Body=theirs)
    try:
        with pytest.raises(NightsafeError):
            run_backup(ready.installation)
    finally:
        ready.client("pruner").put_object(Bucket=one.bucket, Key=key, Body=ours)
    assert asked and ready.objects("papers/snapshots") == snapshots_before


def test_another_repository_in_its_place_is_an_error(ready: House, fresh: House) -> None:
    elsewhere = fresh.change(s3={"prefix": ready.installation.settings.s3.prefix})
    with Catalog.open(fresh.installation.folder.catalog) as catalog:
        catalog.add_repository("papers", "s3:somewhere", "a" * 64)
    count = ready.objects("papers/snapshots")
    failed(elsewhere, RepositoryLost, Exit.BAD, secrets=ready.secrets)
    assert ready.objects("papers/snapshots") == count


def test_a_repository_that_our_password_does_not_open_is_left_alone(ready: House, fresh: House) -> None:
    elsewhere = fresh.change(s3={"prefix": ready.installation.settings.s3.prefix})
    count = ready.objects()
    failed(elsewhere, PlaceTaken, Exit.USAGE)
    assert ready.objects() == count


def test_a_wrong_password_is_named(ready: House) -> None:
    wrong = RoleSecrets("scheduler", {**dict(ready.secrets), "restic-papers": b"another password"})
    count = ready.objects()
    failed(ready, WrongPassword, Exit.USAGE, secrets=wrong)
    assert ready.objects() - count in (0, 1)  # the keys are saved beside the papers: their snapshot may have been made


# out of reach


def test_a_bucket_that_dies_in_the_middle_is_given_up_after_the_stall_limit(ready: House) -> None:
    big = ready.installation.folder.vault / "acme" / "uploading.age"
    big.write_bytes(os.urandom(16_000_000))
    for seconds in (3, 15, 60):  # a machine that is busy stands still before the bucket has died
        with proxy(ready.installation.settings.s3.endpoint) as between:
            between.freeze_after = 2_000_000
            started = time.monotonic()
            failed(ready.change(s3={"endpoint": between.endpoint}, backup={"stall_seconds": seconds}), Unreachable, Exit.OUT_OF_REACH)
            if between.passed > 2_000_000:
                break
    assert between.passed > 2_000_000
    assert time.monotonic() - started < 240, "restic itself goes on for a quarter of an hour"
    assert run_backup(ready.installation).state == "passed"
    assert ready.restic("check").returncode == 0
    big.unlink()


def test_a_full_disk_is_named_and_the_repositories_stay_good(s3: S3Server, tmp_path: Path) -> None:
    """The data folder on a tmpfs of its own, in a mount namespace that goes with the process."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    settings = s3.settings(tmp_path, f"t-{secrets.token_hex(6)}").replace("../s3.toml", str(tmp_path / "s3.toml"))
    code = """
import json, os, sys
from pathlib import Path
from tests.integration.conftest import make_installation
from tests.integration.ready_repositories import prepare
from backup.run import run_backup
from config.errors import NightsafeError
from gateway.catalog import Catalog
root = Path(sys.argv[1])
installation = make_installation(root, sys.argv[2])
prepare(installation)
run_backup(installation)
(root / "filler").write_bytes(b"")
with open(root / "filler", "ab", buffering=0) as filler:
    for size in (65536, 4096):
        try:
            while filler.write(bytes(size)):
                pass
        except OSError:
            pass
try:
    run_backup(installation)
    found = None
except NightsafeError as error:
    found = [int(error.exit_code), error.message + error.hint]
half = os.listdir(installation.folder.dump)
(root / "filler").unlink()
again = run_backup(installation)
with Catalog.open(installation.folder.catalog) as catalog:
    states = [run.state for run in catalog.runs("backup")]
print(json.dumps([found, half, again.state, states]))
"""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    mount = 'mount -t tmpfs -o size=8m tmpfs "$1" && shift && exec "$@"'
    command = ["unshare", "--mount", *as_root, "sh", "-c", mount, "sh", str(mounted), sys.executable, "-c", code, str(mounted), settings]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    found, half, again, states = json.loads(done.stdout)
    assert found is not None, "the disk was not full"
    assert found[0] == Exit.OUT_OF_REACH
    assert "space" in found[1] or "full" in found[1]
    assert half == ["catalog.sqlite3"]
    assert again == "passed"
    assert set(states[1:-1]) <= {"failed", "interrupted"}


# what is there to be saved


def test_what_cannot_be_read_makes_the_backup_partial_and_keeps_the_snapshot(ready: House) -> None:
    """A path that is too long to be asked for: nobody, root included, can read what is there."""
    deep = ready.installation.folder.vault / "acme" / "deep"
    deep.mkdir()
    folder = os.open(deep, os.O_DIRECTORY)
    for _ in range(17):
        os.mkdir("d" * 250, dir_fd=folder)
        inner = os.open("d" * 250, os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    try:
        run = run_backup(ready.installation)
        assert run.state == "partial"
        assert run.snapshot and len(run.snapshot) == 64
        assert f"{deep}/ddd" in run.detail["error"]
        assert backup_status(ready.installation).colour == "red"
    finally:
        shutil.rmtree(deep)


def test_a_key_that_comes_while_papers_are_read_is_saved_once_more(ready: House, tmp_path: Path) -> None:
    """Both repositories are saved side by side. A client comes when its key was passed by, and its first paper gets into the papers' snapshot."""
    folder, passed_by = ready.installation.folder, tmp_path / "passed-by"
    key, paper = folder.client_keys("late") / "1.age", folder.vault / "late" / "ab" / "first.age"
    come = f"mkdir -p {key.parent} {paper.parent}; echo sealed > {key}; echo sealed > {paper}"
    papers = f'for _ in $(seq 600); do [ -e {passed_by} ] && break; sleep 0.1; done; {come}; exec restic "$@"'
    keys = f'restic "$@"; code=$?; touch {passed_by}; exit $code'
    wrapper = script(tmp_path, f'case " $* " in *" jails "*) {papers};; *" backup "*) {keys};; *) exec restic "$@";; esac')
    run = run_backup(ready.change(backup={"restic": str(wrapper)}).installation)
    assert run.state == "passed"
    assert "/vault/late/ab/first.age" in ready.restic("ls", run.snapshot).stdout
    assert "/keys/clients/late/1.age" in ready.restic("ls", run.keys_snapshot, name="keys").stdout


@pytest.mark.long
def test_a_name_that_a_client_deletes_meanwhile_is_no_fault(ready: House, tmp_path: Path) -> None:
    """Names come and go until restic has met one that went; it said so and ended with its code 3."""
    inbox, ends, over = ready.installation.folder.jails / "acme" / "inbox", tmp_path / "ends", threading.Event()
    wrapper = script(tmp_path, f'restic "$@"; code=$?; echo $code >> {ends}; exit $code')
    house = ready.change(backup={"restic": str(wrapper)})

    def come_and_go() -> None:
        for number in itertools.takewhile(lambda _: not over.is_set(), itertools.count()):
            (inbox / f"fleeting {number % 500}").write_bytes(b"x" * 100)
            (inbox / f"fleeting {(number + 250) % 500}").unlink(missing_ok=True)

    client = threading.Thread(target=come_and_go)
    ends.touch()
    client.start()
    try:
        states = [run_backup(house.installation).state for _ in itertools.takewhile(lambda _: "3" not in ends.read_text().split(), range(20))]
    finally:
        over.set()
        client.join()
        for name in inbox.glob("fleeting *"):
            name.unlink()
    assert "3" in ends.read_text().split(), "no name went at the right moment"
    assert set(states) == {"passed"}, [run.detail.get("error") for run in house.runs[:3]]


def test_messages_of_a_kind_that_is_not_known_are_passed_over(ready: House, tmp_path: Path) -> None:
    """As a restic of tomorrow may print them, on either of its outputs, before, among and after those that are known."""
    odd = '{"message_type":"a kind of the year 2040","percent":{"of":"what"}}'
    tell = f"echo '{odd}'; echo '{odd}' >&2; echo '{{ no json'; "
    wrapper = script(tmp_path, f'case " $* " in *" backup "*) {tell} restic "$@"; code=$?; {tell} exit $code;; *) exec restic "$@";; esac')
    run = run_backup(ready.change(backup={"restic": str(wrapper)}).installation)
    assert (run.state, run.detail.get("error")) == ("passed", None)
    assert run.snapshot in [snapshot.id for name, snapshot in snapshots(ready.installation) if name == "papers"]


# ends before its time


def saving_children(parent: int) -> list[str]:
    """The processes of `restic backup` that `parent` started, by whichever thread."""
    found = []
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in children.read_text().split():
            with contextlib.suppress(OSError):
                if b"backup" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    found.append(pid)
    return found


def test_a_killed_run_becomes_interrupted_and_the_next_one_passes(ready: House) -> None:
    (ready.installation.folder.vault / "acme" / "killed.age").write_bytes(os.urandom(60_000_000))
    code = """
import sys
from backup.run import run_backup
from config.loading import Installation, open_installation
found = open_installation(sys.argv[1])
slow = found.settings.backup.model_copy(update={"limit_upload": ("00:00-24:00 = 1 MiB/s",)})  # it must not be done before it is killed
run_backup(Installation(found.folder, found.settings.model_copy(update={"backup": slow})))
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(ready.installation.folder.root)])
    deadline = time.monotonic() + 240
    while not (children := saving_children(process.pid)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)  # somewhere in the middle of 60 MB
    process.kill()
    process.wait()
    assert run_backup(ready.installation).state == "passed"
    assert [run.state for run in ready.runs[:2]] == ["passed", "interrupted"]
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in children)
    assert ready.restic("check").returncode == 0


def test_a_request_to_stop_ends_it_and_the_next_run_clears_up(ready: House) -> None:
    (ready.installation.folder.vault / "acme" / "stopped.age").write_bytes(os.urandom(60_000_000))
    cancel = threading.Event()

    class Stopping:
        def update(self, done: int, total: int, note: str = "") -> None:
            if done:
                cancel.set()

    with pytest.raises(Interrupted):
        run_backup(ready.installation, Stopping(), cancel=cancel)
    assert ready.runs[0].state == "interrupted"
    # restic 0.14 removes its lock on SIGINT, but not always: what it leaves must not stand in the way of the next run.
    assert run_backup(ready.installation).state == "passed"
    one = access(ready.installation, "reader")
    assert list_names(one, one.folder("papers") + "locks/") == []


@pytest.mark.long  # the quickstart does it by default, too
def test_the_embedded_server_and_a_first_backup(
    new_installation: Callable[..., Installation],
    s3_role: Callable[[Installation], AbstractContextManager[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House(new_installation('[s3]\nprefix = "deep/inside"\n'))
    assert snapshots(house.installation) == []
    with s3_role(house.installation):
        assert run_backup(house.installation).state == "passed"
        assert len(snapshots(house.installation)) == 2
        monkeypatch.setattr("backup.run.MIN_FREE_BYTES", 1 << 60)
        assert "disk of the embedded S3 server is full" in failed(house, OutOfReach, Exit.OUT_OF_REACH).message
    assert house.repository("papers").url == "s3:embedded/nightsafe/deep/inside/papers"
    with pytest.raises(OutOfReach):
        snapshots(house.installation)
