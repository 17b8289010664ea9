"""The runbooks, followed: the very commands of each page, in a firm that has lost what the page is about. Real restic and S3."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.repositories.access import access
from backup.run import run_backup
from gateway.age import Identity
from gateway.audit import AuditLog, Event
from gateway.audit.read import read
from gateway.catalog import Catalog
from gateway.jail.tree import Tree
from gateway.keys.identities import identity_file
from gateway.keys.keyring import RESTIC_KIT
from gateway.keys.kit import KitValues, part_a, part_b
from gateway.keys.resealing import add_recovery
from tests.integration.conftest import S3Server, make_installation
from tests.integration.drill_house import DrillHouse

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("runbooks")]
PAGES = Path(__file__).parents[2] / "docs" / "how-to"
PAPERS = 5


def commands(page: str) -> list[str]:
    """The blocks of a page that are for a shell, in order."""
    blocks = re.findall(r"^( *)```sh\n(.*?)^ *```", (PAGES / f"{page}.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in blocks]


class Firm:
    """A firm with its kit in the safe: `base` is the folder that holds the data folder and what lies beside it."""

    def __init__(self, base: Path, s3: S3Server) -> None:
        self.base = base
        self.recovery = Identity.generate()
        self.s3, self.prefix = s3, f"t-{secrets.token_hex(6)}"
        self.house = DrillHouse(make_installation(base, s3.settings(base, self.prefix) + "[drill]\nself_test = false\n"))
        add_recovery(self.house.keyring, self.recovery.recipient, self.house.master, None)
        self.house.fill(PAPERS)
        run_backup(self.house.installation)
        (base / "part-a.txt").write_text(part_a(self.recovery, self.house.keyring))
        bucket = access(self.house.installation, "reader")
        password = self.house.keyring.open_secret(RESTIC_KIT, self.house.master).decode()
        values = KitValues(bucket.url("papers"), bucket.url("keys"), password, bucket.access_key, bucket.secret_key, bucket.region)
        (base / "part-b.txt").write_text(part_b(values, self.house.keyring))

    def follow(self, page: str, *, until: int | None = None, start: int = 0, at: datetime | None = None) -> str:
        """What a shell prints that is given the page's commands, one block after the other; it ends with the first that fails. `at` is put in the
        place of the page's moments."""
        tools = self.base / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "nightsafe").write_text(f'#!/bin/sh\nexec {sys.executable} -m nightsafe "$@"\n')
        (tools / "nightsafe").chmod(stat.S_IRWXU)
        script = "\n".join(commands(page)[start:until]).replace("/srv/nightsafe", str(self.base))
        if at is not None:
            script = re.sub(r"--at \S+", f"--at {at:%Y-%m-%dT%H:%M:%SZ}", script)
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "NIGHTSAFE_DATA": str(self.base / "data")}
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=self.base, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def accepted(self) -> int:
        with Catalog.open(self.base / "data" / "catalog.sqlite3") as catalog:
            return catalog.count_papers(state="accepted")[0]

    def names(self, client: str) -> dict[str, bytes]:
        """What each name of a client stands for now."""
        with Tree(self.house.folder.jail(client)) as tree:
            return {str(path): self.house.contents[pointer.paper] for path, pointer, _ in tree.pointers()}

    def newest_drill(self) -> str:
        with Catalog.open(self.base / "data" / "catalog.sqlite3") as catalog:
            return next(iter(catalog.runs("drill", 1))).state


@pytest.fixture
def firm(tmp_path: Path, s3: S3Server) -> Iterator[Firm]:
    made = Firm(tmp_path / "firm", s3)
    with contextlib.closing(made.house):
        yield made


LEDGER = "/inbox/2026/ledger.xlsx"


@pytest.fixture
def ledger(firm: Firm) -> list[bytes]:
    """Three versions of one paper, in a backup."""
    versions = [secrets.token_bytes(100) for _ in range(3)]
    for content in versions:
        firm.house.add_paper("acme", LEDGER, content)
    run_backup(firm.house.installation)
    return versions


def test_one_file_lost(firm: Firm, ledger: list[bytes]) -> None:
    """The client deleted it; then the disk lost it, too."""
    before, (lost, *_) = firm.names("acme"), reversed(firm.house.catalog.versions("acme", LEDGER))
    name = firm.house.folder.jail("acme") / LEDGER[1:]
    name.unlink()
    firm.follow("restore-papers", until=1)
    assert (firm.base / "ledger.xlsx").read_bytes() == ledger[2]
    sealed = firm.house.vault_file(lost)
    kept = sealed.read_bytes()
    sealed.unlink()
    name.parent.rmdir()
    firm.follow("restore-papers", start=1, until=2, at=datetime.now(UTC))
    assert sealed.read_bytes() == kept and firm.names("acme") == before


