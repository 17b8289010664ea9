"""Advice of `doctor` and `status` that needs the roles, a bucket and restic: brought about on one whole installation, and followed as printed.

The steps are in an order in which each finds what it needs. What needs no running role is in `tests/integration/test_advice.py`.
"""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config.acl import Acl, set_acl
from gateway.catalog import Catalog
from gateway.store.ids import new_paper_id
from tests.e2e.house import House
from tests.integration.advice_parts import change_settings, check_pages, commands, pieces
from tests.integration.role_users import barracks

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.xdist_group("advice")]
LONG_AGO = datetime.now(UTC) - timedelta(days=400)


class Home:
    """An installation of which somebody reads the status, and does what it says."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.said = {"FILE…": "kit-a.txt kit-b.txt", "REASON": "'looked into it'", "SECONDS": "1"}

    def line(self, name: str) -> dict[str, Any] | None:
        """A line of the status that is not green and says what to do."""
        lines = json.loads(self.run("status", "--json").stdout)["lines"]
        return next((one for one in lines if one["name"] == name and one["colour"] != "green" and one["todo"]), None)

    def finding(self, subject: str, words: str = "") -> dict[str, Any] | None:
        """A finding of the doctor that is not good."""
        found = json.loads(self.run("doctor", "--json").stdout)
        return next((one for one in found if one["subject"] == subject and one["severity"] != "good" and words in one["text"]), None)

    def run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return self.house.run(*words)

    def follow(self, advice: str, *codes: int) -> None:
        """Run its commands as they stand, in the house; `nightsafe up` and Ctrl-C by the house itself."""
        check_pages(advice)
        assert pieces(advice)
        found = commands(advice)
        assert found, advice
        for command in found:
            for word, value in self.said.items():
                command = command.replace(word, value)
            words = shlex.split(command)
            assert words[0] == "nightsafe", command
            if words[1] == "up":
                self.house.stop()
                self.house.start()
                continue
            words = [str(self.house.home / word) if word.startswith("kit-") else word for word in words[1:]]
            done = self.run(*words)
            assert done.returncode in (codes or (0,)), f"{command}: {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}"

    def mends(self, name: str, words: str = "", *codes: int, by: str | None = None) -> None:
        """A line of the status says it, its advice (or `by`, which is on the page that it names) is followed, and it does not say it any more."""
        before = self.line(name)
        assert before is not None and words in before["text"], before
        self.follow(before["todo"], *codes)
        if by is not None:
            self.follow(by)
        after = self.line(name)
        assert after is None or (after["text"] != before["text"] and words not in after["text"]), after

    def catalog(self) -> Any:
        return closing(Catalog.open(self.house.data / "catalog.sqlite3"))

    def plant_run(self, job: str, state: str, **detail: Any) -> int:
        with self.catalog() as catalog:
            run: int = catalog.start_run(job, detail)
            catalog.finish_run(run, state, detail=detail)
            return run

    def alter(self, statement: str, *values: Any) -> None:
        """Behind the catalog's back."""
        with closing(sqlite3.connect(self.house.data / "catalog.sqlite3")) as base, base:
            base.execute(statement, values)


def not_running(home: Home) -> None:
    assert home.finding("algorithms", "not looked at")
    refused = home.finding("bucket", "does not run")
    assert refused and "nightsafe up" in refused["mend"]
    home.mends("roles", "not running")
    assert home.finding("bucket") is None and home.finding("algorithms", "not looked at") is None


def never_saved(home: Home) -> None:
    paper = home.house.home / "paper"
    paper.write_bytes(b"paper")
    home.house.sftp(f"put {paper} /inbox/paper")
    home.house.await_papers(1)
    home.mends("newest backup", "there is none")


def never_proven(home: Home) -> None:
    home.mends("proven backup", "never proven")


def never_tried_the_kit(home: Home) -> None:
    (home.house.home / "kit-a.txt").write_bytes(home.house.kit.read_bytes())
    (home.house.home / "kit-b.txt").write_bytes(home.run("kit", "show").stdout)
    home.mends("recovery kit", "never tried")


def the_kit_did_not_open(home: Home) -> None:
    home.plant_run("kit", "failed", identity=False)
    home.mends("recovery kit", "did not open")


def warned_of_algorithms(home: Home) -> None:
    found = home.finding("algorithms", "warns")
    assert found and 'algorithms = "strict"' in found["mend"]
    change_settings(home.house.data, "gateway", "algorithms", '"strict"')
    home.follow(found["mend"].split("; ", 2)[2])
    after = home.finding("algorithms", "warns")
    assert after is None or len(after["text"]) < len(found["text"]), after


def backlog(home: Home) -> None:
    home.house.stop()
    path = home.house.data / "spool" / "landed" / new_paper_id()
    path.write_bytes(b"no paper of ours")
    os.utime(path, (LONG_AGO.timestamp(),) * 2)
    before = home.line("backlog")
    assert before and "ingest does not run" in before["todo"]
    home.follow(before["todo"])
    home.house.wait(lambda: home.line("backlog") is None, 240, "the backlog stays")


def no_scan(home: Home) -> None:
    change_settings(home.house.data, "scan", "scanner", '"clamd"')
    (home.house.data / "run" / "scan.json").unlink(missing_ok=True)
    before = home.line("virus scan")
    assert before and "log lines of ingest" in before["todo"]
    change_settings(home.house.data, "scan", "scanner", '"off"')


def inconclusive(home: Home) -> None:
    home.plant_run("drill", "inconclusive", kind="sample", cause="S3 away")
    assert home.line("last drill")
    home.mends("proven backup", "inconclusive")
    assert home.line("last drill") is None


