"""What must be in the audit log is there: who did what, by hand, and what the settings became."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from backup.destruction import run as destruction
from config.cli import run
from config.errors import OutOfReach
from config.folder import DataFolder
from config.loading import load_settings, open_installation
from gateway.audit import AuditLog, Event
from gateway.audit.follow import ends, new_lines
from gateway.audit.read import read
from gateway.audit.settings import record_settings
from gateway.audit.verify import verify
from gateway.catalog import Catalog
from gateway.catalog.rows import NewPaper
from gateway.ingest.checking import _tell as tell_scanner
from gateway.ingest.checks.scanner import Readiness
from nightsafe import cli
from tests.integration.audit_roles import roles_held, told_events

ROOT = Path(__file__).parents[2]

# What each command leaves in the audit log when it did its work. A command that is not here, or below, fails the test.
LEAVES = {
    "init": "installation.created", "client add": "client.added", "client archive-password": "archive_password.set",
    "client destroy": "destruction.begun", "client edit": "client.edited", "client resume": "client.resumed", "client rotate-key": "key.created",
    "client suspend": "client.suspended", "person add": "person.added", "person edit": "person.edited", "person off-board": "person.off_boarded",
    "person resume": "person.resumed", "person suspend": "person.suspended", "ca revoke": "certificate.revoked", "ca sign": "certificate.issued",
    "access-review done": "access.reviewed", "incident close": "incident.closed", "incident collect": "incident.collected",
    "incident open": "incident.opened", "files export": "files.exported", "files find": "files.searched", "files get": "file.fetched",
    "files history": "files.searched", "files list": "files.searched", "files put": "file.put", "files versions": "files.searched",
    "sessions kill": "session.killed", "defender ban": "address.banned", "defender unban": "address.unbanned", "hold release": "hold.released",
    "hold set": "hold.set", "held again": "held.decided", "held list": "files.searched", "held refuse": "held.decided",
    "held release": "held.decided", "quarantine delete": "quarantine.deleted", "quarantine list": "files.searched",
    "quarantine release": "quarantine.released", "quarantine show": "files.searched", "retention run": "paper.expired",
    "catalog rebuild": "catalog.rebuilt", "backup begin-anew": "repository.given_up", "backup check": "check.passed",
    "backup copy": "backup.started", "backup forget": "snapshots.forgotten", "backup repair": "repository.repaired",
    "backup run": "backup.started", "drill proof": "proof.written", "drill run": "drill.started", "restore": "restore.started",
    "keys add-recovery": "recovery.added", "keys replace-master": "master.replaced", "keys rotate-ingest": "key.created",
    "keys rotate-master": "master.rotated", "keys to-kms": "master.copied", "audit export": "audit.exported",
    "audit show": "audit.shown", "kit check": "kit.checked",
    "kit restore": "installation.restored", "kit show": "kit.shown",
}  # fmt: skip
NOTHING = {
    "the settings, told by each role that starts with them": ("config check", "config schema", "config show"),
    "how the installation is; no paper is named": (
        "status", "doctor", "backup snapshots", "backup status", "drill list", "drill show", "keys report", "permissions check", "permissions show",
        "defender list", "sessions list", "notify list", "notify test", "audit verify", "ca show", "ca list", "host-key", "completion",
    ),
    "who there is; no paper is named": ("client list", "client show", "person list", "person show", "person sheet", "incident list", "incident show"),
    "what was decided by and recorded of operators": ("hold list", "retention report"),
    "a service's own preparation, done by the system": ("credentials", "permissions apply", "catalog upgrade"),
    "a role, which records what it does": ("up", "gateway", "keyd", "ingest", "scheduler", "s3", "web"),
}  # fmt: skip


def commands(command: click.Command, context: click.Context, *words: str) -> Iterator[str]:
    """Every command line below one, without its options."""
    if not isinstance(command, click.Group):
        yield " ".join(words)
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, context, *words, name)


def test_each_command_is_known_to_leave_an_event_or_not_to() -> None:
    there = list(commands(cli, click.Context(cli)))
    known = [*LEAVES, *(name for names in NOTHING.values() for name in names)]
    assert sorted(there) == sorted(known), "what does a new command leave in the audit log?"
    told = told_events()
    for command, event in LEAVES.items():
        roles, fields, _ = told[event]
        assert {"person", "by", "role"} & set(fields), f"{event} of '{command}' does not say who"
        assert roles


def test_each_event_is_seen_by_a_test() -> None:
    """By its name, in some test other than this one and those of the pages."""
    texts = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py") if "test_docs" not in path.name]
    text = "\n".join(texts)
    assert [event.value for event in Event if f"Event.{event.name}" not in text and f'"{event.value}"' not in text] == []


def test_the_wrong_role_would_be_noticed(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit", "keyd") as log, roles_held(), pytest.raises(AssertionError, match=r"scanner\.ready .*keyd.*ingest"):
        tell_scanner(log, "clamd", Readiness(ready=True))


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command line on a new installation, in this process."""
    root = tmp_path / "data"

    def command(*words: str, stdin: str = "") -> str:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        before = ends(root / "audit")
        code = run(cli, [*words, "--data", str(root)])
        out, err = capsys.readouterr()
        assert code == 0, (words, err)
        name = words[0] if words[0] in LEAVES else " ".join(words[:2])
        if name in LEAVES:
            new = [str(line.record["event"]) for line in new_lines(root / "audit", before) if line.record is not None]
            assert LEAVES[name] in new, (words, new)
        return out

    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "ann"], check=True)
    command("init", "--recovery-kit", str(tmp_path / "kit"))
    return command


