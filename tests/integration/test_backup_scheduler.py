"""The scheduler: it catches up once, goes on after failures, keeps drills out of the way of backups, and ends when told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backup.clock.lanes import Job, Lane
from backup.clock.pings import Pinger
from backup.restic import Unreachable
from backup.scheduler import DRILLS, lanes_of, reconcile, serve, usual_jobs
from config.errors import Busy, OutOfReach
from config.loading import Installation
from config.roles import exclusive, role_state, running_role
from config.settings import CopySettings, Settings
from gateway.catalog import Catalog, Run
from gateway.catalog.rows import RunKind
from gateway.keys.secrets import RoleSecrets

YEARLY = "0 0 1 1 *"
NOW = datetime.now(UTC)
# A job that leaves a line instead of backing up; the real ones are tested elsewhere.
SERVE = """
import sys
from pathlib import Path
from backup.clock.lanes import Job
from backup.scheduler import serve
from config.loading import open_installation
from config.logging import set_up_logging
from gateway.catalog import Catalog
from gateway.keys.secrets import RoleSecrets
installation = open_installation(sys.argv[1])
def run():
    Path(sys.argv[2]).write_text("begun")
    with Catalog.open(installation.folder.catalog) as catalog:
        return catalog.finish_run(catalog.start_run("backup", {}), "passed", snapshot="a" * 64)
