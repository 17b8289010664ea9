"""Bad input while everything runs: clients, S3, restic and names that are wrong. No repository is ever made because something failed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup.repositories.access import S3_ROLES, access, sealed_credentials
from config.folder import DataFolder
from config.loading import open_installation
from gateway.keys.keyring import RESTIC_PAPERS, Keyring
from gateway.keys.secrets import role_secrets
from tests.e2e.complaints import Case, assert_complains, log_is_clean, nothing, parameters, processes_named, repositories, setting
from tests.e2e.house import CLIENT, ROOT, House, running_house
from tests.ports import quiet_port

pytestmark = pytest.mark.timeout(900)


def fake_restic(house: House, script: str) -> None:
    """A restic that is none, first on PATH."""
    tools = house.home / "bin"
    tools.mkdir()
    (tools / "restic").write_text(f"#!/bin/sh\n{script}\n")
    (tools / "restic").chmod(0o755)
    house.environment["PATH"] = f"{tools}:{house.environment['PATH']}"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """An installation that is up, with one sealed paper, and has never made a backup."""
    home = tmp_path_factory.mktemp("house")
    (home / "paper").write_bytes(b"a paper")
    with running_house(home) as running:
        running.sftp(f"put {home}/paper inbox/paper.txt")
        running.await_papers(1)
        yield running
        log_is_clean(running)


@pytest.fixture
def guest(house: House, tmp_path: Path) -> House:
    """The running house as another command line sees it, whose environment a case may change."""
    guest = House(tmp_path, house.data)
    guest.environment = dict(house.environment)
    guest.key, guest.sftp_port = house.key, house.sftp_port
    return guest


def external(change: Callable[[dict[str, dict[str, str]]], object] = lambda _: None, mode: int = 0o600) -> Callable[[House], None]:
    """The embedded server, addressed as if it were somebody else's, with a credentials file that `change` spoils."""

    def broken(guest: House) -> None:
        installation = open_installation(guest.data, guest.environment)
        secrets = role_secrets(installation, "s3", dict(guest.environment))
        credentials = {role: dict(zip(("access_key", "secret_key"), sealed_credentials(secrets, role), strict=True)) for role in S3_ROLES}
        change(credentials)
        file = guest.home / "credentials.toml"
        file.write_text("".join(f"[{role}]\n" + "".join(f'{key} = "{value}"\n' for key, value in pair.items()) for role, pair in credentials.items()))
        file.chmod(mode)
        setting("S3__CREDENTIALS_FILE", str(file))(guest)
        setting("S3__ENDPOINT", access(installation, "reader", secrets).endpoint)(guest)

    return broken


def both(*steps: Callable[[House], object]) -> Callable[[House], None]:
    """One after the other."""

    def broken(guest: House) -> None:
        for step in steps:
            step(guest)

    return broken


def closed_port(guest: House) -> None:
    """An endpoint where nobody listens."""
    setting("S3__ENDPOINT", f"http://127.0.0.1:{quiet_port()}")(guest)


def no_s3_port(guest: House) -> None:
    """An endpoint where something else answers."""
    setting("S3__ENDPOINT", f"http://127.0.0.1:{guest.sftp_port}")(guest)


def fake(script: str) -> Callable[[House], None]:
    """A restic that is none, first on PATH."""
    return lambda guest: fake_restic(guest, script)


