"""`nightsafe up`: what it announces, how it mends what dies, and that nothing of it is left, whichever way it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.folder import DataFolder
from config.roles import role_state
from tests.e2e.complaints import assert_complains, events, log_is_clean, processes_of
from tests.e2e.house import CLIENT, ROOT, House, running_house

ROLES = ("gateway", "keyd", "ingest", "ingest-2", "scheduler", "s3")
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house that is up, with two processes of ingest, and whose log stays clean whatever the tests kill."""
    with running_house(tmp_path_factory.mktemp("supervised"), settings={"INGEST__PROCESSES": "2"}) as running:
        yield running
    log_is_clean(running)


def nothing_left(house: House, seconds: float = 240) -> None:
    """Within `seconds`, no process of the house is alive."""
    deadline = time.monotonic() + seconds
    while left := processes_of(house):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_the_ready_file_says_where_logins_work(house: House) -> None:
    ready = json.loads(house.ready_file.read_text())
    assert set(ready) == {"sftp", "s3", "pid"}
    assert ready["sftp"] == {"host": "127.0.0.1", "port": house.sftp_port}
    assert ready["s3"] == {"endpoint": (role_state(DataFolder(house.data), "s3") or {})["endpoint"]}
    assert Path(f"/proc/{ready['pid']}/cmdline").read_bytes().split(b"\0")[1:4] == [b"-m", b"nightsafe", b"up"]
    assert house.ready_file.stat().st_mode & 0o777 == 0o600
    assert "inbox" in house.sftp("ls").stdout


def test_no_secret_is_in_arguments_or_environments(house: House) -> None:
    pids = [house.pid(role) for role in ROLES]
    assert None not in pids
    for pid in pids:
        seen = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert b"AGE-SECRET-KEY" not in seen
        assert b"PRIVATE KEY" not in seen


@pytest.mark.parametrize("role", ROLES)
def test_a_killed_role_comes_back_where_it_was(house: House, role: str, tmp_path: Path) -> None:
    before = role_state(DataFolder(house.data), role)
    assert before is not None
    house.kill(role)
    house.wait(lambda: house.pid(role) not in (None, before["pid"]), 40, f"{role} did not come back")
    after = role_state(DataFolder(house.data), role)
    assert after is not None
    told = ("port", "endpoint", "host")
    assert [after.get(name) for name in told] == [before.get(name) for name in told]
    (tmp_path / "paper").write_text(role)
    papers = house.json("client", "show", CLIENT)["papers"]
    house.sftp(f"put {tmp_path}/paper inbox/after-{role}.txt", f"get inbox/after-{role}.txt {tmp_path}/back")
    assert (tmp_path / "back").read_text() == role
    house.await_papers(papers + 1)


def test_the_log_says_what_died(house: House) -> None:
    died = [line["died"] for line in events(house, "role.died")]
    assert set(died) == set(ROLES)
    assert all(line["code"] == -signal.SIGKILL for line in events(house, "role.died"))


def test_a_second_up_is_refused_and_leaves_the_first_alone(house: House) -> None:
    pids = [house.pid(role) for role in ROLES]
    done = house.run("up", "--ready-file", str(house.ready_file))
    assert_complains(done, 4, "'up' already runs", "stop it first")
    assert [house.pid(role) for role in ROLES] == pids
    assert house.ready_file.exists()


@pytest.mark.long
def test_of_two_started_at_once_one_wins(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.init()
    command = [sys.executable, "-m", "nightsafe", "up", "--data", str(house.data), "--sftp-host", "127.0.0.1", "--sftp-port", "0"]
    both = [subprocess.Popen(command, env=house.environment, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    deadline = time.monotonic() + 240
    while all(one.poll() is None for one in both):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    loser, winner = sorted(both, key=lambda one: one.poll() is None)
    assert winner.poll() is None
    done = subprocess.CompletedProcess(command, loser.wait(), b"", loser.stderr.read() if loser.stderr else b"")
    assert_complains(done, 4, "'up' already runs")
    house.wait(lambda: house.pid("gateway") is not None, 240, "the winner is not ready")
    winner.send_signal(signal.SIGTERM)
    _, told = winner.communicate(timeout=240)
    assert winner.returncode == 0, told.decode()
    assert b"Traceback" not in told
    nothing_left(house, 10)


@pytest.mark.long
@pytest.mark.parametrize("until", ["s3", "keyd", "ingest", "scheduler", ""])
def test_sigterm_in_the_middle_of_the_start(until: str, stopped_early: House) -> None:
    """Sent when this role is ready (or, at first, when the first role was started): it ends well, and nothing runs."""
    house = stopped_early
    with house.log.open("wb") as log:
        command = [sys.executable, "-m", "nightsafe", "up", "--data", str(house.data), "--sftp-port", "0", "--ready-file", str(house.ready_file)]
        process = subprocess.Popen(command, env=house.environment, cwd=ROOT, stdout=log, stderr=log)
    deadline = time.monotonic() + 240
    while (house.pid(until) is None) if until else not any(" s3 " in line for line in processes_of(house)):
        assert process.poll() is None and time.monotonic() < deadline, house.tail()
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    assert process.wait(240) == 0, house.tail()
    nothing_left(house, 10)
    assert not house.ready_file.exists()
    assert not list((house.data / "run").glob("*.json"))
    log_is_clean(house)


@pytest.fixture(scope="module")
def stopped_early(tmp_path_factory: pytest.TempPathFactory) -> House:
    """An installation whose `up` never gets far."""
    house = House(tmp_path_factory.mktemp("early"))
    house.init()
    return house


def no_host_key(house: House) -> None:
    """The last role to start cannot."""
    (house.data / "keys" / "host" / "ssh_host_ed25519_key").unlink()


def s3_in_data(house: House) -> None:
    """The first role to start cannot."""
    house.environment["NIGHTSAFE_SET_S3__FOLDER"] = "vault"


@pytest.mark.parametrize(("role", "spoil"), [("s3", s3_in_data), ("gateway", no_host_key)])
def test_one_role_cannot_start(tmp_path: Path, stopped_early: House, role: str, spoil: Callable[[House], None]) -> None:
    """`up` ends with the role's own exit code and message; no other role is left behind."""
    house = House(tmp_path, stopped_early.data)
    house.environment = dict(stopped_early.environment)
    spoil(house)
    done = house.run("up", "--sftp-host", "127.0.0.1", "--sftp-port", "0", "--ready-file", str(house.ready_file))
    assert_complains(done, 2, f"the role '{role}' ended before it was ready", lines=4)
    assert processes_of(stopped_early) == []
    assert not house.ready_file.exists()
    assert not list((house.data / "run").glob("*.json"))


def test_sigkill_of_up_leaves_no_role_alive_and_nothing_in_the_way(house: House) -> None:
    pids = [house.pid(role) for role in ROLES]
    assert None not in pids
    assert house._up is not None
    os.kill(house._up.pid, signal.SIGKILL)
    house._up.wait()
    house._up = None
    nothing_left(house)
    assert all(house.pid(role) is None for role in ROLES)
    port = house.sftp_port
    house.start()
    assert json.loads(house.ready_file.read_text())["pid"] == house._up.pid
    assert house.sftp_port == port
    assert "inbox" in house.sftp("ls").stdout


def test_the_ready_file_goes_with_sigterm(house: House) -> None:
    house.stop()
    assert not house.ready_file.exists()
    nothing_left(house, 10)
