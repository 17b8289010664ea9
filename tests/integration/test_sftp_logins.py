"""Logging in for real: every factor, every combination, certificates, and what happens to live sessions when a right goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paramiko
import pyotp
import pytest
from click.testing import CliRunner

from gateway.catalog import Catalog
from gateway.jail import Tree, path_of
from gateway.keys.keyring import Keyring
from gateway.keys.passwords import hash_password
from nightsafe import cli
from tests.integration.sftp_rig import CLIENT, Server, running_server
from tests.integration.soft_token import TOUCHED, VERIFIED, Kind, SoftToken, TokenPair, gets_in

SETTINGS = (
    'settle_seconds = 0\nmax_auth_attempts = 6\nrequire_auditor = ["publickey+totp"]\nnotice = "Authorised use only."\nnotice_version = "2026-11"\n'
)
PASSWORD = "correct horse battery"
HASH = hash_password(PASSWORD)


class Desk:
    """A running gateway with keyd, and the commands of those who run it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.key = server.key

    def __call__(self, *arguments: str, code: int = 0, text: str | None = None) -> Any:
        done = CliRunner().invoke(cli, [*arguments, "--data", str(self.server.folder.root), "--json"], input=text)
        assert done.exit_code == code or (code and done.exception is not None), done.output
        return json.loads(done.stdout) if done.exit_code == 0 else done.exception

    def sftp(self, name: str, *options: str, key: Path | None = None) -> tuple[int, str]:
        command = ["sftp", *self.server.options(key), *options, "-P", str(self.server.port), "-b", "-", f"{name}@127.0.0.1"]
        done = subprocess.run(command, input=b"ls /\n", capture_output=True, timeout=60, check=False)
        return done.returncode, done.stdout.decode() + done.stderr.decode()

    def connect(self) -> paramiko.Transport:
        opened = paramiko.Transport(("127.0.0.1", self.server.port))
        opened.start_client()
        return opened

    def events(self, name: str, **wanted: object) -> list[dict[str, Any]]:
        return [event for event in self.server.events(name) if all(event.get(field) == value for field, value in wanted.items())]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with running_server(tmp_path_factory.mktemp("logins"), SETTINGS) as running:
        yield Desk(running)


@pytest.fixture
def new_key(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, *options: str) -> Path:
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", str(tmp_path / name), *(options or ("-t", "ed25519"))], check=True)
        return tmp_path / name

    return make


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def code(seed: str) -> str:
    return pyotp.TOTP(seed).now()


def fresh_code(seed: str, used: str) -> str:
    """A code that was not used: the next one is taken a little early."""
    found = pyotp.TOTP(seed).at(time.time() + 25)
    return found if found != used else pyotp.TOTP(seed).at(time.time() + 30)


def add(desk: Desk, name: str, *options: str, text: str | None = None) -> Any:
    return desk("person", "add", name, "--client", CLIENT, *options, text=text)


@pytest.mark.parametrize(("kind", "options"), [("ecdsa", ("-t", "ecdsa", "-b", "384")), ("rsa", ("-t", "rsa", "-b", "3072"))])
def test_kinds_of_keys(desk: Desk, new_key: Callable[..., Path], kind: str, options: tuple[str, ...]) -> None:
    key = new_key(kind, *options)
    add(desk, kind, "--public-key", f"{key}.pub")
    assert desk.sftp(kind, key=key) == (0, "sftp> ls /\n/inbox     /outbox    /receipts  \n")
    (event,) = desk.events("login.accepted", person=kind)
    assert (event["factors"], event["person_role"], event["notice"]) == (["publickey"], "client", "2026-11")
    assert event["fingerprint"] == desk("person", "show", kind)["keys"][0]["fingerprint"]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_security_keys(desk: Desk, tmp_path: Path, kind: Kind) -> None:
    """By a token in software, which does what no honest one would: sign untouched, for another application, with a key that is another's."""
    token, name, file = SoftToken(kind), f"tok-{kind}", tmp_path / "token.pub"
    for option, code_wanted in (("no-touch-required ", 2), ("verify-required ", 2), ("", 0)):  # neither is heeded, so neither is taken
        file.write_text(option + token.line)
        told = desk("person", "add", name, "--client", CLIENT, "--public-key", str(file), code=code_wanted)
        assert "not heeded" in str(told) or not code_wanted

    async def work() -> dict[str, bool]:
        port = desk.server.port
        other = SoftToken(kind)
        other.public_data = token.public_data
        pairs = {
            "touched": TokenPair(token, TOUCHED),
            "verified": TokenPair(token, TOUCHED | VERIFIED),
            "untouched": TokenPair(token, 0),
            "verified, untouched": TokenPair(token, VERIFIED),
            "of a web page": TokenPair(token, TOUCHED, b"https://example.org"),
            "of another token": TokenPair(other, TOUCHED),
        }
        return {what: await gets_in(port, name, pair) for what, pair in pairs.items()}

    answers = asyncio.run(work())
    assert answers == dict.fromkeys(answers, False) | {"touched": True, "verified": True}
    subprocess.run(["ssh-keygen", "-lf", str(file)], check=True, capture_output=True)  # it is a key to OpenSSH, too
    assert desk.events("login.accepted", person=name)[0]["fingerprint"] == desk("person", "show", name)["keys"][0]["fingerprint"]