BACKUP = ("backup", "run")
BEFORE_THE_FIRST_BACKUP = [
    Case("restic missing", setting("BACKUP__RESTIC", "/nowhere/restic"), BACKUP, 5, ("'/nowhere/restic' is missing", "install restic 0.14")),
    Case("restic not on PATH", lambda g: g.environment.update(PATH="/nowhere"), BACKUP, 5, ("'restic' is missing", "apt install restic")),
    Case(
        "restic too old", fake("echo restic 0.13.1 compiled with go1.18.1 on linux/amd64"), BACKUP, 2, ("restic 0.13.1 is too old", "install a newer")
    ),
    Case("restic far too old", fake("echo restic 0.9.6 compiled with go1.13.4 on linux/amd64"), BACKUP, 2, ("restic 0.9.6 is too old", "newer")),
    Case("no restic at all", fake("echo hello"), BACKUP, 2, ("does not look like restic", "backup.restic")),
    Case("restic that does not run", fake("exit 3"), BACKUP, 5, ("ends with code 3", "backup.restic")),
    Case("S3 unreachable", both(external(), closed_port), BACKUP, 5, ("cannot be reached", "s3.endpoint")),
    Case("S3 unreachable, drill", both(external(), closed_port), ("drill", "run"), 5, ("cannot be reached", "run it again")),
    Case("S3 of no such name", both(external(), setting("S3__ENDPOINT", "http://s3.invalid")), BACKUP, 5, ("cannot be reached", "s3.endpoint")),
    Case("no S3 at that port", both(external(), no_s3_port), BACKUP, 5, ("127.0.0.1", "s3")),
    Case("bucket missing", both(external(), setting("S3__BUCKET", "elsewhere")), BACKUP, 2, ("'elsewhere'", "bucket")),
    Case("access key unknown", external(lambda c: c["writer"].update(access_key="NOBODY")), BACKUP, 2, ("refuses the credentials", "access_key")),
    Case("secret key wrong", external(lambda c: c["writer"].update(secret_key="wrong")), BACKUP, 2, ("refuses the credentials", "secret_key")),
    Case("credentials without secret", external(lambda c: c["writer"].pop("secret_key")), BACKUP, 2, ("lacks access_key or secret_key", "texts")),
    Case("credentials without writer", external(lambda c: c.pop("writer")), BACKUP, 2, ("no table [writer]", "[reader]")),
    Case("credentials open to others", external(mode=0o644), BACKUP, 2, ("can be read by other users", "chmod 600")),
    Case(
        "credentials missing",
        both(external(), setting("S3__CREDENTIALS_FILE", "/nowhere")),
        BACKUP,
        2,
        ("/nowhere cannot be read", "credentials_file"),
    ),
    Case("credentials not named", setting("S3__ENDPOINT", "http://127.0.0.1:1"), BACKUP, 2, ("s3.credentials_file is not", "mode 0600")),
    Case("drill without a backup", nothing, ("drill", "run"), 1, ("there is no backup yet", "nightsafe backup run")),
    Case("restore without a backup", nothing, ("restore", CLIENT, "--to", "{home}/back"), 2, ("there is no backup yet", "nightsafe backup run")),
]


# One of each kind runs by default, the others with --full.
USUAL = {
    "restic missing", "restic too old", "S3 unreachable", "bucket missing", "secret key wrong", "credentials open to others",
    "drill without a backup", "restore without a backup", "repository gone", "S3 unreachable, drill", "get of an unknown path",
    "get over a file", "restore into a full folder", "restore into DATA", "restore of no such time", "restore of no path",
    "wrong password, backup", "wrong password, restore",
}  # fmt: skip


def refused(guest: House, case: Case) -> None:
    case.broken(guest)
    before = repositories_of(guest)
    done = guest.run(*(word.replace("{home}", str(guest.home)).replace("{data}", str(guest.data)) for word in case.arguments))
    assert_complains(done, case.code, *(word.replace("{home}", str(guest.home)) for word in case.words), lines=case.lines)
    after = repositories_of(guest)
    if case.arguments is BACKUP and "keys/config" in before:  # the keys are saved beside the papers: whole, or broken off with them
        after = [path for path in after if path in before or not path.startswith("keys/")]
    assert after == before
    assert not (guest.home / "back").exists()


def repositories_of(guest: House) -> list[str]:
    """What is in the bucket, whatever the guest's settings say."""
    sound = House(guest.home, guest.data)
    sound.environment = {name: value for name, value in guest.environment.items() if not name.startswith("NIGHTSAFE_SET_S3__")}
    return repositories(sound)


@pytest.mark.parametrize("case", parameters(BEFORE_THE_FIRST_BACKUP, USUAL))
def test_refused_and_no_repository_is_made(guest: House, case: Case) -> None:
    assert repositories_of(guest) == []
    refused(guest, case)


def test_the_usual_cases_are_cases() -> None:
    assert {case.name for case in (*BEFORE_THE_FIRST_BACKUP, *AFTER_A_BACKUP)} >= USUAL


