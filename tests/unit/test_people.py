"""People: networks, combinations of factors, options of keys, and what the catalog keeps of them."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.errors import UsageError
from gateway.catalog import Catalog, PublicKey
from gateway.catalog.factors import combinations, following, parse_combination, suffices
from gateway.catalog.networks import allowed, parse_networks
from gateway.catalog.sshkeys import MOST, parse_public_key, parse_public_keys

SK = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAAAABHNzaDo= token"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann, laptop", "-f", str(path)], check=True)
    return Path(f"{path}.pub").read_text().strip()


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = Catalog.create(tmp_path / "catalog.sqlite3")
    for name in ("acme", "beta"):
        made.add_client(name, recipient="age1x")
    return made


@pytest.mark.parametrize(
    ("networks", "address", "answer"),
    [
        ("", "203.0.113.9", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8,!10.9.0.0/16", "10.9.1.1", False),
        ("!10.9.0.0/16", "10.9.1.1", False),
        ("!10.9.0.0/16", "10.8.1.1", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("!10.9.0.0/16", "::ffff:10.9.1.1", False),
        ("::ffff:10.9.0.0/112", "10.9.1.1", True),
        ("!::ffff:10.9.0.0/112", "10.9.1.1", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "192.0.2.7", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("10.0.0.0/8", "unknown", False),
    ],
)
def test_networks(networks: str, address: str, answer: bool) -> None:
    assert allowed(parse_networks(networks), address) is answer


@pytest.mark.parametrize("text", ["example.org", "10.0.0.*", "10.0.0.0/33", "!!10.0.0.1", ",".join(["10.0.0.1"] * 101)])
def test_bad_networks(text: str) -> None:
    with pytest.raises(UsageError):
        parse_networks(text)


def test_factors() -> None:
    assert parse_combination("totp + publickey") == "publickey+totp"
    for text in ("totp", "key", "", "publickey+publickey"):
        with pytest.raises(UsageError):
            parse_combination(text)
    either = combinations((), (), totp=False)
    assert following(either, frozenset()) == {"publickey", "password"}
    assert suffices(either, frozenset({"password"}))
    both = combinations((), (), totp=True)
    assert not suffices(both, frozenset({"password"}))
    assert not suffices(both, frozenset({"totp"}))
    assert following(both, frozenset()) == {"publickey", "password"}
    assert following(both, frozenset({"password"})) == {"totp"}
    three = combinations(("publickey+password+totp",), ("publickey",), totp=True)
    assert following(three, frozenset({"publickey"})) == {"password"}
    assert following(three, frozenset({"publickey", "password"})) == {"totp"}
    assert following(combinations(("password+totp",), (), totp=True), frozenset({"publickey"})) == frozenset()


def test_options_of_keys(line: str) -> None:
    plain = parse_public_key(line, "ann.pub")
    assert plain.comment == "ann, laptop"
    assert (plain.allow_from, plain.expires_at) == ((), None)
    bound = parse_public_key(f'restrict,from="10.0.0.0/8,!10.1.2.3",expiry-time="20270131180000Z" {line}', "ann.pub")
    assert bound.line == plain.line
    assert bound.allow_from == ("10.0.0.0/8", "!10.1.2.3/32")
    assert bound.expires_at == datetime(2027, 1, 31, 18, tzinfo=UTC)
    assert parse_public_key(SK, "token.pub").fingerprint.startswith("SHA256:")
    for bad in ('command="id" ', 'from="*.example.org" ', 'expiry-time="soon" ', 'from="10.0.0.1', "cert-authority "):
        with pytest.raises(UsageError):
            parse_public_key(bad + line, "ann.pub")
    for bad in ("ssh-ed25519 " + SK.split()[1], "ssh-dss AAAAB3NzaC1kc3M=", "ssh-rsa", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"):
        with pytest.raises(UsageError):
            parse_public_key(bad, "x.pub")


def test_a_file_of_several_keys(line: str) -> None:
    several = f'# laptop\n{line}\n\n  # token\nfrom="10.0.0.0/8" {SK}\n{line}\n'
    assert [(key.line, key.allow_from) for key in parse_public_keys(several, "keys")] == [
        (" ".join(line.split()[:2]), ()), (" ".join(SK.split()[:2]), ("10.0.0.0/8",)), (" ".join(line.split()[:2]), ()),
    ]  # fmt: skip
    assert len(parse_public_keys(f'command="internal-sftp",restrict {line}', "keys")) == 1, "as jails of OpenSSH have it"
    for text, says in (
        ("# none\n\n", "does not hold"), ("", "does not hold"), (f"{line}\nssh-dss AAAA", "line 2, is a key of the kind 'ssh-dss'"),
        (f'{line}\n# and\ncommand="id" {line}', "line 3, has the option 'command'"), (f"{line}\n" * (MOST + 1), "holds 101 keys"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbg==\n-----END OPENSSH PRIVATE KEY-----\n", "is a private key"),
        (f'command="internal-sftp -R" {line}', "has the option 'command'"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=says):
            parse_public_keys(text, "keys")


def test_a_person_comes_back_whole_and_is_changed(catalog: Catalog) -> None:
    key = PublicKey("ssh-ed25519 AAAA", "SHA256:x", "laptop", ("10.0.0.0/8",), NOW.replace(microsecond=0))
    added = catalog.add_person(
        "sue", role="staff", clients=["beta", "acme"], keys=[key], allow_from=("192.0.2.0/24",), require=("publickey+totp",), totp=True
    )
    assert catalog.person("sue") == added
    assert added.clients == ("acme", "beta")
    assert added.keys == (key,)
    assert added.sees("beta")
    assert "hash" not in repr(catalog.edit_person("sue", password_hash="$argon2id$hash"))
    changed = catalog.edit_person(
        "sue", clients=["acme"], remove_keys=["SHA256:x"], add_keys=[PublicKey("l", "SHA256:y")], active=False, allow_from=()
    )
    assert (changed.clients, changed.active, changed.allow_from) == (("acme",), False, ())
    assert [one.fingerprint for one in changed.keys] == ["SHA256:y"]
    assert catalog.any_password()
    for wrong in ({"remove_keys": ["SHA256:none"]}, {"clients": ["nobody"]}):
        with pytest.raises(UsageError):
            catalog.edit_person("sue", **wrong)
    assert catalog.person("sue") == changed
    with pytest.raises(UsageError, match="no person"):
        catalog.edit_person("nobody", active=False)


def test_off_boarding_leaves_the_name_and_nothing_else(catalog: Catalog) -> None:
    catalog.add_person("sue", role="staff", clients=["acme"], keys=[PublicKey("l", "SHA256:y")], password_hash="$x", totp=True)
    issued = catalog.issue_certificate("sue", key_id="k", fingerprint="SHA256:z", source_address=(), valid_after=NOW, valid_before=NOW + timedelta(1))
    before = catalog.off_board("sue")
    assert before.clients == ("acme",)
    left = catalog.person("sue")
    assert left is not None
    assert (left.active, left.clients, left.keys, left.password_hash, left.totp) == (False, (), (), None, False)
    assert left.off_boarded_at is not None
    assert catalog.is_revoked(issued.serial, "k", "SHA256:z")
    with pytest.raises(UsageError):
        catalog.add_person("sue", client="acme")


def test_certificates_are_numbered_and_revoked_by_any_name(catalog: Catalog) -> None:
    catalog.add_person("ann", client="acme")
    made = [
        catalog.issue_certificate("ann", key_id=f"k{n}", fingerprint=f"f{n}", source_address=("10.0.0.0/8",), valid_after=NOW, valid_before=NOW)
        for n in range(4)
    ]
    assert [one.serial for one in made] == [1, 2, 3, 4]
    assert catalog.revoke_certificate("serial", "1")
    assert not catalog.revoke_certificate("serial", "1")
    assert catalog.revoke_certificate("key-id", "k1")
    assert catalog.revoke_certificate("key", "f2")
    assert [one.revoked for one in catalog.certificates("ann")] == [True, True, True, False]
    assert catalog.certificates("nobody") == []