def test_a_certificate_says_whether_a_security_key_is_touched(desk: Desk, new_key: Callable[..., Path], tmp_path: Path) -> None:
    """One that asks for a PIN is refused: that is not checked here, so nobody may rely on it."""
    token, signer, file = SoftToken("ed25519"), ca_key(desk, tmp_path), tmp_path / "token.pub"
    file.write_text(token.line)
    add(desk, "tova")
    answers = {}
    for name, option in (("plain", ""), ("no-touch", "no-touch-required"), ("verify", "verify-required")):
        options = ["-O", option] if option else []
        subprocess.run(["ssh-keygen", "-q", "-s", str(signer), "-I", name, "-n", "tova", *options, str(file)], check=True)
        for flags in (TOUCHED | VERIFIED, 0):
            pair = TokenPair(token, flags, certificate=(tmp_path / "token-cert.pub").read_text())
            answers[name, flags] = asyncio.run(gets_in(desk.server.port, "tova", pair))
    both = TOUCHED | VERIFIED
    assert answers == {
        ("plain", both): True,
        ("plain", 0): False,
        ("no-touch", both): True,
        ("no-touch", 0): True,
        ("verify", both): False,
        ("verify", 0): False,
    }


def ca_key(desk: Desk, folder: Path) -> Path:
    """The secret half of our CA, for ssh-keygen."""
    from gateway.keys.keyring import USER_CA
    from gateway.keys.master import load_master

    desk("ca", "show")
    file = folder / "ours"
    file.write_bytes(Keyring(desk.server.folder).open_secret(USER_CA, load_master(desk.server.installation, {})))
    file.chmod(0o600)
    return file


def test_a_small_rsa_key_and_a_sha1_signature_are_refused(desk: Desk, new_key: Callable[..., Path]) -> None:
    small = new_key("small", "-t", "rsa", "-b", "2048")
    assert "2048 bits" in str(desk("person", "add", "small", "--client", CLIENT, "--public-key", f"{small}.pub", code=2))
    with Catalog.open(desk.server.folder.catalog) as catalog:  # as an older version, or somebody's own hands, might have left it
        from gateway.catalog import PublicKey

        catalog.add_person("small", client=CLIENT, keys=[PublicKey(" ".join(Path(f"{small}.pub").read_text().split()[:2]), "SHA256:s")])
    assert desk.sftp("small", key=small)[0] != 0
    large = new_key("large", "-t", "rsa", "-b", "3072")
    add(desk, "large", "--public-key", f"{large}.pub")
    opened = paramiko.Transport(("127.0.0.1", desk.server.port), disabled_algorithms={"pubkeys": ["rsa-sha2-512", "rsa-sha2-256"]})
    opened.start_client()
    try:
        with pytest.raises(paramiko.SSHException):
            opened.auth_publickey("large", paramiko.RSAKey.from_private_key_file(str(large)))
    finally:
        opened.close()
    assert desk.sftp("large", key=large)[0] == 0


def test_addresses_and_ends_of_people_and_keys(desk: Desk, new_key: Callable[..., Path], tmp_path: Path) -> None:
    key = new_key("bound")
    line = Path(f"{key}.pub").read_text()
    (tmp_path / "elsewhere.pub").write_text(f'from="203.0.113.0/24" {line}')
    (tmp_path / "past.pub").write_text(f'expiry-time="20200101" {line}')
    (tmp_path / "here.pub").write_text(f'from="127.0.0.0/8",expiry-time="20990101" {line}')
    add(desk, "k1", "--public-key", str(tmp_path / "elsewhere.pub"))
    add(desk, "k2", "--public-key", str(tmp_path / "past.pub"))
    add(desk, "k3", "--public-key", str(tmp_path / "here.pub"))
    add(desk, "k4", "--public-key", f"{key}.pub", "--from", "203.0.113.0/24,2001:db8::/32")
    add(desk, "k5", "--public-key", f"{key}.pub", "--from", "127.0.0.1", "--expires", "2020-01-01")
    assert [desk.sftp(name, key=key)[0] for name in ("k1", "k2", "k3", "k4", "k5")] == [255, 255, 0, 255, 255]