def test_a_folder_encrypted_by_malware(firm: Firm, ledger: list[bytes]) -> None:
    """Every name overwritten with rubbish, new names beside them, and a backup of it all."""
    before = firm.names("acme")
    time.sleep(1.1)  # the page's moments are whole seconds
    good = datetime.now(UTC)
    time.sleep(1.1)
    for path in (*before, LEDGER + ".locked"):
        firm.house.add_paper("acme", path, b"rubbish" + secrets.token_bytes(20), age=timedelta())
    run_backup(firm.house.installation)
    assert firm.names("acme")[LEDGER].startswith(b"rubbish")
    told = firm.follow("restore-papers", start=2, until=6, at=good)
    assert "acme" in told
    after = firm.names("acme")
    assert after.pop(LEDGER + ".locked").startswith(b"rubbish"), "what the malware invented stays until the client deletes it"
    assert after == before and before[LEDGER] == ledger[2]
    assert len(firm.house.catalog.versions("acme", LEDGER)) == 4, "nothing is lost, the rubbish included"
    assert firm.house.catalog.client("acme").active  # type: ignore[union-attr]


def test_papers_read_elsewhere(firm: Firm, ledger: list[bytes]) -> None:
    firm.follow("restore-papers", start=6, at=datetime.now(UTC))
    assert (firm.base / "back" / LEDGER[1:]).read_bytes() == ledger[2]
    for folder in ("everything", "back-then"):
        assert (firm.base / folder / "acme" / LEDGER[1:]).read_bytes() == ledger[2]
        assert os.listdir(firm.base / folder / "zeta")


def test_a_lost_machine(firm: Firm) -> None:
    shutil.rmtree(firm.base / "data")
    (firm.base / "master.key").unlink()
    told = firm.follow("recover-a-lost-machine")
    assert "installation.restored" in told
    assert (firm.accepted(), firm.newest_drill()) == (PAPERS, "passed")


def test_a_lost_bucket(firm: Firm) -> None:
    settings = firm.base / "data" / "nightsafe.toml"
    settings.write_text(settings.read_text().replace(firm.prefix, firm.prefix + "-new"))
    refused = subprocess.run([sys.executable, "-m", "nightsafe", "backup", "run", "--data", str(firm.base / "data")], capture_output=True, text=True)
    assert refused.returncode == 1 and "does not hold the repository" in refused.stderr
    old = (firm.base / "part-b.txt").read_text()
    firm.follow("recover-a-lost-bucket")
    assert (firm.accepted(), firm.newest_drill()) == (PAPERS, "passed")
    new = (firm.base / "part-b.txt").read_text()
    assert f"{firm.prefix}-new/papers" in new and f"{firm.prefix}-new/papers" not in old
    assert [line["event"] for line in read(firm.base / "data" / "audit", event="repository.given_up")], "who gave the old ones up is on record"
    again = [sys.executable, "-m", "nightsafe", "backup", "begin-anew", "--reason", "by mistake", "--data", str(firm.base / "data")]
    assert subprocess.run(again, capture_output=True).returncode == 2, "nothing is given up that is there"


def test_a_lost_master(firm: Firm) -> None:
    (firm.base / "master.key").unlink()
    (firm.base / "part-a.txt").write_bytes(identity_file(firm.recovery).encode())
    firm.follow("recover-lost-keys", start=1)
    assert (firm.accepted(), firm.newest_drill()) == (PAPERS, "passed")


def test_nobody_is_left_who_knows(firm: Firm) -> None:
    told = firm.follow("carry-on-without-the-operator", start=1)
    assert "escrow" in told and firm.newest_drill() == "passed"


def test_an_incident(firm: Firm) -> None:
    firm.house.catalog.add_person("zoe", role="staff", clients=["acme"])
    with AuditLog(firm.base / "data" / "audit", "gateway") as log:
        log.append(Event.PAPER_READ, person="zoe", person_role="staff", client="acme", path="/inbox/a.pdf", paper="1", address="198.51.100.9")
    told = firm.follow("handle-an-incident")
    assert "person zoe is frozen" in told and "the client acme: touched 1 time" in told and "findings.html: OK" in told
    assert 'Good "audit@nightsafe" signature' in told and "zoe may log in again" in told
    events = {line["event"] for line in read(firm.base / "data" / "audit")}
    assert events >= {"incident.opened", "person.suspended", "address.banned", "hold.set", "incident.closed", "person.resumed"}
    assert firm.house.catalog.existing_person("zoe").active and len(firm.house.catalog.holds("acme")) == 1


def test_a_restore_without_nightsafe(firm: Firm) -> None:
    """With restic and age alone; the page has the pages of the kit under names of its own."""
    away = firm.base / "away"
    away.mkdir()
    (away / "kit-a.txt").write_text((firm.base / "part-a.txt").read_text())
    (away / "kit-b.txt").write_text((firm.base / "part-b.txt").read_text())
    blocks = [block for block in commands("restore-without-nightsafe") if "sed -n" in block or "sh restore.sh kit-a.txt back\n" in block]
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", "\n".join(blocks)], cwd=away, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    named = list(firm.house.catalog.papers(state="accepted"))
    for paper in named:
        assert (away / "back" / paper.client / paper.path[1:]).read_bytes() == firm.house.contents[paper.id]


def test_each_page_of_the_table_is_there() -> None:
    table = (PAGES / "when-something-is-lost.md").read_text("utf-8")
    assert all((PAGES / name).exists() for name in re.findall(r"\]\(([a-z-]+\.md)", table))
    assert json.dumps(commands("recover-a-lost-machine"))