def test_what_people_do_is_recorded_by_name(life: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = str(tmp_path / "ann.pub")
    life("client", "add", "acme", "--public-key", key)
    life("client", "edit", "acme", "--quota", "1GiB")
    life("client", "suspend", "acme", "--reason", "unpaid")
    life("client", "resume", "acme")
    life("client", "archive-password", "acme", "--password-stdin", stdin="correct horse battery\n")
    life("person", "add", "ann", "--staff", "acme", "--public-key", key)
    life("person", "edit", "ann", "--from", "192.0.2.0/24")
    life("person", "suspend", "ann")
    life("person", "resume", "ann")
    life("ca", "sign", "ann", "--public-key", key, "--out", str(tmp_path / "cert"))
    life("ca", "revoke", "--serial", "1")
    life("person", "off-board", "ann")
    life("hold", "set", "acme", "--reason", "trial", "--by", "court")
    life("hold", "release", "1", "--reason", "over", "--by", "court")
    life("defender", "ban", "203.0.113.9")
    life("defender", "unban", "203.0.113.9")
    life("host-key", "--nist")
    life("host-key", "--take-over", str(tmp_path / "ann"))
    life("quarantine", "list")
    life("held", "list")
    life("files", "find", "letter")
    credentials = tmp_path / "s3.toml"
    credentials.write_text("".join(f'[{role}]\naccess_key = "a"\nsecret_key = "b"\n' for role in ("writer", "reader", "pruner")))
    credentials.chmod(0o600)
    monkeypatch.setenv("NIGHTSAFE_SET_S3__ENDPOINT", "https://s3.example.com")
    monkeypatch.setenv("NIGHTSAFE_SET_S3__CREDENTIALS_FILE", str(credentials))
    life("kit", "show")
    folder = DataFolder(tmp_path / "data")
    lines = list(read(folder.audit))
    told = told_events()
    seen = {line["event"] for line in lines}
    assert seen >= {
        "installation.created", "client.added", "client.edited", "client.suspended", "client.resumed", "archive_password.set", "person.added",
        "person.edited", "person.suspended", "person.resumed", "certificate.issued", "certificate.revoked", "person.off_boarded", "hold.set",
        "hold.released", "address.banned", "address.unbanned", "files.searched", "kit.shown", "key.created",
        "host_key.replaced",
    }  # fmt: skip
    for line in lines:
        assert line["role"] in told[line["event"]][0].split(", ") or line["event"] == "segment.opened", line
        if line["event"] != "segment.opened":
            assert str(line.get("by") or line.get("person")).startswith("ops:") or str(line.get("person")).startswith("ops:"), line
    made = {line["whose"] for line in lines if line["event"] == "key.created"}
    assert {"user-ca", "host-key-nist", "client", "master"} <= made
    assert [line["state"] for line in lines if line["event"] == "files.searched" and line.get("state")] == ["refused", "held"]
    assert "correct horse" not in json.dumps(lines)
    assert verify(folder.audit, []).problems == []


def test_papers_that_wait_and_scanners_that_come_and_go(life: Callable[..., Any], tmp_path: Path) -> None:
    life("client", "add", "acme")
    folder = DataFolder(tmp_path / "data")
    moment = datetime.now(UTC)
    blank = dict.fromkeys(("header_mac", "sealed_sha256", "session", "address"), "")
    facts: dict[str, Any] = {"size": 1, "sha256": "0" * 64, "generation": 1, "sealed_size": 0, "modified_at": None, "reason": "waits", **blank}
    paper = NewPaper(id="0" * 32, client="acme", path="/inbox/a", person="acme", state="held", received_at=moment, sealed_at=moment, **facts)
    with Catalog.open(folder.catalog) as catalog:
        catalog.record([paper])
    life("held", "again", "0" * 32, "--reason", "the rule was changed")
    with AuditLog(folder.audit, "ingest") as log:
        tell_scanner(log, "clamd", Readiness(ready=False, fault="it is down"))
        tell_scanner(log, "clamd", Readiness(ready=True, engine="1.4"))
    found = [(line["event"], line["role"]) for line in read(folder.audit) if line["event"].startswith(("held", "scanner"))]
    assert found == [("held.decided", "ops"), ("scanner.lost", "ingest"), ("scanner.ready", "ingest")]


def test_a_repository_that_cannot_be_cleaned_is_pending(life: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life("client", "add", "acme")
    folder = DataFolder(tmp_path / "data")

    def away(*_: object) -> None:
        raise OutOfReach("the bucket is away")

    monkeypatch.setattr(destruction, "shred", away)
    with Catalog.open(folder.catalog) as catalog, AuditLog(folder.audit, "destroy") as log:
        catalog.add_repository("keys", "s3:https://s3.example.com/nightsafe/keys", "0" * 64)
        catalog.begin_destruction("acme", ordered_by="x", reason="y", keys=())
        destruction._shred_everywhere(SimpleNamespace(catalog=catalog, audit=log), "acme")  # type: ignore[arg-type]
    assert [line["cause"] for line in read(folder.audit, event="repository.pending")] == ["the bucket is away"]


def test_changed_settings_are_told_once_old_and_new(life: Callable[..., Any], tmp_path: Path) -> None:
    folder = open_installation(tmp_path / "data").folder

    def start(text: str, role: str = "keyd") -> list[dict[str, Any]]:
        folder.settings.write_text(text)
        with AuditLog(folder.audit, role) as log:
            record_settings(folder.audit, load_settings(folder.settings, {}), log, role)
        return [line["changed"] for line in read(folder.audit, event=Event.SETTINGS_CHANGED) if line["segment"] == log.segment]

    assert start("") == [], "all defaults are no change"
    assert start("[gateway]\nport = 2222\n") == [{"gateway.port": [2022, 2222]}]
    assert start("[gateway]\nport = 2222\n") == []
    assert start("[gateway]\nport = 2222\n", "ingest") == [{"gateway.port": [2022, 2222]}], "each role tells what it runs with"
    assert start("[retention.days]\ntax = 10\n") == [{"gateway.port": [2222, 2022], "retention.days.tax": [None, 10]}]
    one = '[scan]\nscanner = "command"\ncommand = ["/bin/scan", "--token=hunter2"]\n'
    assert start(one)[0]["scan.command"] == [[], ["/bin/scan", "(hidden)"]]
    same = ["/bin/scan", "(hidden)"]
    assert start(one.replace("hunter2", "hunter3")) == [{"scan.command": [same, same]}], "a new secret is a change, and stays one"
    assert "hunter" not in "".join(path.read_text() for path in folder.audit.iterdir())
    (folder.audit / "settings-keyd.json").write_text("[1, 2]")
    assert start("[gateway]\nport = 1\n") == [{"gateway.port": [2022, 1]}], "a damaged file stands for the defaults"
