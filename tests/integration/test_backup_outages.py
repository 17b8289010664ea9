"""Real restic against a real S3 server through a proxy that harms single requests: what heals by itself, what is an outage, what is damage."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backup.bucket import BucketUnreachable
from backup.drill.run import run_drill
from backup.restore.papers import restore_papers
from backup.run import run_backup
from config.errors import Away, NightsafeError
from config.loading import Installation
from gateway.catalog import Run
from tests.integration.conftest import S3Server, make_installation
from tests.integration.drill_house import DrillHouse
from tests.integration.fault_proxy import FaultProxy, Rule, fault_proxy

pytestmark = pytest.mark.xdist_group("backup-outages")
GIVE_UP_SECONDS, SOON = 8.0, 4.0  # of standing still; restic itself would go on for a quarter of an hour
PATIENT_SECONDS = 60.0  # where it heals: a machine that is busy stands still too


@pytest.fixture(scope="module")
def house(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrillHouse]:
    root = tmp_path_factory.mktemp("outages")
    made = DrillHouse(make_installation(root, s3.settings(root, f"t-{secrets.token_hex(6)}")))
    made.fill(6)
    (made.folder.keys / "host").mkdir(exist_ok=True)
    made.save()
    yield made
    made.close()


@contextmanager
def harmed(house: DrillHouse, rule: Rule | None, give_up: float = GIVE_UP_SECONDS) -> Iterator[tuple[Installation, FaultProxy]]:
    """The installation with the proxy in front of its bucket."""
    settings = house.installation.settings
    with fault_proxy(settings.s3.endpoint, rule) as proxy:
        s3 = settings.s3.model_copy(update={"endpoint": proxy.endpoint})
        backup = settings.backup.model_copy(update={"stall_seconds": give_up})
        yield Installation(house.folder, settings.model_copy(update={"s3": s3, "backup": backup})), proxy


def backed_up(house: DrillHouse, rule: Rule, give_up: float = GIVE_UP_SECONDS, size: int = 200_000) -> tuple[Run, FaultProxy]:
    """A backup with something new in it, of so many bytes."""
    house.add_paper("acme", f"/inbox/{secrets.token_hex(8)}", os.urandom(size))
    with harmed(house, rule, give_up) as (installation, proxy):
        return run_backup(installation), proxy


def test_the_proxy_alone_harms_nothing(house: DrillHouse) -> None:
    done, proxy = backed_up(house, Rule("refuse", times=0))
    assert done.state == "passed"
    assert {method for method, _ in proxy.requests} >= {"GET", "HEAD", "PUT"}


HEALS = {
    "refused": Rule("refuse", "PUT", "/data/", times=2),
    "slow down": Rule("slow down", "PUT", "/data/", times=2),
    "slow down for the snapshot": Rule("slow down", "PUT", "/snapshots/", times=2),
    "the answer to a PUT of a pack is lost": Rule("lose the answer", "PUT", "/data/", times=2),
    "the answer to the PUT of the index is lost": Rule("lose the answer", "PUT", "/index/", times=1),
    "the answer to the PUT of the snapshot is lost": Rule("lose the answer", "PUT", "/snapshots/", times=1),
    "an answer is cut": Rule("cut", "GET", "/index/", times=1, after=10),
    "an answer is late": Rule("delay", "PUT", "/data/", times=1, after=2),
}


@pytest.mark.long
@pytest.mark.parametrize("rule", HEALS.values(), ids=HEALS)
def test_what_happens_once_or_twice_heals_and_the_backup_is_good(house: DrillHouse, rule: Rule) -> None:
    if rule.part == "/index/" and rule.harm == "cut":  # else it is read from the cache
        shutil.rmtree(house.folder.cache / "restic", ignore_errors=True)
    done, _ = backed_up(house, rule, PATIENT_SECONDS)
    assert rule.hit, "nothing was harmed"
    assert done.state == "passed", done.detail


# What is sent again and again is movement, until restic waits for longer: then it stands still. The first of the middle waits as long as it may.
LASTS = {
    "refused from the start": (Rule("refuse"), GIVE_UP_SECONDS),
    "slow down from the start": (Rule("slow down"), GIVE_UP_SECONDS),
    "refused in the middle": (Rule("refuse", "PUT", "/data/"), GIVE_UP_SECONDS),
    "slow down in the middle": (Rule("slow down", "PUT", "/data/"), SOON),
    "no answer to a PUT": (Rule("lose the answer", "PUT", "/data/"), SOON),
    "no answer in time": (Rule("delay", "PUT", "/data/", after=60), GIVE_UP_SECONDS),
}


@pytest.mark.long
@pytest.mark.parametrize(("rule", "give_up"), LASTS.values(), ids=LASTS)
def test_what_lasts_is_an_outage_that_may_be_tried_again_and_nothing_is_lost(house: DrillHouse, rule: Rule, give_up: float) -> None:
    with pytest.raises(Away):
        backed_up(house, rule, give_up, size=20_000)
    assert rule.hit
    run = house.catalog.runs("backup")[0]
    assert run.state == "failed" and run.snapshot is None
    assert run_backup(house.installation).state == "passed"


@pytest.mark.long
@pytest.mark.parametrize("harm", ["refuse", "slow down"])
def test_a_drill_against_a_service_that_goes_away_in_the_middle_gives_no_verdict(house: DrillHouse, harm: str) -> None:
    with harmed(house, Rule(harm, "GET", "/data/", spared=2)) as (installation, _):  # type: ignore[arg-type]
        done = run_drill(installation, "full")
    assert done.state == "inconclusive", done.detail["cause"]


@pytest.mark.long
def test_bits_that_flip_each_time_fail_the_drill(house: DrillHouse) -> None:
    with harmed(house, Rule("flip", "GET", "/data/", after=1000)) as (installation, _):
        done = run_drill(installation, "full")
    assert done.state == "failed", done.detail["cause"]


@pytest.mark.long
def test_no_wrong_byte_is_restored_through_a_bad_line(house: DrillHouse, tmp_path: Path) -> None:
    expected = {paper.path: house.contents[paper.id] for paper in house.catalog.papers(client="zeta", state="accepted")}
    target = tmp_path / "back"
    with harmed(house, Rule("flip", "GET", "/data/", after=1000)) as (installation, proxy), house.agent() as agent:
        for rule in (Rule("flip", "GET", "/data/", after=1000), Rule("cut", "GET", "/data/", after=500), None):
            proxy.rule = rule
            try:
                report = restore_papers(installation, "zeta", (), None, target, agent)
            except NightsafeError:
                report = None
            for path, content in expected.items():
                there = target / path[1:]
                assert not there.exists() or there.read_bytes() == content
    assert report is not None and report.exit_code == 0
    assert all((target / path[1:]).read_bytes() == content for path, content in expected.items())


def test_an_outage_at_the_first_question_is_told_as_one(house: DrillHouse) -> None:
    with harmed(house, Rule("slow down")) as (installation, _), pytest.raises(BucketUnreachable, match="SlowDown"):
        run_backup(installation)


@pytest.mark.long
def test_after_all_that_every_paper_is_there(house: DrillHouse) -> None:
    assert run_backup(house.installation).state == "passed"
    run = house.drill()
    assert run.state == "passed", run.detail["cause"]
