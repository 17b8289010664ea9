"""Faults around a backup that no other file has; docs/reference/faults.md lists them all. Real restic and S3."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from backup.bucket import BucketUnreachable
from backup.drill.run import run_drill
from backup.run import run_backup
from backup.upkeep.check import run_check
from backup.upkeep.forget import run_forget
from config.loading import Installation
from tests.integration.conftest import S3Server, make_installation
from tests.integration.drill_house import DrillHouse
from tests.integration.s3_parts import answering
from tests.integration.test_drill_faults import altered_objects

pytestmark = pytest.mark.xdist_group("backup-faults")
SLOW_DOWN = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
FORGET = "[forget]\nkeep_last = 1\nkeep_within_days = 0\n" + "".join(f"keep_{unit} = 0\n" for unit in ("daily", "weekly", "monthly", "yearly"))


@pytest.fixture(scope="module")
def house(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrillHouse]:
    root = tmp_path_factory.mktemp("faults")
    made = DrillHouse(make_installation(root, s3.settings(root, f"t-{secrets.token_hex(6)}") + FORGET))
    made.fill(6)
    made.save()
    yield made
    made.close()


def test_a_service_that_says_slow_down_is_out_of_reach_and_no_fault_of_the_backup(house: DrillHouse) -> None:
    with answering(503, SLOW_DOWN) as endpoint:
        settings = house.installation.settings
        busy = Installation(house.folder, settings.model_copy(update={"s3": settings.s3.model_copy(update={"endpoint": endpoint})}))
        with pytest.raises(BucketUnreachable, match="SlowDown"):
            run_backup(busy)
        assert run_drill(busy, "full").state == "inconclusive"


def test_a_truncated_index_fails_the_drill_and_the_check(house: DrillHouse) -> None:
    with altered_objects(house, "index", lambda data: data[: len(data) // 2]):
        run = house.drill()
        checked = run_check(house.installation)
    assert (run.state, checked.state) == ("failed", "failed"), (run.detail["cause"], checked.detail)
    assert house.drill().state == "passed"
    assert run_check(house.installation).state == "passed"


def test_a_vault_that_is_empty_is_saved_as_it_is_and_the_drill_names_every_paper(house: DrillHouse) -> None:
    away = house.folder.vault.with_name("unmounted")
    house.folder.vault.rename(away)
    house.folder.vault.mkdir()
    try:
        house.save()
        run = house.drill()
    finally:
        house.folder.vault.rmdir()
        away.rename(house.folder.vault)
    assert run.state == "failed"
    assert run.detail["by_cause"]["missing"] == 6
    house.save()
    assert house.drill().state == "passed"


def test_papers_that_come_while_it_is_read_make_no_backup_bad(house: DrillHouse) -> None:
    """Uploads go on all the while: the dump is older than all that is read after it."""
    stop = threading.Event()
    (house.folder.keys / "host").mkdir(exist_ok=True)

    def upload() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            house.add_paper("zeta", f"/inbox/meanwhile {number}", os.urandom(2000), age=timedelta())

    uploading = threading.Thread(target=upload)
    uploading.start()
    try:
        done = run_backup(house.installation)
    finally:
        stop.set()
        uploading.join()
    assert done.state == "passed", done.detail
    run = house.drill()
    assert run.state == "passed", run.detail["cause"]


@pytest.mark.long
def test_killed_in_the_middle_of_a_prune(house: DrillHouse) -> None:
    """SIGKILL of ours and, by the kernel, of restic; the next one clears up, and nothing is lost."""
    imports = "import sys; from config.loading import open_installation as o; from backup.upkeep.forget import run_forget"
    code = f"{imports}; run_forget(o(sys.argv[1]), confirmed='tests')"
    for pause in (0.0, 0.05, 0.2, 0.5):
        house.add_paper("acme", f"/inbox/{pause}", os.urandom(3_000_000))
        house.save()
        house.save()
        process = subprocess.Popen([sys.executable, "-c", code, str(house.folder.root)], stderr=subprocess.DEVNULL)
        with ExitStack() as stack:
            stack.callback(process.wait)
            stack.callback(process.kill)
            deadline = time.monotonic() + 240
            while b"prune" not in _children(process.pid):
                if process.poll() is not None or time.monotonic() > deadline:
                    break
                time.sleep(0.002)
            time.sleep(pause)
            children = _children_of(process.pid)
            process.send_signal(signal.SIGKILL)
            process.wait()
        while any(_is_alive(child) for child in children):  # the kernel kills restic with us, in its own time
            assert time.monotonic() < deadline + 60
            time.sleep(0.01)
        assert run_forget(house.installation, confirmed="the vault was emptied by the tests before").state == "passed"
        assert run_check(house.installation, whole=True).state == "passed"
        assert house.drill().state == "passed"


def _children_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def _is_alive(pid: str) -> bool:
    """Whether the process is there, if only to be reaped."""
    return Path(f"/proc/{pid}").exists()


def _children(pid: int) -> bytes:
    """The command lines of a process's children."""
    try:
        return b" ".join(Path(f"/proc/{child}/cmdline").read_bytes() for child in _children_of(pid))
    except OSError:
        return b""