def test_up_is_running_already(guest: House) -> None:
    assert_complains(guest.run("up", "--ready-file", str(guest.ready_file)), 4, "'up' already runs", "stop it first")
    assert_complains(guest.run("ingest"), 4, "'ingest' already runs", "stop it first")


@pytest.mark.parametrize(("login", "key"), [(CLIENT, "stranger"), ("nobody", "id_ed25519"), ("root", "stranger")])
def test_wrong_key_and_unknown_login_are_told_apart_from_nothing(house: House, tmp_path: Path, login: str, key: str) -> None:
    """Whoever does not know a name learns nothing from the answer: it is the same."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "stranger")], check=True)
    options = [word if word != str(house.key) or key == "id_ed25519" else str(tmp_path / "stranger") for word in house.ssh_options()]
    command = ["sftp", "-b", "-", *options, "-P", str(house.sftp_port), f"{login}@127.0.0.1"]
    done = subprocess.run(command, input=b"ls\n", capture_output=True, check=False)
    assert done.returncode == 255
    assert f"{login}@127.0.0.1: Permission denied (publickey)." in done.stderr.decode()


@pytest.fixture(scope="module")
def saved(house: House) -> House:
    """The running house, with its first backup."""
    house.prepare()
    house.json("backup", "run")
    return house


def wrong_password(guest: House) -> None:
    """The sealed password of the repository is another one."""
    keyring = Keyring(DataFolder(guest.data))
    sealed = guest.data / "keys" / "secrets" / f"{RESTIC_PAPERS}.age"
    shutil.copy2(sealed, guest.home / "sealed")
    sealed.unlink()
    keyring.seal_secret(RESTIC_PAPERS, b"not the password")


def right_password(guest: House) -> None:
    """Put the sealed password back."""
    shutil.copy2(guest.home / "sealed", guest.data / "keys" / "secrets" / f"{RESTIC_PAPERS}.age")


def something_there(guest: House) -> None:
    """`here` is a folder that holds something, `out` a file."""
    (guest.home / "here").mkdir()
    (guest.home / "here" / "mine").write_text("mine")
    (guest.home / "out").write_text("mine")


ELSEWHERE = setting("S3__PREFIX", "elsewhere")
GET, RESTORE, PAPER = ("files", "get", CLIENT), ("restore", CLIENT), "/inbox/paper.txt"
AFTER_A_BACKUP = [
    Case("repository gone", ELSEWHERE, BACKUP, 1, ("does not hold the repository 'papers' any more", "No new one is made")),
    Case("repository gone, restore", ELSEWHERE, (*RESTORE, "--to", "{home}/back"), 1, ("no repository", "nothing was created")),
    Case("repository gone, drill", ELSEWHERE, ("drill", "run"), 1, ("repository", "nightsafe drill show")),
    Case("S3 unreachable", both(external(), closed_port), BACKUP, 5, ("cannot be reached", "s3.endpoint")),
    Case("S3 unreachable, snapshots", both(external(), closed_port), ("backup", "snapshots"), 5, ("cannot be reached", "s3.endpoint")),
    Case("S3 unreachable, drill", both(external(), closed_port), ("drill", "run"), 5, ("cannot be reached", "run it again")),
    Case("S3 unreachable, restore", both(external(), closed_port), (*RESTORE, "--to", "{home}/back"), 5, ("cannot be reached", "s3.endpoint")),
    Case(
        "secret key wrong, drill",
        external(lambda c: c["reader"].update(secret_key="wrong")),
        ("drill", "run"),
        5,
        ("refuses the credentials", "run it"),
    ),
    Case("get of an unknown client", nothing, ("files", "get", "nobody", PAPER), 2, ("no client 'nobody'", "nightsafe client list")),
    Case("get of an unknown path", nothing, (*GET, "/inbox/none"), 2, ("no paper /inbox/none", "nightsafe files list acme")),
    Case("get of an unknown version", nothing, (*GET, PAPER, "--version", "9"), 2, ("no paper version 9", "nightsafe files versions acme")),
    Case("get of no path", nothing, (*GET, "/inbox/../.."), 2, ("/",)),
    Case("get over a file", something_there, (*GET, PAPER, "--out", "{home}/out"), 2, ("out exists already", "another name")),
    Case("get into no folder", nothing, (*GET, PAPER, "--out", "{home}/none/out"), 2, ("none", "make it")),
    Case("versions of an unknown path", nothing, ("files", "versions", CLIENT, "/inbox/none"), 2, ("never had", "nightsafe files list acme")),
    Case("restore of an unknown client", nothing, ("restore", "nobody", "--to", "{home}/back"), 2, ("no client 'nobody'", "nightsafe client list")),
    Case("restore into a full folder", something_there, (*RESTORE, "--to", "{home}/here"), 2, ("here is not empty", "never writes over")),
    Case("restore into DATA", nothing, (*RESTORE, "--to", "{data}/back"), 2, ("lies in the data folder", "elsewhere")),
    Case("restore onto a file", something_there, (*RESTORE, "--to", "{home}/out/x"), 2, ("cannot be used", "new or an empty folder")),
    Case(
        "restore of no such time",
        nothing,
        (*RESTORE, "--at", "2001-01-01", "--to", "{home}/back"),
        2,
        ("no snapshot of that time", "the oldest is of"),
    ),
    Case("restore of no time", nothing, (*RESTORE, "--at", "yesterday", "--to", "{home}/back"), 2, ("'yesterday' is not a time", "2026-01-31")),
    Case("restore of no path", nothing, (*RESTORE, "/etc/passwd", "--to", "{home}/back"), 2, ("is no path of a paper", "/inbox")),
    Case("an unknown drill", nothing, ("drill", "show", "999"), 2, ("999", "nightsafe drill list")),
    Case("wrong password, backup", wrong_password, BACKUP, 2, ("does not open with this installation's password", "keys/secrets")),
    Case("wrong password, snapshots", wrong_password, ("backup", "snapshots"), 2, ("does not open with this", "keys/secrets")),
    Case("wrong password, drill", wrong_password, ("drill", "run"), 1, ("does not open with this installation's password", "nightsafe drill show")),
    Case("wrong password, restore", wrong_password, (*RESTORE, "--to", "{home}/back"), 2, ("does not open with this", "keys/secrets")),
]


@pytest.mark.parametrize("case", parameters(AFTER_A_BACKUP, USUAL - {"S3 unreachable"}))
def test_refused_and_the_backup_is_as_it_was(saved: House, guest: House, case: Case) -> None:
    try:
        refused(guest, case)
    finally:
        if case.broken is wrong_password:
            right_password(guest)
    names = {path.name: path.read_text() for path in guest.home.iterdir() if path.name in ("out", "here") and path.is_file()}
    assert set(names.values()) <= {"mine"}
    assert sorted(path.name for path in (guest.home / "here").rglob("*")) == ["mine"] if case.broken is something_there else True


def test_a_restore_of_an_unknown_path_says_which(saved: House, guest: House) -> None:
    done = guest.run("restore", CLIENT, "/inbox/none", "--to", str(guest.home / "back"))
    assert done.returncode == 3, done.stderr.decode()
    assert "not restored: /inbox/none: there was no such name at that time" in done.stdout.decode()
    assert "Traceback" not in done.stderr.decode()


def test_the_second_of_two_backups_at_once_is_refused(saved: House, guest: House) -> None:
    go = guest.home / "go"
    fake_restic(guest, f'while [ ! -e {go} ]; do sleep 0.05; done; exec {shutil.which("restic")} "$@"')
    command = [sys.executable, "-m", "nightsafe", "backup", "run", "--data", str(guest.data)]
    with subprocess.Popen(command, env=guest.environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as first:
        while not processes_named(str(guest.home / "bin" / "restic")):
            assert first.poll() is None
        try:
            assert_complains(saved.run("backup", "run"), 4, "a backup runs already", "nightsafe backup status")
        finally:
            go.touch()
        assert first.wait(240) == 0, first.stderr.read() if first.stderr else ""
    assert saved.json("backup", "status", code=1)["runs"][0]["state"] == "passed"


def test_after_all_of_it_the_house_is_sound(saved: House) -> None:
    assert saved.json("backup", "run")["state"] == "passed"
    assert saved.json("drill", "run", "--full")["state"] == "passed"
    assert saved.run("files", "get", CLIENT, PAPER).stdout == b"a paper"
    assert saved.json("audit", "verify")["problems"] == []
    assert not any((saved.home / "scratch").iterdir())
