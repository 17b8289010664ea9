"""What a login has to show and may then do, and what happens to live sessions when a right goes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paramiko
import pytest
from click.testing import CliRunner

from gateway.jail import Tree, path_of
from gateway.keys.keyring import Keyring
from nightsafe import cli
from tests.integration.logins.desk import PASSWORD, Desk, add, code, until
from tests.integration.sftp_rig import CLIENT, Server


def test_a_login_that_could_never_work_is_refused_at_once(desk: Desk) -> None:
    assert "--totp" in str(desk("person", "add", "zoe", "--auditor", code=2))
    assert "--password-stdin" in str(desk("person", "add", "zoe", "--client", CLIENT, "--require", "password", code=2))
    for options in ((), ("--client", CLIENT, "--auditor"), ("--staff", "nobody-known"), ("--client", CLIENT, "--from", "example.org")):
        desk("person", "add", "zoe", *options, code=2)
    assert "zoe" not in {one["name"] for one in desk("person", "list")}


@pytest.mark.parametrize("change", ["suspend", "incident", "off-board", "remove key", "from", "require", "certificate", "end"])
def test_live_sessions_end_with_the_right_to_them(desk: Desk, new_key: Callable[..., Path], tmp_path: Path, change: str) -> None:
    name = change.replace(" ", "-") + "-live"
    key = new_key("live")
    add(desk, name, *(() if change == "certificate" else ("--public-key", f"{key}.pub")))
    private = paramiko.Ed25519Key.from_private_key_file(str(key))
    if change == "certificate":
        desk("ca", "sign", name, "--public-key", f"{key}.pub", "--out", str(tmp_path / "c.pub"))
        private.load_certificate(str(tmp_path / "c.pub"))
    opened, bystander = desk.connect(), desk.connect()
    opened.auth_publickey(name, private)
    bystander.auth_publickey(CLIENT, paramiko.Ed25519Key.from_private_key_file(str(desk.key)))
    sftp = paramiko.SFTPClient.from_transport(opened)
    assert sftp is not None
    sftp.listdir("/")
    match change:
        case "suspend" | "off-board":
            desk("person", change, name)
        case "incident":
            assert desk("incident", "open", "--person", name, "--reason", "laptop stolen")["sessions"] == 1
        case "remove key":
            desk("person", "edit", name, "--remove-key", desk("person", "show", name)["keys"][0]["fingerprint"])
        case "from":
            desk("person", "edit", name, "--from", "203.0.113.0/24")
        case "require":
            desk("person", "edit", name, "--totp")
        case "certificate":
            desk("ca", "revoke", "--public-key", f"{key}.pub")
        case "end":
            desk("person", "edit", name, "--expires", (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat())
    until(lambda: not opened.is_active())
    assert bystander.is_active()
    bystander.close()
    until(lambda: bool(desk.events("access.revoked", person=name)))
    if change == "suspend":
        desk("person", "resume", name)
        assert desk.sftp(name, key=key)[0] == 0
    elif change != "from":
        assert desk.sftp(name, key=key)[0] == 255


def test_off_boarding_tells_what_was_touched(desk: Desk, new_key: Callable[..., Path]) -> None:
    key = new_key("leaver")
    add(desk, "leaver", "--public-key", f"{key}.pub")
    opened = desk.connect()
    opened.auth_publickey("leaver", paramiko.Ed25519Key.from_private_key_file(str(key)))
    sftp = paramiko.SFTPClient.from_transport(opened)
    assert sftp is not None
    with sftp.open("/inbox/theirs.txt", "w") as file:
        file.write(b"x")
    opened.close()
    told = desk("person", "off-board", "leaver")
    assert told["person"]["client"] == CLIENT
    assert told["sessions"] == 1
    assert told["addresses"] == ["127.0.0.1"]
    assert [line.split()[1:] for line in told["papers_put"]] == [["paper.deposited", f"{CLIENT}:/inbox/theirs.txt"]]
    assert desk("person", "off-board", "leaver")["sessions"] == 1
    assert "off-boarded" in str(desk("person", "resume", "leaver", code=2))


@pytest.fixture(scope="module")
def two_clients(desk: Desk) -> None:
    for name in ("beta", "gamma"):
        desk("client", "add", name)
    folder = desk.server.folder
    for name in ("beta", "gamma"):
        with Tree(folder.jail(name)) as tree:
            tree.write_plain(path_of("/receipts/2026/r.json"), name.encode())
    (folder.evidence / "2026").mkdir(parents=True)
    (folder.evidence / "2026" / "7.json").write_bytes(b"{}")
    (folder.evidence / "way-out").symlink_to("/etc")


def session_of(desk: Desk, name: str, key: Path, seed: str | None = None) -> paramiko.SFTPClient:
    opened = desk.connect()
    left = opened.auth_publickey(name, paramiko.Ed25519Key.from_private_key_file(str(key)))
    if left:
        opened.auth_interactive(name, lambda *_: [code(seed or "")])
    found = paramiko.SFTPClient.from_transport(opened)
    assert found is not None
    return found


@contextlib.contextmanager
def ingesting(server: Server) -> Iterator[None]:
    """The role ingest, for a while."""
    log = (server.home / "ingest.log").open("ab")
    role = subprocess.Popen([sys.executable, "-m", "nightsafe", "ingest", "--data", str(server.folder.root)], stdout=log, stderr=log)
    try:
        yield
    finally:
        role.terminate()
        role.wait(240)
        log.close()


def wait_until(condition: Callable[[], object], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def refused(call: Callable[[], object]) -> type[Exception]:
    with pytest.raises(OSError) as caught:
        call()
    return caught.type if caught.value.errno is None else type(caught.value)


def test_the_staff_see_their_clients_and_nobody_else(desk: Desk, new_key: Callable[..., Path], two_clients: None) -> None:
    key = new_key("sue")
    desk("person", "add", "sue", "--staff", f"{CLIENT},beta", "--public-key", f"{key}.pub")
    client = session_of(desk, CLIENT, desk.key)
    with client.open("/inbox/from-client.txt", "w") as file:
        file.write(b"dear firm")
    staff = session_of(desk, "sue", key)
    assert sorted(staff.listdir("/")) == sorted([CLIENT, "beta"])
    assert "from-client.txt" in staff.listdir(f"/{CLIENT}/inbox")
    assert staff.stat(f"/{CLIENT}/inbox/from-client.txt").st_size == 9
    assert refused(lambda: staff.open(f"/{CLIENT}/inbox/from-client.txt")) is PermissionError, "nobody has looked at it yet"
    wait_until(lambda: os.listdir(desk.server.folder.spool_landed))
    assert refused(lambda: staff.open(f"/{CLIENT}/inbox/from-client.txt")) is PermissionError, "nor when it waits for ingest"
    with ingesting(desk.server):
        wait_until(lambda: not os.listdir(desk.server.folder.spool_landed))
    with staff.open(f"/{CLIENT}/inbox/from-client.txt") as file:
        assert file.read() == b"dear firm"
    with staff.open("/beta/outbox/answer.txt", "w") as file:
        file.write(b"dear client")
    staff.posix_rename("/beta/outbox/answer.txt", "/beta/outbox/reply.txt")
    assert staff.listdir("/beta/outbox") == ["reply.txt"]
    assert staff.normalize(f"{CLIENT}/../beta/outbox") == "/beta/outbox"
    denied = [
        lambda: staff.open(f"/{CLIENT}/inbox/mine.txt", "w"),
        lambda: staff.remove(f"/{CLIENT}/inbox/from-client.txt"),
        lambda: staff.posix_rename("/beta/outbox/reply.txt", f"/{CLIENT}/outbox/reply.txt"),
        lambda: staff.rmdir("/beta"),
    ]
    for name in ("/gamma", "/nobody-at-all"):
        assert refused(lambda: staff.mkdir(name)) is FileNotFoundError  # noqa: B023 - called at once
    for call in denied:
        assert refused(call) is PermissionError
    answers = set()
    for path in ("/gamma", "/nobody-at-all", "/gamma/inbox", "/nobody-at-all/inbox"):
        with pytest.raises(OSError) as caught:
            staff.stat(path)
        answers.add(str(caught.value))
    assert len(answers) == 1
    (opened,) = desk.events("session.opened", person="sue")
    (put,) = desk.events("paper.deposited", person="sue")
    assert (put["client"], put["person_role"], put["session"]) == ("beta", "staff", opened["session"])
    desk("person", "edit", "sue", "--staff", "beta")
    until(lambda: not staff.get_channel().get_transport().is_active())
    again = session_of(desk, "sue", key)
    assert again.listdir("/") == ["beta"]
    desk("client", "suspend", "beta")
    until(lambda: not again.get_channel().get_transport().is_active())
    desk("client", "resume", "beta")


def test_an_auditor_reads_receipts_and_evidence_alone(desk: Desk, new_key: Callable[..., Path], two_clients: None) -> None:
    key = new_key("ada")
    seed = desk("person", "add", "ada", "--auditor", "--public-key", f"{key}.pub", "--totp")["totp"]["seed"]
    auditor = session_of(desk, "ada", key, seed)
    assert sorted(auditor.listdir("/")) == ["clients", "evidence"]
    assert {"beta", "gamma", CLIENT} <= set(auditor.listdir("/clients"))
    assert auditor.listdir("/clients/gamma") == ["receipts"]
    for path, content in (("/clients/gamma/receipts/2026/r.json", b"gamma"), ("/evidence/2026/7.json", b"{}")):
        assert auditor.stat(path).st_size == len(content)
        with auditor.open(path) as file:
            assert file.read() == content
    assert set(auditor.listdir("/evidence")) - {"incidents"} == {"2026"}  # a link planted there is no entry
    for call in (
        lambda: auditor.open("/evidence/2026/7.json", "w"),
        lambda: auditor.open("/clients/gamma/receipts/2026/r.json", "w"),
        lambda: auditor.listdir(f"/clients/{CLIENT}/inbox"),
        lambda: auditor.open(f"/clients/{CLIENT}/inbox/from-client.txt"),
        lambda: auditor.remove("/evidence/2026/7.json"),
        lambda: auditor.posix_rename("/evidence/2026/7.json", "/evidence/2026/8.json"),
    ):
        assert refused(call) is PermissionError
    for path in ("/evidence/way-out", "/evidence/way-out/passwd", "/clients/nobody", "/elsewhere"):
        with pytest.raises(OSError):
            auditor.stat(path)
    reads = {event["path"] for event in desk.events("paper.read", person="ada")}
    assert "/evidence/2026/7.json" in reads


def test_the_welcome_sheet_can_be_sent_as_it_is(desk: Desk, new_key: Callable[..., Path]) -> None:
    key, root = new_key("sheet"), str(desk.server.folder.root)
    shown = subprocess.run(["ssh-keygen", "-lf", str(desk.server.folder.host_key)], check=True, capture_output=True, text=True).stdout.split()[1]
    sheets = {}
    for language, last in (("en", "Check a receipt"), ("zh", "验证回执")):
        arguments = ["person", "add", f"sheet-{language}", "--client", CLIENT, "--public-key", f"{key}.pub", "--language", language, "--data", root]
        sheets[language] = CliRunner().invoke(cli, arguments).stdout
        for part in (
            shown,
            f"sftp -P {desk.server.port} sheet-{language}@",
            "/inbox",
            "/outbox",
            "/receipts",
            "WinSCP",
            last,
            "ssh-keygen -Y verify",
        ):
            assert part in sheets[language]
        assert (Keyring(desk.server.folder).allowed_signers.read_text().splitlines()[0]) in sheets[language]
        again = CliRunner().invoke(cli, ["person", "sheet", f"sheet-{language}", "--language", language, "--data", root])
        assert again.stdout == sheets[language].partition("What to send:\n\n")[2]
        assert f"nightsafe person sheet sheet-{language}" in again.stderr  # the server's name is not set
    assert "set public_host" in sheets["en"].partition("What to send:")[0]
    assert sheets["zh"].isascii() is False
    assert sheets["en"].isascii()
    arguments = ["person", "add", "sheet-pw", "--client", CLIENT, "--password-stdin", "--data", root]
    assert "you show: your password\n" in CliRunner().invoke(cli, arguments, input=f"{PASSWORD}\n").stdout
    shown_once = (
        CliRunner().invoke(cli, ["person", "add", "sheet-2fa", "--client", CLIENT, "--public-key", f"{key}.pub", "--totp", "--data", root]).stdout
    )
    seed = next(line.split()[1] for line in shown_once.splitlines() if line.startswith("  seed"))
    assert seed not in shown_once.partition("What to send:")[2]
    assert "your key + the code of your app" in shown_once
