"""Keys, security keys and certificates at the door."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import paramiko
import pytest

from gateway.catalog import Catalog
from gateway.keys.keyring import Keyring
from tests.integration.logins.desk import Desk, add
from tests.integration.sftp_rig import CLIENT
from tests.integration.soft_token import TOUCHED, VERIFIED, Kind, SoftToken, TokenPair, gets_in


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
