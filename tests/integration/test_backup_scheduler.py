"""The scheduler as a running role: it catches up once, goes on after failures, and ends when told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.scheduler import Job
from config.errors import Busy
from config.loading import Installation
from config.roles import role_state, running_role
from gateway.catalog import Catalog, Run

# Jobs that leave a line instead of backing up; the real ones are tested elsewhere. The cron of `never` lies far away.
SERVE = """
import sys, time
from pathlib import Path
from backup.scheduler import Job, serve
from config.errors import OutOfReach
from config.loading import open_installation
from gateway.catalog import Catalog
installation = open_installation(sys.argv[1])
journal = Path(sys.argv[2])
def job(name, state):
    def run():
        with journal.open("a") as file:
            file.write(name + "\\n")
        if state == "raise":
            raise OutOfReach("the S3 service cannot be reached", "wait")
        if state == "defect":
            raise ZeroDivisionError("a defect")
        with Catalog.open(installation.folder.catalog) as catalog:
            number = catalog.start_run(name, {})
            if state == "slow":
                time.sleep(1.5)
            return catalog.finish_run(number, "passed", snapshot="a" * 64)
    return run
from config.logging import set_up_logging
from gateway.keys.secrets import RoleSecrets
set_up_logging("scheduler")
wanted = [one.split("=") for one in sys.argv[3].split(",")]
serve(installation, RoleSecrets("scheduler", {}), [Job(name, sys.argv[4], job(name, state)) for name, state in wanted])
"""
YEARLY = "0 0 1 1 *"


class Scheduler:
    def __init__(self, installation: Installation, journal: Path, jobs: str, cron: str) -> None:
        self.installation, self.journal = installation, journal
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(installation.folder.root), str(journal), jobs, cron], stderr=subprocess.PIPE
        )

    @property
    def lines(self) -> list[str]:
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[1].decode()
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.02)

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, said.decode()
        return said.decode()


@pytest.fixture
def start(installation: Installation, tmp_path: Path):  # type: ignore[no-untyped-def]
    """A function that starts a scheduler on the installation; those that are left are killed."""
    started = []

    def begin(jobs: str, cron: str = YEARLY) -> Scheduler:
        started.append(Scheduler(installation, tmp_path / "journal", jobs, cron))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def made(installation: Installation, moment: datetime) -> None:
    """The installation was made at `moment`."""
    os.utime(installation.folder.version_file, (moment.timestamp(), moment.timestamp()))


def ran(installation: Installation, kind: str, moment: datetime, state: str = "passed") -> None:
    """A run was started at `moment`."""
    from sqlalchemy import create_engine, update

    from gateway.catalog import tables

    with Catalog.open(installation.folder.catalog) as catalog:
        number = catalog.start_run(kind, {})  # type: ignore[arg-type]
        catalog.finish_run(number, state)  # type: ignore[arg-type]
    engine = create_engine(f"sqlite:///{installation.folder.catalog}")
    with engine.begin() as connection:
        connection.execute(update(tables.runs).where(tables.runs.c.id == number).values(started_at=moment))
    engine.dispose()


def backups(installation: Installation) -> list[Run]:
    with Catalog.open(installation.folder.catalog) as catalog:
        return catalog.runs("backup")


NOW = datetime.now(UTC)


def test_missed_slots_are_caught_up_once(installation: Installation, start: Callable[..., Scheduler]) -> None:
    made(installation, NOW - timedelta(days=900))
    ran(installation, "backup", NOW - timedelta(days=800))
    scheduler = start("backup=passed")
    scheduler.until(lambda: len(scheduler.lines) == 1)
    time.sleep(1)
    assert scheduler.lines == ["backup"], "two slots were missed, one run catches up"
    scheduler.stop()
    again = start("backup=passed")
    again.until(lambda: role_state(installation.folder, "scheduler") is not None)
    time.sleep(1)
    assert again.lines == ["backup"], "nothing is due any more"
    again.stop()


def test_a_new_installation_has_missed_nothing(installation: Installation, start: Callable[..., Scheduler]) -> None:
    scheduler = start("backup=passed,drill=passed")
    scheduler.until(lambda: role_state(installation.folder, "scheduler") is not None)
    time.sleep(1)
    assert scheduler.lines == []
    scheduler.stop()
    assert role_state(installation.folder, "scheduler") is None


def test_an_interrupted_run_does_not_count(installation: Installation, start: Callable[..., Scheduler]) -> None:
    made(installation, NOW - timedelta(days=900))
    ran(installation, "backup", NOW - timedelta(days=800))
    ran(installation, "backup", NOW - timedelta(seconds=5), "interrupted")
    scheduler = start("backup=passed")
    scheduler.until(lambda: scheduler.lines == ["backup"])
    scheduler.stop()


@pytest.mark.parametrize("fault", ["raise", "defect"])
def test_a_failing_job_stops_neither_the_other_nor_the_scheduler(fault: str, installation: Installation, start: Callable[..., Scheduler]) -> None:
    made(installation, NOW - timedelta(days=900))
    scheduler = start(f"backup={fault},drill=passed")
    scheduler.until(lambda: sorted(scheduler.lines) == ["backup", "drill"])
    time.sleep(0.5)
    said = scheduler.stop()
    assert ("cannot be reached" if fault == "raise" else "ZeroDivisionError") in said
    assert "journal = " not in said, "no local variables in the log"


def test_jobs_run_one_after_another_and_are_waited_for(installation: Installation, start: Callable[..., Scheduler]) -> None:
    made(installation, NOW - timedelta(days=900))
    scheduler = start("backup=slow,drill=slow")
    scheduler.until(lambda: len(scheduler.lines) == 1)
    time.sleep(0.5)
    assert len(scheduler.lines) == 1
    scheduler.stop()
    with Catalog.open(installation.folder.catalog) as catalog:
        assert [run.state for run in catalog.runs()][:1] == ["passed"], "what was under way was finished"


def test_a_slot_that_comes_is_run(installation: Installation, start: Callable[..., Scheduler]) -> None:
    """Cron counts in minutes, so this waits for the next one; the machine's clock is left alone."""
    if datetime.now(UTC).second > 50:
        time.sleep(11)
    scheduler = start("backup=passed", "* * * * *")
    scheduler.until(lambda: role_state(installation.folder, "scheduler") is not None)
    deadline = time.monotonic() + 75
    while not [run for run in backups(installation) if run.state == "passed"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    scheduler.stop()


def test_a_second_scheduler_is_refused(installation: Installation) -> None:
    from backup.scheduler import serve
    from gateway.keys.secrets import RoleSecrets

    with running_role(installation.folder, "scheduler"), pytest.raises(Busy):
        serve(installation, RoleSecrets("scheduler", {}), [])


def test_a_run_is_put_down_to_the_job_that_it_did() -> None:
    def done(of: Any, **detail: Any) -> Run:
        return Run(1, of, "passed", NOW, NOW, None, None, detail)

    def job(kind: Any, name: str) -> Job:
        return Job(kind, "* * * * *", lambda: done(kind), name)

    sample, full, copy = job("drill", ""), job("drill", "full"), job("copy", "nas")
    assert full.is_mine(done("drill", kind="full")) and sample.is_mine(done("drill", kind="full"))
    assert not full.is_mine(done("drill", kind="sample")) and not full.is_mine(done("drill", kind="full", copy="nas"))
    assert copy.is_mine(done("copy", copy="nas")) and not copy.is_mine(done("copy", copy="attic"))