set_up_logging("scheduler")
serve(installation, RoleSecrets("scheduler", {}), [Job("backup", "0 0 1 1 *", run)])
"""


@pytest.fixture
def installation(new_installation: Callable[[str], Installation]) -> Installation:
    """One without a bucket: nothing here asks for it."""
    return new_installation("")


class Told(Pinger):
    """Keeps what would be told."""

    def __init__(self) -> None:
        super().__init__({}, 1)
        self.heard: list[tuple[str, str, str]] = []

    def tell(self, job: str, what: Any, body: str = "") -> None:
        self.heard.append((job, what, body))


class World:
    """Jobs that leave a line, in real lanes, with a time of day that a test may set."""

    def __init__(self, installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
        self.installation = installation
        self.lines: list[str] = []
        self.jobs: list[Job] = []
        self.told = Told()
        self.ahead = timedelta(0)
        monkeypatch.setattr("backup.clock.lanes._now", lambda: datetime.now(UTC) + self.ahead)
        monkeypatch.setattr("backup.clock.lanes.TICK_SECONDS", 0.02)

    def job(self, kind: RunKind, fault: Exception | None = None, *, lane: str = "", until: threading.Event | None = None, rule: str = YEARLY) -> None:
        def run() -> Run:
            self.lines.append(kind)
            with Catalog.open(self.installation.folder.catalog) as catalog:
                number = catalog.start_run(kind, {})
                if until is not None:
                    assert until.wait(240)
                state = "passed" if fault is None else "failed"
                done = catalog.finish_run(number, state, snapshot="a" * 64)  # type: ignore[arg-type]
            self.lines.append(f"{kind} ends")
            if fault is not None:
                raise fault
            return done

        self.jobs.append(Job(kind, rule, run, lane=lane))

    @contextmanager
    def running(self) -> Iterator[list[Lane]]:
        stop = threading.Event()
        lanes = lanes_of(self.installation, self.jobs, stop, self.told)
        for lane in lanes:
            lane.start()
        try:
            yield lanes
        finally:
            stop.set()
            for lane in lanes:
                lane.join(240)
                assert not lane.is_alive()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 240
        while not condition():
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.01)

    def caught_up(self, lanes: list[Lane]) -> None:
        """Until every lane has looked."""
        self.until(lambda: all(lane.caught_up.is_set() for lane in lanes))


@pytest.fixture
def world(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(installation, monkeypatch)


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


def test_missed_slots_are_caught_up_once(world: World) -> None:
    made(world.installation, NOW - timedelta(days=900))
    ran(world.installation, "backup", NOW - timedelta(days=800))
    world.job("backup")
    with world.running() as lanes:
        world.caught_up(lanes)
        time.sleep(0.3)
    assert world.lines == ["backup", "backup ends"], "two slots were missed, one run catches up"
    with world.running() as lanes:
        world.caught_up(lanes)
    assert len(world.lines) == 2, "nothing is due any more"


def test_a_new_installation_has_missed_nothing(world: World) -> None:
    world.job("backup")
    world.job("drill", lane=DRILLS)
    with world.running() as lanes:
        world.caught_up(lanes)
    assert world.lines == []


def test_an_interrupted_run_does_not_count(world: World) -> None:
    made(world.installation, NOW - timedelta(days=900))
    ran(world.installation, "backup", NOW - timedelta(days=800))
    ran(world.installation, "backup", NOW - timedelta(seconds=5), "interrupted")
    world.job("backup")
    with world.running() as lanes:
        world.caught_up(lanes)
    assert world.lines == ["backup", "backup ends"]


FAULTS = {"error": (OutOfReach("no restic", "install it"), "no restic"), "defect": (ZeroDivisionError("a defect"), "ZeroDivisionError")}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS)
def test_a_failing_job_stops_neither_the_other_nor_the_lane(world: World, fault: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    made(world.installation, NOW - timedelta(days=900))
    world.job("backup", fault)
    world.job("check")
    with world.running() as lanes:
        world.caught_up(lanes)
        assert all(lane.is_alive() for lane in lanes)
        time.sleep(0.1)
    assert world.lines == ["backup", "backup ends", "check", "check ends"], "and what was no outage is not tried again"
    assert said in (logged := "".join(capsys.readouterr()))
    assert "until = " not in logged, "no local variables in the log"
    assert [(job, what) for job, what, _ in world.told.heard] == [("backup", "start"), ("backup", "fail"), ("check", "start"), ("check", "success")]


def test_after_an_outage_it_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backup.clock.agenda.Patience.wait", lambda _self, _tries: 0.05)
    made(world.installation, NOW - timedelta(days=900))
    world.job("backup", Unreachable("away", "wait"))
    with world.running():
        world.until(lambda: world.lines.count("backup ends") >= 3)
    assert [what for _, what, _ in world.told.heard][:3] == ["start", "log", "log"], "an outage is no failure while it is tried again"


def test_a_drill_that_takes_hours_delays_no_backup(world: World) -> None:
    made(world.installation, NOW - timedelta(days=900))
    end = threading.Event()
    world.job("backup")
    world.job("drill", lane=DRILLS, until=end)
    with world.running():
        world.until(lambda: "drill" in world.lines)
        assert world.lines[:3] == ["backup", "backup ends", "drill"], "first save, then prove"
        world.ahead = timedelta(days=367)
        world.until(lambda: world.lines.count("backup ends") == 2)
        assert "drill ends" not in world.lines
        end.set()
    assert world.lines[-1] == "drill ends", "what was under way was waited for"


def test_jobs_of_a_lane_run_one_after_another(world: World) -> None:
    made(world.installation, NOW - timedelta(days=900))
    end = threading.Event()
    world.job("backup", until=end)
    world.job("check")
    with world.running():
        world.until(lambda: world.lines == ["backup"])
        time.sleep(0.1)
        assert world.lines == ["backup"]
        end.set()
        world.until(lambda: "check" in world.lines)


def test_a_slot_that_comes_is_run_and_a_clock_that_is_set_back_does_not_stop_the_next(world: World) -> None:
    world.job("backup", rule="every 2 hours")
    with world.running() as lanes:
        world.caught_up(lanes)
        assert world.lines == []
        [(_, agenda)] = lanes[0]._jobs
        for count, passed in enumerate((timedelta(hours=2), timedelta(days=300), timedelta(days=300, hours=2)), 1):
            world.ahead = passed
            world.until(lambda count=count: world.lines.count("backup ends") == count)  # type: ignore[misc]
        world.ahead = timedelta(0)
        world.until(lambda: agenda.since <= datetime.now(UTC))
        world.ahead = timedelta(hours=2)
        world.until(lambda: world.lines.count("backup ends") == 4)


def test_the_role_catches_up_and_ends_when_told(installation: Installation) -> None:
    made(installation, NOW - timedelta(days=900))
    with Catalog.open(installation.folder.catalog) as catalog:
        catalog.start_run("backup", {})  # of a scheduler that was killed
    journal = installation.folder.root.parent / "journal"
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(installation.folder.root), str(journal)], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 240
        while not (journal.exists() and role_state(installation.folder, "scheduler")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said.decode()
    assert role_state(installation.folder, "scheduler") is None
    with Catalog.open(installation.folder.catalog) as catalog:
        assert [run.state for run in catalog.runs("backup")] == ["passed", "interrupted"]


def test_at_the_start_runs_of_the_dead_are_interrupted_and_those_of_the_living_are_not(installation: Installation) -> None:
    with Catalog.open(installation.folder.catalog) as catalog:
        runs = {kind: catalog.start_run(kind) for kind in ("backup", "copy", "forget", "drill", "check")}  # with our number, as in a new container
        with exclusive(installation.folder, "drill", ""):
            assert reconcile(installation) == 4
            assert {kind for kind, run in runs.items() if catalog.run(run).state == "running"} == {"drill"}
        assert reconcile(installation) == 1


def test_a_second_scheduler_is_refused(installation: Installation) -> None:
    with running_role(installation.folder, "scheduler"), pytest.raises(Busy):
        serve(installation, RoleSecrets("scheduler", {}), [])


def test_each_copy_is_drilled_by_its_own_schedule(installation: Installation) -> None:
    copies = {"nas": CopySettings(url="/mnt/nas"), "attic": CopySettings(url="/mnt/attic", drill_schedule="every 3 days"),
              "shelf": CopySettings(url="/mnt/shelf", drill_schedule="")}  # fmt: skip
    planned = Installation(installation.folder, installation.settings.model_copy(update={"copies": copies}))
    jobs = {job.label: job for job in usual_jobs(planned, RoleSecrets("scheduler", {}), threading.Event(), "drill") if job.kind == "drill"}
    assert {label: job.rule for label, job in jobs.items() if ":" in label} == {
        "drill:full": "0 2 1 * *", "drill:nas": "15 4 * * sun", "drill:attic": "every 3 days"
    }  # fmt: skip
    assert {job.lane for job in jobs.values()} == {DRILLS}
    with pytest.raises(ValueError, match="drill:full"):
        Settings.model_validate({"copies": {"full": {"url": "/mnt/full"}}})


def test_a_run_is_put_down_to_the_job_that_it_did() -> None:
    def done(of: Any, **detail: Any) -> Run:
        return Run(1, of, "passed", NOW, NOW, None, None, detail)

    def job(kind: Any, name: str) -> Job:
        return Job(kind, "* * * * *", lambda: done(kind), name)

    sample, full, copy = job("drill", ""), job("drill", "full"), job("copy", "nas")
    assert full.is_mine(done("drill", kind="full")) and sample.is_mine(done("drill", kind="full"))
    assert not full.is_mine(done("drill", kind="sample")) and not full.is_mine(done("drill", kind="full", copy="nas"))
    of_nas = job("drill", "nas")
    assert of_nas.is_mine(done("drill", kind="sample", copy="nas")) and of_nas.is_mine(done("drill", kind="full", copy="nas"))
    assert not of_nas.is_mine(done("drill", kind="sample")) and not sample.is_mine(done("drill", kind="sample", copy="nas"))
    assert copy.is_mine(done("copy", copy="nas")) and not copy.is_mine(done("copy", copy="attic"))
