"""`nightsafe keys` by the real command line, in process; the master from a command and from a KMS (moto's server)."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from config.cli import run
from config.errors import OutOfReach, SettingsError
from config.loading import Installation, open_installation
from config.roles import running_role
from gateway.age import Identity
from gateway.audit.read import read
from gateway.keys.identities import identity_file
from gateway.keys.master import load_master
from gateway.keys.resealing import add_recovery
from gateway.store import Spool
from nightsafe import cli
from tests.integration.conftest import make_installation
from tests.integration.drill_house import DrillHouse

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[DrillHouse]:
    made = DrillHouse(make_installation(tmp_path))
    made.add_client("acme")
    yield made
    made.close()


@pytest.fixture
def ask(house: DrillHouse, capfd: pytest.CaptureFixture[str]) -> Ask:
    def asked(*words: str) -> tuple[int, Any]:
        code = run(cli, [*words, "--data", str(house.folder.root), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else err

    return asked


def events(house: DrillHouse, name: str) -> list[dict[str, Any]]:
    return [line for line in read(house.folder.audit) if line["event"] == name]


def again(house: DrillHouse) -> Installation:
    """The installation with the settings as they are now."""
    return open_installation(house.folder.root, {})


def test_the_report(house: DrillHouse, ask: Ask) -> None:
    house.add_paper("acme", "/inbox/a.pdf", b"a")
    house.keyring.rotate_client("acme")
    house.add_paper("acme", "/inbox/b.pdf", b"b")
    house.add_paper("acme", "/inbox/c.pdf", b"c")
    code, found = ask("keys", "report")
    assert code == 0
    clients = [(one["client"], one["generation"], one["papers"], one["kind"]) for one in found if one["key"] == "client"]
    assert clients == [("acme", 1, 1, "managed"), ("acme", 2, 2, "managed")]
    assert {one["key"] for one in found} >= {"master", "recovery", "ingest", "host-key", "receipt-signing", "restic-keys", "s3-reader"}
    assert all(one["algorithm"] and one["age_days"] == 0 for one in found)
    assert next(one for one in found if one["key"] == "master")["recipient"] == str(house.master.recipient)


def test_the_master_is_rotated_and_old_papers_open(house: DrillHouse, ask: Ask, tmp_path: Path) -> None:
    house.add_paper("acme", "/inbox/a.pdf", b"a")
    with running_role(house.folder, "keyd"):
        assert ask("keys", "rotate-master")[0] == 4, "a running keyd would hold the old one"
    assert load_master(house.installation, {}) == house.master
    code, result = ask("keys", "rotate-master")
    assert code == 0 and result["done"] and result["recipient"] == str(load_master(house.installation, {}).recipient)
    assert result["recipient"] != str(house.master.recipient)
    assert ask("files", "get", "acme", "/inbox/a.pdf", "--out", str(tmp_path / "a"))[0] == 0 and (tmp_path / "a").read_bytes() == b"a"
    (told,) = events(house, "master.rotated")
    assert told["old"] == str(house.master.recipient) and told["recipient"] == result["recipient"] and told["person"].startswith("ops:")
    assert [one["recipient"] for one in events(house, "key.created")] == [result["recipient"]]
    assert house.master.encode() not in json.dumps(list(read(house.folder.audit)))


def test_a_master_that_was_lost_is_replaced_by_means_of_the_kit(house: DrillHouse, ask: Ask, tmp_path: Path) -> None:
    recovery, page = Identity.generate(), tmp_path / "part-a.txt"
    add_recovery(house.keyring, recovery.recipient, house.master, None)
    page.write_bytes(identity_file(recovery).encode())
    house.add_paper("acme", "/inbox/a.pdf", b"a")
    command = ("keys", "replace-master", "--identity", str(page))
    assert ask(*command)[0] == 2, "the master is there"
    old = house.installation.path(house.installation.settings.keys.master_file)
    old.unlink()
    house.folder.host_key.unlink()
    with running_role(house.folder, "ingest"):
        assert ask(*command)[0] == 4
    other = tmp_path / "other.txt"
    other.write_bytes(identity_file(Identity.generate()).encode())
    assert ask("keys", "replace-master", "--identity", str(other))[0] == 2
    (house.folder.spool_landed / "an upload without a receipt").write_bytes(b"sealed")
    code, result = ask(*command)
    assert code == 3 and (Path(result["set_aside"]) / "landed" / "an upload without a receipt").exists()
    assert result["recipient"] == str(load_master(house.installation, {}).recipient) != str(house.master.recipient)
    assert house.folder.host_key.exists() and not any(house.folder.spool_landed.iterdir())
    assert ask("files", "get", "acme", "/inbox/a.pdf", "--out", str(tmp_path / "a"))[0] == 0 and (tmp_path / "a").read_bytes() == b"a"
    (told,) = events(house, "master.replaced")
    assert told["recipient"] == result["recipient"]
    assert ask("keys", "rotate-master")[0] == 0, "and it is a master like any other"


def test_one_more_recovery_key(house: DrillHouse, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Identity.generate(), Identity.generate()
    assert ask("keys", "add-recovery", str(first.recipient)) == (0, {"recipient": str(first.recipient), "left": 0})
    assert ask("client", "add", "closed", "--custody", "deposit-only")[0] == 0
    code, result = ask("keys", "add-recovery", str(second.recipient))
    assert code == 3 and result["left"] == 1
    kit = tmp_path / "part-a.txt"
    kit.write_text(identity_file(first))
    assert ask("keys", "add-recovery", str(second.recipient), "--identity", str(kit))[0] == 0
    assert house.keyring.client_identities("closed", second, recovery=True) and house.keyring.client_identities("acme", second)
    assert [one["left"] for one in events(house, "recovery.added")] == [0, 1, 0]
    assert ask("keys", "add-recovery", second.encode())[0] == 2
    kit.write_text("no identity")
    assert ask("keys", "add-recovery", str(second.recipient), "--identity", str(kit))[0] == 2


def test_ingest_gets_a_new_key_also_where_there_is_none(house: DrillHouse, ask: Ask) -> None:
    with running_role(house.folder, "ingest"):
        assert ask("keys", "rotate-ingest")[0] == 4
    assert ask("keys", "rotate-ingest")[1]["destroyed"] == [1]
    assert [one["generation"] for one in events(house, "key.destroyed")] == [1]
    for path in house.folder.ingest_keys.iterdir():
        path.unlink()
    for path in (house.folder.spool_partial, house.folder.spool_landed):
        path.rmdir()
    house.folder.ingest_keys.rmdir()  # as in a folder that was restored from a backup
    code, result = ask("keys", "rotate-ingest")
    assert code == 0 and result["generation"] == 1
    with Spool(house.folder.spool_partial, house.folder.spool_landed, house.keyring.ingest_recipient):
        assert [str(one.recipient) for one in house.keyring.ingest_identities(house.master)] == [result["recipient"]]


def test_a_drill_after_the_change_of_a_master_passes(installation: Installation, capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(DrillHouse(installation)) as house:
        house.add_client("acme")
        house.add_paper("acme", "/inbox/a.pdf", b"a")
        house.save()
        assert run(cli, ["keys", "rotate-master", "--data", str(house.folder.root)]) == 0
        passed = house.drill()
        assert passed.state == "passed", passed.detail
        assert any("sealed anew" in str(note) for note in house.evidence(passed)["notes"])  # type: ignore[union-attr, attr-defined]
        house.keyring.master_file.write_text(f"{Identity.generate().recipient}\n")
        failed = house.drill()
        assert failed.state == "failed" and "key" in str(failed.detail["by_cause"]), "a recipient that nobody put there is found"
        capfd.readouterr()


# where the master comes from


def settings(house: DrillHouse, text: str) -> Installation:
    house.folder.settings.write_text(text)
    return again(house)


def command(house: DrillHouse, script: str, seconds: float = 120) -> Installation:
    words = json.dumps([sys.executable, "-c", script])
    return settings(house, f'[keys]\nmaster_source = "command"\nmaster_command = {words}\nmaster_command_seconds = {seconds}\n')


def test_the_master_from_a_command(house: DrillHouse, ask: Ask, tmp_path: Path) -> None:
    kept = house.folder.root.parent / "master.key"
    elsewhere = tmp_path / "vault.key"
    kept.rename(elsewhere)
    installation = command(house, f"print(open({str(elsewhere)!r}).read())")
    assert load_master(installation, {}) == house.master
    assert ask("keys", "rotate-master")[0] == 2, "it is not ours to change"
    code, result = ask("keys", "rotate-master", "--new-master", str(tmp_path / "new.key"))
    assert code == 0 and not result["done"] and load_master(installation, {}) == house.master
    os.rename(tmp_path / "new.key", elsewhere)
    assert ask("keys", "rotate-master")[1]["done"] and load_master(installation, {}) != house.master
    assert ask("client", "add", "late")[0] == 0


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("import sys; print('AGE-SECRET-KEY-1QQ', file=sys.stderr); sys.exit(3)", "ended with code 3"),
        ("print('nothing of use')", "does not hold one age identity"),
        ("import time; time.sleep(60)", "did not end within"),
        ("import os; os.close(1); import time; time.sleep(60)", "did not end within"),
        ("import os, time\nif not os.fork(): time.sleep(60)", "did not end within"),
        ("while True: print('x' * 1000)", "prints more than"),
    ],
    ids=["fails", "rubbish", "hangs", "closes and hangs", "leaves a child", "floods"],
)
def test_a_command_that_goes_wrong(house: DrillHouse, script: str, error: str) -> None:
    installation = command(house, script, 1.0 if "sleep" in script else 120)
    with pytest.raises((SettingsError, OutOfReach), match=error) as caught:
        load_master(installation, {})
    assert "SECRET-KEY-1QQ" not in str(caught.value)


def test_a_command_that_is_not_there(house: DrillHouse) -> None:
    with pytest.raises(SettingsError, match="cannot be started"):
        load_master(settings(house, '[keys]\nmaster_source = "command"\nmaster_command = ["/nowhere/pass"]\n'), {})
    with pytest.raises(SettingsError, match="master_command is empty"):
        load_master(settings(house, '[keys]\nmaster_source = "command"\n'), {})


@pytest.fixture(scope="module")
def kms_server() -> Iterator[str]:
    """moto's KMS, over HTTP."""
    with contextlib.redirect_stdout(io.StringIO()):
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture
def kms(kms_server: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, str]:
    """A client of it, and a key."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.client("kms", endpoint_url=kms_server, region_name="eu-central-1")
    return client, client.create_key()["KeyMetadata"]["Arn"]


def kms_settings(endpoint: str, key: str, source: str = "kms") -> str:
    return f'[keys]\nmaster_source = "{source}"\nkms_key = "{key}"\nkms_region = "eu-central-1"\nkms_endpoint = "{endpoint}"\n'


def test_the_master_from_a_kms(house: DrillHouse, ask: Ask, kms_server: str, kms: tuple[Any, str]) -> None:
    client, key = kms
    settings(house, kms_settings(kms_server, key, "file"))
    envelope = house.folder.root.parent / "master.kms"
    assert ask("keys", "to-kms")[0] == 0
    assert events(house, "master.copied")[0]["to"] == "kms"
    assert house.master.encode().encode() not in envelope.read_bytes() and envelope.stat().st_mode & 0o777 == 0o600
    assert ask("keys", "to-kms")[0] == 2, "never over one that is there"
    installation = settings(house, kms_settings(kms_server, key))
    (house.folder.root.parent / "master.key").unlink()
    assert load_master(installation, {}) == house.master
    assert ask("keys", "rotate-master")[1]["done"]
    assert load_master(installation, {}) != house.master
    whole = envelope.read_bytes()
    for damaged in (b"", b"{}", b"[]", whole[:-20], whole.replace(b'"ciphertext": "', b'"ciphertext": "AAAA')):
        envelope.write_bytes(damaged)
        with pytest.raises(SettingsError):
            load_master(installation, {})
    envelope.write_bytes(whole)
    other = client.create_key()["KeyMetadata"]["Arn"]
    with pytest.raises(SettingsError, match="KMS"):
        load_master(settings(house, kms_settings(kms_server, other)), {})
    with pytest.raises(OutOfReach, match="KMS cannot be reached"):
        load_master(settings(house, kms_settings("http://127.0.0.1:1", key)), {})
    with pytest.raises(SettingsError, match="kms_key is not set"):
        load_master(settings(house, kms_settings(kms_server, "")), {})


def test_init_makes_the_master_in_a_kms(tmp_path: Path, kms_server: str, kms: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"MASTER_SOURCE": "kms", "KMS_KEY": kms[1], "KMS_ENDPOINT": kms_server, "KMS_REGION": "eu-central-1"}
    for name, value in values.items():
        monkeypatch.setenv(f"NIGHTSAFE_SET_KEYS__{name}", value)
    data = tmp_path / "data"
    assert run(cli, ["init", "--data", str(data), "--recovery-kit", str(tmp_path / "kit.txt")]) == 0
    assert sorted(os.listdir(tmp_path)) == ["data", "kit.txt", "master.kms"]
    assert b"AGE-SECRET-KEY" not in (tmp_path / "master.kms").read_bytes()
    assert run(cli, ["client", "add", "acme", "--data", str(data)]) == 0
    created = [line for line in read(data / "audit") if line["event"] == "key.created"]
    assert {one["whose"] for one in created} >= {"master", "recovery", "ingest", "client", "receipt-signing"}
