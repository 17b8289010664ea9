"""Incidents: frozen first, collected whole, signed; and the runbook's commands, one after the other."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.cli import run
from config.folder import DataFolder
from gateway.audit import AuditLog, Event
from gateway.audit.read import read
from gateway.catalog import Catalog
from gateway.incident.findings import Subject, findings, look_around
from gateway.keys.keyring import Keyring
from nightsafe import cli
from tests.integration.conftest import make_installation

Ask = Callable[..., tuple[int, Any]]
ZOE = {"person": "zoe", "person_role": "staff", "address": "198.51.100.9", "software": "SSH-2.0-x", "session": "s1"}


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = make_installation(tmp_path, '[incident]\ncontacts = ["data protection officer: dpo@example.com"]\n').folder
    with Catalog.open(folder.catalog) as catalog:
        for name in ("acme", "beta"):
            catalog.add_client(name, recipient="age1x")
        catalog.add_person("zoe", role="staff", clients=["acme", "beta"])
        catalog.add_person("ann", client="acme")
    with AuditLog(folder.audit, "gateway") as log:
        log.append(Event.LOGIN_ACCEPTED, person="zoe", address="198.51.100.9")
        log.append(Event.SESSION_OPENED, **ZOE, client="")
        log.append(Event.PAPER_READ, **ZOE, client="acme", path="/inbox/a", paper="1")
        log.append(Event.PAPER_READ, **ZOE, client="acme", path="/inbox/a", paper="1")
        log.append(Event.PAPER_READ, **ZOE, client="beta", path="/inbox/<b>", paper="2")
        log.append(Event.SESSION_CLOSED, **ZOE, client="")
        log.append(Event.LOGIN_FAILED, person="root", address="198.51.100.9")
        log.append(Event.PAPER_READ, person="ann", client="acme", path="/inbox/a", paper="1", address="192.0.2.1")
        log.append(Event.PAPER_READ, person="ann", client="acme", path="/inbox/other", paper="3", address="192.0.2.1")
    return folder


@pytest.fixture
def ask(folder: DataFolder, capsys: pytest.CaptureFixture[str]) -> Ask:
    def asked(*words: str) -> tuple[int, Any]:
        code = run(cli, [*words, "--data", str(folder.root), "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else err

    return asked


def is_active(folder: DataFolder, person: str) -> bool:
    with Catalog.open(folder.catalog) as catalog:
        return catalog.existing_person(person).active


def test_a_person_is_frozen_and_what_they_touched_is_collected(folder: DataFolder, ask: Ask) -> None:
    code, told = ask("incident", "open", "--person", "zoe", "--reason", "laptop stolen")
    assert code == 0 and (told["incident"], told["sessions"], told["papers"], told["addresses"]) == (1, 1, 2, 1)
    assert not is_active(folder, "zoe")
    assert told["inform"][0] == "data protection officer: dpo@example.com" and "the client acme: touched 2 times" in told["inform"]
    bundle = Path(told["bundle"])
    signers = Keyring(folder).allowed_signers
    command = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", "audit", "-n", "audit@nightsafe", "-s", bundle / "manifest.json.sig"]
    assert subprocess.run(command, input=(bundle / "manifest.json").read_bytes(), capture_output=True, check=False).returncode == 0
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=bundle, check=False).returncode == 0
    events = [json.loads(line) for line in (bundle / "events.jsonl").read_text().splitlines()]
    about = [(line["event"], line.get("person"), line.get("paper")) for line in events]
    assert ("login.failed", "root", None) in about, "somebody else from the same address"
    assert ("paper.read", "ann", "1") in about, "somebody else with the same paper"
    assert ("paper.read", "ann", "3") not in about, "what is not concerned stays out"
    assert "incident.opened" in {event for event, _, _ in about} and "person.suspended" in {event for event, _, _ in about}
    found = json.loads((bundle / "findings.json").read_bytes())
    assert found["papers"][0]["how"] == ["paper.read"] and found["others_from_the_same_addresses"] == {"root": ["198.51.100.9"]}
    assert found["sessions"][0]["closed"] is not None
    page = (bundle / "findings.html").read_text()
    assert "<b>" not in page and "dpo@example.com" in page
    assert {line["event"] for line in read(folder.audit) if line["event"].startswith("incident")} == {"incident.opened", "incident.collected"}


def test_the_runbook_from_open_to_close(folder: DataFolder, ask: Ask) -> None:
    assert ask("incident", "open", "--client", "acme", "--reason", "odd uploads")[1]["papers"] == 2
    assert [(one["incident"], one["state"], one["client"]) for one in ask("incident", "list")[1]] == [(1, "open", "acme")]
    with Catalog.open(folder.catalog) as catalog:
        assert not catalog.client("acme").active  # type: ignore[union-attr]
    assert ask("incident", "collect", "1", "--since", "2000-01-01")[0] == 0
    assert len(ask("incident", "show", "1")[1]["bundles"]) == 2, "earlier ones stay"
    code, closed = ask("incident", "close", "1", "--by", "Ms Keller", "--reason", "a new scanner", "--resume")
    assert code == 0 and (closed["state"], closed["closed_by"]) == ("closed", "Ms Keller")
    with Catalog.open(folder.catalog) as catalog:
        assert catalog.client("acme").active  # type: ignore[union-attr]
    assert ask("incident", "close", "1", "--by", "x", "--reason", "again")[0] == 2
    assert [line["resumed"] for line in read(folder.audit, event="incident.closed")] == [True]


def test_who_cannot_be_signed_for_is_frozen_all_the_same(folder: DataFolder, ask: Ask) -> None:
    (folder.root.parent / "master.key").unlink()
    code, complaint = ask("incident", "open", "--person", "zoe", "--reason", "x")
    assert code == 3 and "nightsafe incident collect 1" in complaint
    assert not is_active(folder, "zoe") and list(folder.evidence.glob("incidents/1/bundle*")) == []


def test_wrong_use_freezes_nobody(folder: DataFolder, ask: Ask) -> None:
    for words in (("--reason", "x"), ("--person", "zoe", "--client", "acme", "--reason", "x"), ("--person", "nobody", "--reason", "x")):
        assert ask("incident", "open", *words)[0] == 2
    assert ask("incident", "open", "--client", "nobody", "--reason", "x")[0] == 2
    assert ask("incident", "open", "--person", "zoe", "--reason", " ")[0] == 2
    assert ask("incident", "show", "7")[0] == 2 and ask("incident", "list")[1] == [] and is_active(folder, "zoe")


def test_findings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.incident.findings.MOST", 5)
    read_by_zoe = {"event": "paper.read", "person": "zoe", "client": "acme", "time": "2026-01-01T00:00:00Z"}
    records = [{**read_by_zoe, "path": f"/{n}", "paper": str(n), "address": f"192.0.2.{n}"} for n in range(20)]
    found = findings(records, Subject(person="zoe"))
    assert len(found.papers) == len(found.addresses) == 5 and found.left_out == 30 and found.events == 20
    assert len(list(look_around(records, Subject(person="zoe"), found))) == 20