def test_a_password(desk: Desk) -> None:
    add(desk, "pat", "--password-stdin", text=f"{PASSWORD}\n")
    until(lambda: _offered(desk) == {"publickey", "password"})
    for name, password in (("pat", "wrong horse battery"), ("nobody", PASSWORD), (CLIENT, PASSWORD)):
        opened = desk.connect()
        with pytest.raises(paramiko.AuthenticationException):
            opened.auth_password(name, password, fallback=False)
        opened.close()
    opened = desk.connect()
    assert opened.auth_password("pat", PASSWORD, fallback=False) == []
    opened.close()
    assert "12 to 256" in str(desk("person", "add", "tiny", "--client", CLIENT, "--password-stdin", text="short\n", code=2))


def _offered(desk: Desk) -> set[str]:
    opened = desk.connect()
    try:
        opened.auth_none("nobody")
    except paramiko.BadAuthenticationType as error:
        return set(error.allowed_types)
    finally:
        opened.close()
    return set()


def test_two_factors_in_order(desk: Desk, new_key: Callable[..., Path]) -> None:
    key = new_key("two")
    seed = add(desk, "two", "--public-key", f"{key}.pub", "--totp")["totp"]["seed"]
    private = paramiko.Ed25519Key.from_private_key_file(str(key))
    opened = desk.connect()
    with pytest.raises(paramiko.BadAuthenticationType):  # a code never comes first
        opened.auth_interactive("two", lambda *_: [code(seed)])
    assert opened.auth_publickey("two", private) == ["keyboard-interactive"]
    with pytest.raises(paramiko.SSHException):
        opened.open_session(timeout=2)
    opened.close()
    opened = desk.connect()
    opened.auth_publickey("two", private)
    with pytest.raises(paramiko.AuthenticationException):
        opened.auth_interactive("two", lambda *_: ["000000" if code(seed) != "000000" else "111111"])
    used = code(seed)
    assert opened.auth_interactive("two", lambda *_: [used]) == []
    assert paramiko.SFTPClient.from_transport(opened) is not None
    opened.close()
    again = desk.connect()
    again.auth_publickey("two", private)
    with pytest.raises(paramiko.AuthenticationException):  # a code that was seen is worth nothing
        again.auth_interactive("two", lambda *_: [used])
    assert again.auth_interactive("two", lambda *_: [fresh_code(seed, used)]) == []
    again.close()
    (first, _) = desk.events("login.accepted", person="two")
    assert first["factors"] == ["publickey", "totp"]


def test_a_stolen_key_does_not_try_codes_without_end(desk: Desk, new_key: Callable[..., Path]) -> None:
    key = new_key("stolen")
    seed = add(desk, "tess", "--public-key", f"{key}.pub", "--totp")["totp"]["seed"]
    opened = desk.connect()
    assert opened.auth_publickey("tess", paramiko.Ed25519Key.from_private_key_file(str(key))) == ["keyboard-interactive"]
    wrong, tried = next(f"{n:06d}" for n in range(9) if f"{n:06d}" not in (code(seed), fresh_code(seed, ""))), 0
    with pytest.raises((paramiko.SSHException, EOFError)):
        while opened.is_active() and tried < 20:
            with contextlib.suppress(paramiko.AuthenticationException):
                tried += 1
                opened.auth_interactive("tess", lambda *_: [wrong])
        raise EOFError
    opened.close()
    assert tried <= 6
    until(lambda: bool(desk.events("login.failed", person="tess")))
    assert desk.events("login.failed", person="tess")[0]["reason"] == "not everything was shown"


def test_what_was_shown_for_one_name_is_void_for_another(desk: Desk, new_key: Callable[..., Path]) -> None:
    mine, yours = new_key("mine"), new_key("yours")
    seed = add(desk, "mine", "--public-key", f"{mine}.pub", "--totp")["totp"]["seed"]
    add(desk, "yours", "--public-key", f"{yours}.pub", "--totp")
    opened = desk.connect()
    opened.auth_publickey("mine", paramiko.Ed25519Key.from_private_key_file(str(mine)))
    with pytest.raises(paramiko.SSHException):
        opened.auth_interactive("yours", lambda *_: [code(seed)])
    opened.close()