def failed_drill(home: Home) -> None:
    run = home.plant_run("drill", "failed", kind="sample", cause="1 bad")
    home.mends("last drill", f"number {run}", by="nightsafe drill run --full")


def papers_without_a_drill(home: Home) -> None:
    coverage = {"text": "1 of 2", "oldest_never": {"sealed_at": LONG_AGO.isoformat()}}
    home.plant_run("drill", "passed", kind="sample", drawn=1, coverage=coverage)
    home.mends("drilled so far")


def failed_check(home: Home) -> None:
    home.plant_run("check", "failed", cause="a pack is damaged")
    home.mends("check", "failed", by="nightsafe backup check --whole")


def no_check(home: Home) -> None:
    home.alter("DELETE FROM runs WHERE kind = 'check'")
    home.alter("UPDATE repositories SET created_at = ?", int(LONG_AGO.timestamp() * 1_000_000))
    home.mends("check", "do checks run?")


def stopped_forgetting(home: Home) -> None:
    home.plant_run("forget", "failed", error="papers went en masse")
    home.mends("forget", "en masse")


def part_of_a_check(home: Home) -> None:
    home.alter("DELETE FROM runs WHERE kind = 'check'")
    home.alter("UPDATE repositories SET created_at = ?", int(datetime.now(UTC).timestamp() * 1_000_000))
    home.mends("check", "nothing was read yet")


def not_offsite(home: Home) -> None:
    before = home.line("offsite")
    assert before and check_pages(before["todo"])


def no_s3(home: Home) -> None:
    """Where each role has a user of its own, nothing starts the embedded server."""
    here = home.house.data / "run" / "s3.json"
    aside = here.read_bytes()
    here.unlink()
    set_acl(home.house.data, Acl(7, {65534: 1}))
    before = home.line("roles")
    os.removexattr(home.house.data, "system.posix_acl_access")
    home.house.data.chmod(0o700)
    here.write_bytes(aside)
    assert before and "is no service of an installed" in before["todo"] and check_pages(before["todo"])


def stale_copy(home: Home) -> None:
    (home.house.home / "second").mkdir()
    home.house.environment |= {"NIGHTSAFE_SET_COPIES__SECOND__URL": str(home.house.home / "second")}
    home.mends("copy second", "there is no backup yet")


def unproven_copy(home: Home) -> None:
    home.mends("copy second", "never proven")


def damaged_copy(home: Home) -> None:
    home.plant_run("drill", "failed", kind="full", copy="second", cause="1 bad")
    home.mends("copy second", "newest drill failed", by="nightsafe drill run --full --from second")


def pending_destruction(home: Home) -> None:
    for words in (["client", "add", "gone"], ["backup", "run"]):
        assert home.run(*words).returncode == 0
    away = home.house.environment | {"NIGHTSAFE_SET_S3__ENDPOINT": "http://127.0.0.1:9", "NIGHTSAFE_SET_S3__CREDENTIALS_FILE": "/nowhere"}
    here, home.house.environment = home.house.environment, away
    destroyed = home.run("client", "destroy", "gone", "--yes", "gone", "--by", "the partners", "--reason", "it ended")
    home.house.environment = here
    assert destroyed.returncode == 3, destroyed.stderr.decode()
    home.mends("destruction", "gone: pending")


def failed_destruction(home: Home) -> None:
    home.alter("UPDATE destructions SET state = 'pending', proof = ? WHERE client = 'gone'", '{"holds": false}')
    home.mends("destruction", "the proof failed")


Step = Callable[[Home], None]
CASES: list[tuple[str, Step]] = [
    ("premises.roles", not_running),
    ("places._answers", not_running),
    ("door.check_algorithms", not_running),
    ("overview._judged", never_saved),
    ("overview._judged", never_proven),
    ("overview._kit", never_tried_the_kit),
    ("overview._kit", the_kit_did_not_open),
    ("door.check_algorithms", warned_of_algorithms),
    ("premises.backlog", backlog),
    ("premises.scan", no_scan),
    ("overview._last_drill", inconclusive),
    ("overview._last_drill", failed_drill),
    ("overview._coverage", papers_without_a_drill),
    ("overview._upkeep", failed_check),
    ("overview._upkeep", no_check),
    ("overview._upkeep", stopped_forgetting),
    ("overview._upkeep", part_of_a_check),
    ("overview._offsite", not_offsite),
    ("premises.roles", no_s3),
    ("overview._copy", stale_copy),
    ("overview._copy", unproven_copy),
    ("overview._copy", damaged_copy),
    ("overview._destructions", pending_destruction),
    ("overview._destructions", failed_destruction),
]
STEPS = list(dict.fromkeys(step for _, step in CASES))
CASES.append(("possessions._check_rights", lambda _: None))  # which has a test of its own below


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    house = House(tmp_path_factory.mktemp("advice"))
    house.environment |= {"NIGHTSAFE_DATA": str(house.data)}
    house.init()
    (house.data / "nightsafe.toml").write_text("")
    try:
        yield Home(house)
    finally:
        house.stop()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_advice_that_is_followed_mends(home: Home, step: Step) -> None:
    step(home)


def test_rights_that_were_changed_by_hand() -> None:
    with barracks() as camp:

        def rights() -> dict[str, Any]:
            found: list[dict[str, Any]] = json.loads(camp.run("root", "doctor", "--json").stdout)
            return next(one for one in found if one["subject"] == "rights")

        assert rights()["severity"] == "good"
        camp.installation.folder.keys.chmod(0o755)
        assert commands(rights()["mend"]) == ["nightsafe permissions apply"]
        assert camp.run("root", "permissions", "apply").returncode == 0
        assert rights()["severity"] == "good"
