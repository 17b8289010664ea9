"""The reserve of the disk, on a small disk of its own: refused, told, and taken again without anybody's doing."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backup.status import premises
from config.settings import GatewaySettings, Settings
from gateway.audit.log import AuditLog
from gateway.audit.read import read
from gateway.jail import Refused
from gateway.sftp.limits import space
from gateway.sftp.limits.space import SpaceGuard, SpaceWatch
from gateway.sftp.session.recording import Recorder
from tests.e2e.disks import tmpfs

MIB = 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """8 MiB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", mounted], check=True)
    yield mounted
    subprocess.run(["umount", mounted], check=True)


def test_a_disk_without_inodes_is_full(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "8m,nr_inodes=600") as disk:
        guard = SpaceGuard(disk, 0, clock=iter(range(10**9)).__next__)
        settings = Settings(gateway=GatewaySettings(reserve_bytes=0))
        installation = cast(Any, SimpleNamespace(folder=SimpleNamespace(root=disk), settings=settings))
        guard.check()
        assert premises.disk(installation).colour == "green"
        for number in range(400):
            (disk / str(number)).touch()
        with pytest.raises(Refused, match="no space left"):
            guard.check()
        assert premises.disk(installation).colour == "red"
        assert "inodes" in premises.disk(installation).text
        for number in range(200):
            (disk / str(number)).unlink()
        guard.check()


def test_a_full_disk_is_told_once_and_so_is_its_end(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "WATCH_SECONDS", 0.01)
    filler = disk / "filler"
    with closing(AuditLog(disk / "audit", "gateway")) as audit:
        guard = SpaceGuard(disk, 4 * MIB, clock=iter(range(10**9)).__next__)
        told: list[bool] = []
        recorder = Recorder(audit)

        def tell(short: bool, free: int, reserve: int) -> None:
            recorder.space(short, free, reserve)
            told.append(short)

        async def journey() -> None:
            watch = asyncio.create_task(SpaceWatch(guard, tell).keep())
            for change, expected in ((lambda: filler.write_bytes(b"x" * 5 * MIB), [True]), (filler.unlink, [True, False])):
                change()
                async with asyncio.timeout(30):
                    while told != expected:
                        await asyncio.sleep(0.01)
                if told[-1]:
                    with pytest.raises(Refused, match="no space left"):
                        guard.check()
                else:
                    guard.check()
                await asyncio.sleep(0.05)  # several looks: nothing is told twice
            watch.cancel()

        asyncio.run(journey())
        assert told == [True, False]
    events = [event for event in read(disk / "audit") if event["event"].startswith("disk.")]
    assert [event["event"] for event in events] == ["disk.short", "disk.freed"]
    assert events[0]["free"] < events[0]["reserve"] == 4 * MIB < events[1]["free"]


def test_what_could_not_be_told_is_told_at_the_next_look(tmp_path: Path) -> None:
    guard = SpaceGuard(tmp_path, 2**62)
    told: list[bool] = []

    def tell(short: bool, _free: int, _reserve: int) -> None:
        told.append(short)
        if len(told) == 1:
            raise OSError("the disk is full")

    watch = SpaceWatch(guard, tell)
    with pytest.raises(OSError, match="full"):
        watch.look()
    watch.look()
    watch.look()
    assert told == [True, True]