def test_a_key_and_a_password(desk: Desk, new_key: Callable[..., Path]) -> None:
    key = new_key("both")
    with Catalog.open(desk.server.folder.catalog) as catalog:
        catalog.add_person("both", client=CLIENT, keys=[], password_hash=HASH, require=("publickey+password",))
    desk("person", "edit", "both", "--public-key", f"{key}.pub")
    private = paramiko.Ed25519Key.from_private_key_file(str(key))
    until(lambda: "password" in _offered(desk))
    for order in ("key first", "password first"):
        opened = desk.connect()
        if order == "key first":
            assert opened.auth_publickey("both", private) == ["password"]
            assert opened.auth_password("both", PASSWORD, fallback=False) == []
        else:
            assert opened.auth_password("both", PASSWORD, fallback=False) == ["publickey"]
            assert opened.auth_publickey("both", private) == []
        opened.close()


def test_a_login_that_could_never_work_is_refused_at_once(desk: Desk) -> None:
    assert "--totp" in str(desk("person", "add", "zoe", "--auditor", code=2))
    assert "--password-stdin" in str(desk("person", "add", "zoe", "--client", CLIENT, "--require", "password", code=2))
    for options in ((), ("--client", CLIENT, "--auditor"), ("--staff", "nobody-known"), ("--client", CLIENT, "--from", "example.org")):
        desk("person", "add", "zoe", *options, code=2)
    assert "zoe" not in {one["name"] for one in desk("person", "list")}


def test_certificates(desk: Desk, new_key: Callable[..., Path], tmp_path: Path) -> None:
    key, other = new_key("cert"), new_key("cert-ecdsa", "-t", "ecdsa")
    add(desk, "cora")
    add(desk, "carl")
    outs = {}
    for name, options in {
        "good": ("cora", "--public-key", f"{key}.pub"),
        "far": ("cora", "--public-key", f"{key}.pub", "--from", "203.0.113.0/24"),
        "near": ("cora", "--public-key", f"{other}.pub", "--from", "127.0.0.0/8", "--key-id", "laptop"),
    }.items():
        outs[name] = tmp_path / f"{name}-cert.pub"
        desk("ca", "sign", *options, "--out", str(outs[name]))
    shown = subprocess.run(["ssh-keygen", "-Lf", str(outs["far"])], check=True, capture_output=True, text=True).stdout
    for part in ("user certificate", "cora", "source-address 203.0.113.0/24", desk("ca", "show")["fingerprint"]):
        assert part in shown
    assert desk.sftp("cora", key=key)[0] == 255
    assert desk.sftp("cora", "-o", f"CertificateFile={outs['good']}", key=key)[0] == 0
    assert desk.sftp("carl", "-o", f"CertificateFile={outs['good']}", key=key)[0] == 255
    assert desk.sftp("cora", "-o", f"CertificateFile={outs['far']}", key=key)[0] == 255
    assert desk.sftp("cora", "-o", f"CertificateFile={outs['near']}", key=other)[0] == 0
    serial = desk.events("login.accepted", person="cora")[0]["certificate"]["serial"]
    desk("ca", "revoke", "--serial", str(serial))
    assert desk.sftp("cora", "-o", f"CertificateFile={outs['good']}", key=key)[0] == 255
    desk("ca", "revoke", "--key-id", "laptop")
    assert desk.sftp("cora", "-o", f"CertificateFile={outs['near']}", key=other)[0] == 255
    assert [one["revoked"] for one in desk("ca", "list", "--person", "cora")] == [True, False, True]


def test_strangers_certificates(desk: Desk, new_key: Callable[..., Path], tmp_path: Path) -> None:
    """Of another CA, without principals, out of time, with a command: all made by ssh-keygen, the last three by our CA's own key."""
    key, stranger, ours = new_key("held"), new_key("stranger"), ca_key(desk, tmp_path)
    add(desk, "olga")
    tries = {
        "stranger": (stranger, "-n", "olga"),
        "everybody": (ours,),
        "past": (ours, "-n", "olga", "-V", "20200101:20200102"),
        "command": (ours, "-n", "olga", "-O", "force-command=id"),
        "host": (ours, "-h", "-n", "olga"),
        "good": (ours, "-n", "olga,paul"),
    }
    answers = {}
    for name, (signer, *options) in tries.items():
        subprocess.run(["ssh-keygen", "-q", "-s", str(signer), "-I", name, *options, f"{key}.pub"], check=True)
        answers[name] = desk.sftp("olga", "-o", f"CertificateFile={key}-cert.pub", key=key)[0]
        Path(f"{key}-cert.pub").unlink()
    assert answers == dict.fromkeys(tries, 255) | {"good": 0}


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
    assert desk.events("access.revoked", person=name)
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
        role.wait(60)
        log.close()


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
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
