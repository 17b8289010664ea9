"""`nightsafe status`: each line about the house, green first, then with something planted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.status.line import Line
from backup.status.overview import overview
from config.loading import Installation, open_installation
from gateway.sftp.defender.bans import BanStore, rules_of
from tests.integration.ingest_world import World

ROOT = Path(__file__).parents[2]


@pytest.fixture
def house(tmp_path: Path) -> tuple[World, Installation]:
    world = World(tmp_path)
    return world, open_installation(world.folder.root)


def line(installation: Installation, name: str, now: datetime | None = None) -> Line:
    return next(one for one in overview(installation, now) if one.name == name)


def test_papers_of_today_and_of_yesterday(house: tuple[World, Installation]) -> None:
    world, installation = house
    assert line(installation, "papers").text == "0 sealed, 0 B; none today"
    world.land("one.txt", b"one")
    world.ingest()
    assert line(installation, "papers").text.startswith("1 sealed, 3 B; 1 today, the last ")
    assert line(installation, "papers", datetime.now(UTC) + timedelta(days=1)).text == "1 sealed, 3 B; none today"


def test_an_old_key(house: tuple[World, Installation]) -> None:
    world, installation = house
    found = line(installation, "keys")
    assert (found.colour, found.text.startswith("the oldest is 0 days old")) == ("green", True)
    old = time.time() - 731 * 86400
    for path in world.folder.keys.rglob("*"):
        if path.is_file() and "acme" in path.parts:
            os.utime(path, (old, old))
    found = line(installation, "keys")
    assert (found.colour, found.text) == ("yellow", "the oldest is 731 days old (of the client acme)")
    assert found.todo.startswith("nightsafe client rotate-key acme;")


def test_bans(house: tuple[World, Installation]) -> None:
    world, installation = house
    assert line(installation, "bans").text == "nobody is banned"
    assert not world.folder.defender.exists()  # looking makes no file of another user's
    store = BanStore(world.folder.defender)
    store.ban("192.0.2.7", 600, rules_of(installation.settings.gateway), time.time(), "failed logins")
    store.close()
    assert line(installation, "bans").text.startswith("banned addresses: 1, the newest made ")


def test_the_last_drill(house: tuple[World, Installation]) -> None:
    world, installation = house
    assert "last drill" not in [one.name for one in overview(installation)]
    run = world.catalog.start_run("drill", {"kind": "full"})
    world.catalog.finish_run(run, "failed", detail={"kind": "full", "recovery_seconds": 12.3, "cause": "1 bad"})
    found = line(installation, "last drill")
    assert (found.colour, found.todo) == ("red", f"nightsafe drill show {run}; then see docs/how-to/keep-backups-in-order.md#the-check")
    assert re.match(rf"number {run} \(full\) failed \d+ seconds? ago, recovery time 12\.3 s", found.text)


@pytest.mark.long
def test_watching(house: tuple[World, Installation]) -> None:
    command = [sys.executable, "-m", "nightsafe", "status", "--watch", "0.5", "--data", str(house[0].folder.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        seen = 0
        while seen < 3:
            text = process.stdout.readline()
            assert text, "it ended"
            seen += "not running" in text
        process.send_signal(2)
        process.stdout.read()
    assert process.returncode in (1, 130)
