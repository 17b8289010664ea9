"""An hour of weather (`--soak-seconds 3600`; four minutes in the long tier): fifty clients at work, backups and drills by the clock, roles killed,
the disk full for a minute, the clock set wrong. At the end every paper is accounted for, memory is flat, no descriptor is left, every line of the log
is explained.

    python -m pytest --full -s --timeout 0 tests/soak/test_soak.py --soak-seconds 3600
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from config.errors import Exit
from config.folder import DataFolder
from gateway.catalog import Catalog
from gateway.catalog.rows import RunKind
from tests.e2e.faults import Faults, fault_prone_house
from tests.e2e.house import House
from tests.soak import accounts
from tests.soak.crowd import SIZE, Crowd
from tests.soak.explained import unexplained
from tests.soak.town import add_clients
from tests.soak.watch import Growth, Watch, growths
from tests.soak.weather import Troublemaker

NAMES = [f"c{number:02}" for number in range(SIZE)]
KILLING = 0.3  # of the time; the rest is for the other troubles
FULL = timedelta(minutes=1)
WORKED = 300.0  # seconds, in which everybody gets something done, however busy the machine is
CALM = 5.0  # seconds, of which the least counts
SHORT = 1200.0  # seconds; in less, backups and drills run more often
KINDS: tuple[RunKind, ...] = ("backup", "drill", "check", "forget")
pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module")
def soak_seconds(pytestconfig: pytest.Config) -> float:
    """How long the weather lasts."""
    return float(pytestconfig.getoption("--soak-seconds"))


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory, soak_seconds: float) -> Iterator[Faults]:
    """A house of fifty clients with a schedule, up."""
    with fault_prone_house(tmp_path_factory.mktemp("soak"), megabytes=1500 + int(soak_seconds)) as faults:
        house = faults.house
        often, rarely = ("every 1 minute", "every 1 minute") if soak_seconds < SHORT else ("every 2 minutes", "every 5 minutes")
        schedules = {"backup": often, "drill": often, "check": rarely, "forget": rarely}
        house.environment |= {f"NIGHTSAFE_SET_{job.upper()}__SCHEDULE": when for job, when in schedules.items()}
        house.environment |= {"NIGHTSAFE_SET_DRILL__SAMPLE": "40", "NIGHTSAFE_SET_GATEWAY__RESERVE_BYTES": str(64 << 20)}
        house.environment["NIGHTSAFE_SET_GATEWAY__MAX_UNAUTHENTICATED_PER_ADDRESS"] = "100"  # all of them come from one, and at once after a kill
        house.environment["NIGHTSAFE_SET_GATEWAY__LOGIN_SECONDS"] = "600"  # a machine that is busy is no reason to turn somebody away
        house.init()
        add_clients(DataFolder(house.data), NAMES, Path(f"{house.key}.pub"))
        house.start()
        yield faults


def test_nothing_is_lost_and_nothing_leaks(faults: Faults, soak_seconds: float) -> None:
    house, weather = faults.house, Troublemaker(faults, seed=7)
    crowd = Crowd(house, NAMES, seconds=5.0, seed=1000)
    with Watch(house.up_pid, seconds=2.0 if soak_seconds < SHORT else 10.0) as watch:
        began = time.monotonic()
        crowd.start()
        weather.kill_roles(soak_seconds * KILLING, apart=min(25.0, 4 + soak_seconds / 60))
        crowd.everybody_has_worked(WORKED)
        _scheduler_has_worked(faults, weather.last["scheduler"])
        _be_calm(faults, crowd)
        held, since = watch.held(CALM), time.monotonic()
        crowd.call_back()
        rest = soak_seconds - (time.monotonic() - began) - FULL.total_seconds()
        weather.trouble(rest / 2, apart=6.0)
        weather.once("full", FULL.total_seconds())
        weather.trouble(rest / 2, apart=6.0)
        weather.all_back()
        crowd.everybody_has_worked(WORKED)
        until = time.monotonic()
        _be_calm(faults, crowd)
        leaked = watch.leaked(held, seconds=180)
        grown = growths(watch.samples, since, until)
    crowd.stop()
    problems = [*crowd.ledger.wrong, *_account(faults, crowd, weather.done["ingest"]), *leaked]
    problems += [f"grew: {one}" for one in grown if not one.is_flat]
    lines = house.log.read_text(errors="replace").splitlines()
    problems += unexplained(lines, weather.done)
    _report(house.home, crowd, weather, grown, len(lines), problems)
    assert not problems, "\n".join(problems)
    assert {one.role for one in grown} >= {"up", "gateway", "keyd", "ingest", "scheduler", "s3"}, grown


def _scheduler_has_worked(faults: Faults, since: datetime) -> None:
    """It has done each of its jobs since it was killed last: what the first time takes of its memory stays."""

    def done() -> bool:
        with Catalog.open(faults.house.data / "catalog.sqlite3") as catalog:
            newest = [next(iter(run for run in catalog.runs(kind, 5) if run.ended_at), None) for kind in KINDS]
        return all(run is not None and run.started_at > since for run in newest)

    faults.house.wait(done, 900, "the scheduler does not do all of its jobs")


def _be_calm(faults: Faults, crowd: Crowd) -> None:
    """Nobody is inside, nothing is on its way."""
    crowd.send_home()
    folder = DataFolder(faults.house.data)
    faults.house.wait(lambda: not any(folder.spool_landed.iterdir()), 300, "papers are not sealed")
    faults.house.wait(lambda: not faults.house.json("sessions"), 180, "sessions are left")
    time.sleep(3)  # what a session held is given back a moment after it


def _account(faults: Faults, crowd: Crowd, cut_short: int) -> list[str]:
    house, folder, deposits = faults.house, DataFolder(faults.house.data), crowd.ledger.deposits
    papers = accounts.all_papers(folder)
    found = accounts.missing_and_strange(deposits, papers)
    found += accounts.misplaced(folder, papers, cut_short)
    found += accounts.bad_receipts(folder, papers)
    broken = sum(one.phase != "acknowledged" for one in deposits) + sum(count for what, count in crowd.ledger.done.items() if "break off" in what)
    found += accounts.leftovers(folder, broken)
    backup = _when_free(house, "backup", "run")
    if backup.returncode:
        found.append(f"the last backup: {backup.stderr.decode()}")
    drill = _when_free(house, "drill", "run", "--full")
    if drill.returncode or json.loads(drill.stdout)["state"] != "passed":
        found.append(f"the last drill: {drill.stdout.decode()}{drill.stderr.decode()}")
    verified = house.json("audit", "verify")
    found += [str(problem) for problem in verified["problems"]]
    found += [f"status: {line}" for line in house.json("status")["lines"] if line["colour"] == "red"]
    return found


def _when_free(house: House, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """A command that waits for what the scheduler does just then."""
    until = time.monotonic() + 600
    while (done := house.run(*arguments, "--json", timeout=1200)).returncode == Exit.BUSY and time.monotonic() < until:
        time.sleep(1)
    return done


def _report(home: Path, crowd: Crowd, weather: Troublemaker, grown: list[Growth], lines: int, problems: list[str]) -> None:
    """The closing lines, on the terminal (pytest -s) and in soak.txt."""
    ledger = crowd.ledger
    acknowledged = [one for one in ledger.deposits if one.phase == "acknowledged"]
    text = [
        f"{len(acknowledged)} papers acknowledged, {sum(one.size for one in acknowledged) >> 20} MiB; {len(ledger.deposits) - len(acknowledged)} not",
        f"done: {dict(sorted(ledger.done.items()))}",
        f"troubles: {dict(sorted(weather.done.items()))}; {lines} lines of the log",
        "what clients were told most:",
        *(f"  {count:5} {what}" for what, count in ledger.failed.most_common(12)),
        "memory:",
        *(f"  {one}" for one in grown),
        f"{len(problems)} problems" + (":" if problems else ""),
        *(f"  {one}" for one in problems),
    ]
    (home / "soak.txt").write_text("\n".join(text) + "\n")
    print("\n" + "\n".join(text))
