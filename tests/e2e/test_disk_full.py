"""A disk runs full: clients are told, nothing that was acknowledged is lost, and with space again everything goes on by itself."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.complaints import assert_complains, events, log_is_clean
from tests.e2e.disks import tmpfs
from tests.e2e.house import CLIENT, House

MIB = 1 << 20
RESERVE = 8 * MIB
pytestmark = pytest.mark.timeout(900)


def fill(folder: Path, leave: int = 0) -> None:
    """Fill the disk of `folder` but for `leave` bytes."""
    with (folder / "filler").open("ab", buffering=0) as filler, suppress(OSError):
        for size in (MIB, 4096):
            while (state := os.statvfs(folder)).f_bavail * state.f_frsize > leave + (size if leave else 0):
                filler.write(bytes(size))


def make_space(folder: Path) -> None:
    """Undo it."""
    (folder / "filler").unlink()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose data folder lies on a small disk of its own."""
    home = tmp_path_factory.mktemp("small")
    with tmpfs(home / "disk", "64m") as disk:
        house = House(home, disk / "data")
        house.environment["NIGHTSAFE_SET_GATEWAY__RESERVE_BYTES"] = str(RESERVE)
        house.init()
        try:
            house.start()
            house.prepare()
            yield house
        finally:
            house.stop()
        log_is_clean(house)


def content(number: int) -> bytes:
    """Of paper `number`: 1 MiB that is unlike any other."""
    return number.to_bytes(4, "big") * (MIB // 4)


def put(house: House, number: int) -> None:
    """Upload paper `number`, through paramiko; returns once it is acknowledged."""
    with house.paramiko() as client, client.open(f"/inbox/{number}.bin", "wb") as file:
        file.write(content(number))


def test_the_disk_of_the_data_folder_runs_full(small: House, tmp_path: Path) -> None:
    disk = small.data.parent
    for number in range(2):
        put(small, number)
    small.await_papers(2)
    ingest = small.pid("ingest")
    assert ingest is not None
    os.kill(ingest, signal.SIGSTOP)
    for number in range(2, 6):
        put(small, number)  # acknowledged, and not sealed yet

    with small.paramiko() as client:
        early = client.open("/inbox/early.bin", "wb")
        early.write(content(100))
        fill(disk, RESERVE // 2)
        with pytest.raises(OSError, match="no space left on the server; nothing that was acknowledged is lost"):
            put(small, 101)
        (tmp_path / "102.bin").write_bytes(content(102))
        refused = small.sftp(f"put {tmp_path}/102.bin inbox/102.bin", check=False)
        assert refused.returncode == 1
        assert "102.bin" in refused.stderr

        fill(disk)
        with pytest.raises(OSError, match="no space"):
            for _ in range(20):
                early.write(content(100))
            early.close()
        assert_complains(small.run("backup", "run"), 5, "space")
        os.kill(ingest, signal.SIGCONT)
        small.wait(lambda: bool(events(small, "ingest.short")), 240, "ingest has not met the full disk")
        listed = client.listdir("/inbox")
        assert {f"{number}.bin" for number in range(6)} <= set(listed)
    assert small.pid("gateway") is not None
    assert small.pid("ingest") == ingest

    make_space(disk)
    small.await_papers(6)
    put(small, 6)
    small.await_papers(7)
    whole = {row["path"] for row in small.json("files", "list", CLIENT) if row["state"] == "accepted"}
    assert whole == {f"/inbox/{number}.bin" for number in range(7)}
    small.sftp(f"get -r receipts {tmp_path}", f"get -r inbox {tmp_path}")
    for number in range(7):
        assert (tmp_path / "inbox" / f"{number}.bin").read_bytes() == content(number)
    assert len(list((tmp_path / "receipts").rglob("*.json"))) == 7
    assert small.json("backup", "run")["detail"]["papers"] == 7
    assert small.json("audit", "verify")["problems"] == []


def test_the_scratch_disk_is_too_small(small: House, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "scratch", "8m") as scratch:
        small.environment["NIGHTSAFE_SET_DRILL__SCRATCH"] = str(scratch)
        done = small.run("drill", "run", "--full")
        assert_complains(done, 5, "proved nothing", "the disk of the scratch folder is too full", "run it again")
        assert not any(scratch.iterdir())
    assert small.json("drill", "list")[0]["state"] == "inconclusive"


@pytest.mark.long
def test_the_scratch_disk_runs_full_in_the_middle(small: House, tmp_path: Path) -> None:
    """While restic restores: a filler takes all room as soon as the papers are asked for."""
    with tmpfs(tmp_path / "scratch", "96m") as scratch:
        tools = tmp_path / "bin"
        tools.mkdir()
        fill_up = f'case "$*" in *" restore "*) head -c 200M /dev/zero > {scratch}/filler;; esac 2>/dev/null'
        (tools / "restic").write_text(f'#!/bin/sh\n{fill_up}\nexec {shutil.which("restic")} "$@"\n')
        (tools / "restic").chmod(0o755)
        small.environment["NIGHTSAFE_SET_DRILL__SCRATCH"] = str(scratch)
        small.environment["NIGHTSAFE_SET_BACKUP__RESTIC"] = str(tools / "restic")
        try:
            for arguments in (("drill", "run", "--full"), ("drill", "run", "--sample", "3")):
                done = small.run(*arguments)
                assert_complains(done, 5, "proved nothing", "full", "run it again")
                assert [path.name for path in scratch.iterdir()] == ["filler"]
                make_space(scratch)
            assert_complains(small.run("restore", CLIENT, "--to", str(tmp_path / "back")), 5, "full", "space")
            assert [path.name for path in scratch.iterdir()] == ["filler"]
        finally:
            del small.environment["NIGHTSAFE_SET_BACKUP__RESTIC"]
    small.environment["NIGHTSAFE_SET_DRILL__SCRATCH"] = str(small.home / "scratch")
    assert small.json("drill", "run", "--full")["state"] == "passed"


def test_the_disk_of_a_restore_runs_full(small: House, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "target", "2m") as target:
        done = small.run("restore", CLIENT, "--to", str(target / "back"))
        assert_complains(done, 5, "the target cannot be written: No space left on device", "say the same again")
        assert not list(target.rglob(".nightsafe-restore-*"))
        get = small.run("files", "get", CLIENT, "/inbox/1.bin", "--out", str(target / "out"))
        assert_complains(get, 5, "disk is full", "free some space")
        assert not (target / "out").exists()


def test_papers_are_still_what_they_were(small: House) -> None:
    assert small.run("files", "get", CLIENT, "/inbox/5.bin").stdout == content(5)
    put(small, 7)
    small.await_papers(8)
