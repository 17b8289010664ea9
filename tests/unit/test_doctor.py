"""The doctor's checks: each with the fault planted that it is there for."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.doctor import door, duties, machine, people, places, possessions
from backup.doctor.examination import _from_status, _guarded
from backup.doctor.finding import Finding, named
from backup.status import premises
from backup.status.line import Line
from config.cli import run
from config.errors import OutOfReach
from config.loading import Installation, open_installation
from config.roles import reached_at, role_state, running_role
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.signatures import SigningKey
from gateway.catalog import Catalog
from gateway.review.kept import keep_review
from nightsafe import cli

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSAFE_SET_KEYS__MASTER_FILE", str(home / "master.key"))
        assert run(cli, ["init", "--data", str(home / "data"), "--recovery-kit", str(home / "kit")]) == 0
    return home


@pytest.fixture
def house(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    shutil.copytree(made, tmp_path / "home")
    monkeypatch.setenv("NIGHTSAFE_SET_KEYS__MASTER_FILE", str(tmp_path / "home" / "master.key"))
    return open_installation(tmp_path / "home" / "data")


def with_settings(house: Installation, text: str) -> Installation:
    house.folder.settings.write_text(text)
    return open_installation(house.folder.root)


def found(findings: Any, severity: str) -> str:
    return "; ".join(f"{one.subject}: {one.text}" for one in findings if one.severity == severity)


def test_the_folder_of_init_is_in_order_until_somebody_opens_it(house: Installation) -> None:
    assert [one.severity for one in possessions.check_folder(house)] == ["good"]
    secret = next(house.folder.keys.rglob("*.age"))
    secret.chmod(0o644)
    assert str(secret) in found(possessions.check_folder(house), "bad")
    secret.chmod(0o600)
    (house.folder.keys / "elsewhere").symlink_to("/etc/passwd")
    assert "symbolic links" in found(possessions.check_folder(house), "bad")


def test_where_the_master_lies(house: Installation) -> None:
    assert "lies on the disk of the data folder" in found(possessions.check_master(house), "note")
    house.path(house.settings.keys.master_file).chmod(0o644)
    assert "is open to other users" in found(possessions.check_master(house), "bad")


def test_credentials_that_others_can_read(house: Installation) -> None:
    secret = house.folder.root / "s3.toml"
    secret.write_text("")
    secret.chmod(0o644)
    changed = with_settings(house, f'[s3]\nendpoint = "https://s3.example.com"\ncredentials_file = "{secret}"\n')
    findings = list(possessions.check_private_files(changed))
    assert "open to other users" in found(findings, "bad")
    assert "inside the data folder" in found(findings, "warning")


def test_swap(tmp_path: Path) -> None:
    swaps, block = tmp_path / "swaps", tmp_path / "block"
    head = "Filename Type Size Used Priority\n"
    swaps.write_text(head)
    assert found(machine.check_swap(swaps, block), "good") == "swap: none"
    swaps.write_text(head + "/dev/sda2 partition 1 0 -2\n/dev/zram0 partition 1 0 -2\n")
    assert found(machine.check_swap(swaps, block), "warning") == "swap: in clear: /dev/sda2"
    (block / "sda2" / "dm").mkdir(parents=True)
    (block / "sda2" / "dm" / "uuid").write_text("CRYPT-PLAIN-swap\n")
    assert "encrypted" in found(machine.check_swap(swaps, block), "good")


def test_the_clock_and_restic_are_asked_for_real(house: Installation) -> None:
    assert {one.subject for one in machine.check_clock()} == {"clock"}
    assert found(machine.check_restic(house), "good").startswith("restic: 0.")


def test_core_dumps(house: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(machine.check_core_dumps(house)) == []
    monkeypatch.setattr(machine, "role_state", lambda _folder, role: {"pid": 7} if role == "keyd" else None)
    (tmp_path / "proc" / "7").mkdir(parents=True)
    limits = tmp_path / "proc" / "7" / "limits"
    limits.write_text("Max core file size        0                    0                    bytes\n")
    assert found(machine.check_core_dumps(house, tmp_path / "proc"), "good")
    limits.write_text("Max core file size        0                    unlimited            bytes\n")
    assert found(machine.check_core_dumps(house, tmp_path / "proc"), "bad") == "core dumps: possible for: keyd"
    monkeypatch.setattr(machine, "role_state", lambda _folder, _role: {"pid": 7, "machine": "another-container"})
    assert list(machine.check_core_dumps(house, tmp_path / "proc")) == []  # its 7 is not ours


@pytest.mark.parametrize(
    ("host", "here", "expected"),
    [("0.0.0.0", True, "127.0.0.1"), ("::", True, "::1"), ("0.0.0.0", False, "4c01db0b339c"), ("192.0.2.1", False, "192.0.2.1")],
)
def test_a_role_in_another_container_is_reached_by_its_name(house: Installation, host: str, here: bool, expected: str) -> None:
    with running_role(house.folder, "gateway") as role:
        role.announce(host=host, port=2022)
        state = role_state(house.folder, "gateway")
        assert state is not None
        assert reached_at(state if here else {**state, "machine": "4c01db0b339c"}) == expected


def test_settings_of_the_door(house: Installation) -> None:
    changed = with_settings(house, '[gateway]\ntrusted_networks = ["127.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "::/0"]\npublic_host = "x"\n')
    assert found(door.check_settings(changed), "bad").endswith("0.0.0.0/0, ::/0")
    assert found(door.check_settings(house), "note")


def test_people(house: Installation) -> None:
    with Catalog.open(house.folder.catalog) as catalog:
        catalog.add_client("acme", custody="managed", recipient="age1x")
        catalog.add_person("ann", role="client", client="acme")
        catalog.add_person("sam", role="staff", clients=("acme",), require=("publickey+totp",), expires_at=NOW + timedelta(days=1))
        catalog.add_person("tom", role="staff", clients=("acme",), expires_at=NOW + timedelta(days=1))
        catalog.add_person("old", role="staff", clients=("acme",), expires_at=NOW - timedelta(days=1))
    findings = list(people.check_people(house, NOW))
    assert found(findings, "warning") == "second factor: staff and auditors who log in with one factor: tom"
    notes = found(findings, "note")
    assert "clients' people without an end: ann" in notes
    assert "clients' people who log in with one factor: ann" in notes
    assert "no key, certificate or password that is good: ann, sam, tom" in notes


def test_logins_that_nobody_uses(house: Installation) -> None:
    with Catalog.open(house.folder.catalog) as catalog, AuditLog(house.folder.audit, "gateway") as log:
        catalog.add_client("acme", custody="managed", recipient="age1x")
        for name in ("ann", "bob"):
            catalog.add_person(name, role="client", client="acme", expires_at=datetime.now(UTC) + timedelta(days=9999))
        log.append(Event.LOGIN_ACCEPTED, person="ann", address="192.0.2.1")
    today = datetime.now(UTC)
    assert found(people.check_people(house, today), "warning") == ""
    later = today + timedelta(days=89)
    assert found(people.check_people(house, later), "warning") == ""
    assert found(people.check_people(house, today + timedelta(days=91)), "warning") == "unused logins: not used for 90 days: ann, bob"


def test_a_review_of_access_is_due_within_a_year(house: Installation) -> None:
    today = datetime.now(UTC)
    assert list(duties.check_review(house, today)) == []
    with Catalog.open(house.folder.catalog) as catalog:
        catalog.add_client("acme", custody="managed", recipient="age1x")
        catalog.add_person("ann", role="client", client="acme")
    assert list(duties.check_review(house, today + timedelta(days=300))) == []
    assert found(duties.check_review(house, today + timedelta(days=400)), "warning").endswith("nobody has reviewed who can reach what")
    keep_review(house.folder, {"reviewed_at": today.isoformat(), "entries": []}, "", SigningKey.generate("audit"))
    assert found(duties.check_review(house, today + timedelta(days=300)), "good")
    assert "overdue" in found(duties.check_review(house, today + timedelta(days=400)), "warning")


def test_whom_to_inform_of_an_incident(house: Installation) -> None:
    assert found(duties.check_contacts(house), "note")
    named = with_settings(house, '[incident]\ncontacts = ["data protection officer: dpo@example.com"]\n')
    assert found(duties.check_contacts(named), "good")


def test_places(house: Installation, tmp_path: Path) -> None:
    embedded = list(places.check_bucket(house))
    assert "stay on this machine" in found(embedded, "warning")
    assert "writer: the embedded S3 server does not run" in found(embedded, "bad")
    secret = tmp_path / "s3.toml"
    pair = 'access_key = "a"\nsecret_key = "b"\n'
    secret.write_text("".join(f"[{role}]\n{pair}" for role in ("writer", "reader", "pruner")))
    secret.chmod(0o600)
    changed = with_settings(house, f'[s3]\nendpoint = "http://127.0.0.1:9"\ncredentials_file = "{secret}"\n[notify]\nevents = {{ ops = ["*"] }}\n')
    findings = list(places.check_bucket(changed))
    assert found(findings, "bad").count("bucket: ") == 3
    assert "one S3 credential" in found(findings, "warning")
    assert found(places.check_notices(changed), "good")
    assert found(places.check_notices(house), "warning")


def test_what_fails_is_said_and_the_lines_of_the_status_are_weighed(house: Installation) -> None:
    def fails(_: Installation) -> list[Finding]:
        raise OutOfReach("no answer", "try again")

    assert list(_guarded("it", fails, house)) == [
        Finding("warning", "it", "could not be looked at: no answer", "what nobody can look at may be wrong", "try again")
    ]
    lines = [
        Line("disk", "red", "full", "free some"),
        Line("offsite", "yellow", "no", "do"),
        Line("newest backup", "yellow", "x"),
        Line("keys", "green", "ok"),
    ]
    assert [one.severity for one in _from_status(lines)] == ["bad", "note", "good"]
    assert named([str(number) for number in range(8)]) == "0, 1, 2, 3, 4 and 3 more"


def test_the_s3_server_of_an_installed_nightsafe_is_told_of_when_it_alone_is_missing(house: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that starts the roles does not start it."""
    monkeypatch.setattr(premises, "has_users", lambda _folder: True)
    assert "not running: gateway, keyd, ingest, scheduler" in premises.roles(house).text
    monkeypatch.setattr(premises, "role_state", lambda _folder, role: None if role == "s3" else {"pid": 7})
    monkeypatch.setattr(premises, "missing_schedulers", lambda _folder: [])
    assert premises.roles(house).text == "no S3 service for the backups"
