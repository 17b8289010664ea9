"""Faults at random moments during uploads, every paper being scanned by a real clamd: what was acknowledged is never lost, nothing else is published.

The faults: SIGKILL of gateway, keyd, ingest and clamd, a full disk, a catalog that another process has locked, a clock that is stepped back by
an hour and forth again.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.catalog import Catalog
from gateway.catalog.rows import Paper
from gateway.ingest.checks.scanner import PROBE
from gateway.ingest.receipts import receipt_path
from tests.e2e.disks import mounted_image
from tests.e2e.house import CLIENT, House
from tests.e2e.uploads import Upload, Uploader
from tests.integration.scanner_parts import RealClamd, clamd

ROLES = ("gateway", "keyd", "ingest")
FAULTS = (*ROLES, "clamd", "full", "locked", "clock")
UPLOADERS = 3
STEP = timedelta(hours=1)
pytestmark = pytest.mark.timeout(400)


@dataclass
class Faults:
    """What can be done to a house. Each is over when it returns, but for the clock, which is set right by the next one."""

    house: House
    scanner: RealClamd
    disk: Path
    clock: Path
    chance: random.Random = field(default_factory=random.Random)
    done: Counter[str] = field(default_factory=Counter)

    def strike(self) -> None:
        """One at random. A role that is not back yet cannot be killed, and does not count."""
        fault = self.chance.choice(FAULTS)
        if fault in ROLES:
            if self.house.pid(fault) is None:
                return
            self.house.kill(fault)
        else:
            {"clamd": self._clamd, "full": self._full, "locked": self._locked, "clock": self._clock}[fault]()
        self.done[fault] += 1

    def end(self) -> None:
        """Set the clock right."""
        self.clock.write_text("+0")

    def _clamd(self) -> None:
        self.scanner.stop()
        self._wait()
        self.scanner.start()

    def _full(self) -> None:
        filler = self.disk / "filler"
        with filler.open("wb") as file:
            state, taken = os.statvfs(self.disk), 0
            part = state.f_bavail * state.f_frsize
            while part >= state.f_frsize:  # uploads take their share meanwhile
                try:
                    os.posix_fallocate(file.fileno(), taken, part)
                    taken += part
                except OSError:
                    part //= 2
        self._wait()
        filler.unlink()

    def _locked(self) -> None:
        with closing(sqlite3.connect(self.house.data / "catalog.sqlite3", timeout=30, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self._wait()
            other.execute("ROLLBACK")

    def _clock(self) -> None:
        self.clock.write_text("+0" if self.clock.read_text() != "+0" else f"-{STEP.total_seconds():.0f}")

    def _wait(self) -> None:
        time.sleep(self.chance.uniform(0.1, 0.8))


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    """A house on a disk of its own, with clamd, and with a clock that can be set (clock.c)."""
    home = tmp_path_factory.mktemp("faults")
    clock = home / "clock"
    clock.write_text("+0")
    library, source = home / "clock.so", Path(__file__).with_name("clock.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    with clamd() as scanner, mounted_image(home / "image", home / "disk", megabytes=16_000) as disk:
        house = House(home, disk / "data")
        scan = scanner.settings
        house.environment |= {
            "NIGHTSAFE_SET_SCAN__SCANNER": "clamd",
            "NIGHTSAFE_SET_SCAN__ADDRESS": scan.address,
            "NIGHTSAFE_SET_SCAN__CLAMD_CONFIG": str(scan.clamd_config),
            "NIGHTSAFE_SET_SCAN__SIGNATURES_HOURS": "0",
            "LD_PRELOAD": str(library),
            "NIGHTSAFE_TEST_CLOCK": str(clock),
        }
        house.init()
        house.start()
        try:
            yield Faults(house, scanner, disk, clock)
        finally:
            house.stop()


def paper_at(house: House, path: str) -> Paper | None:
    with Catalog.open(house.data / "catalog.sqlite3") as catalog:
        return next(iter(catalog.versions(CLIENT, path)), None)


def await_verdict(faults: Faults, path: str, state: str, code: str) -> Paper:
    """Until the paper has this verdict, in the catalog and in the receipt that the client fetches."""
    house, found = faults.house, None

    def told() -> bool:
        nonlocal found
        found = paper_at(house, path)
        return found is not None and (found.state, found.code, found.receipted) == (state, code, True)

    house.wait(told, 90, f"{path} is not {state}")
    assert found is not None
    with house.paramiko() as client, client.open(receipt_path(found)) as file:
        receipt = json.loads(file.read())
    assert (receipt["verdict"], receipt["code"], receipt["sha256"]) == (state, code, found.sha256)
    return found


def put(house: House, path: str, content: bytes) -> None:
    with house.paramiko() as client, client.open(path, "wb") as file:
        file.write(content)


def test_a_virus_is_refused_and_a_person_may_release_it(faults: Faults) -> None:
    house = faults.house
    put(house, "/inbox/virus.txt", PROBE)
    paper = await_verdict(faults, "/inbox/virus.txt", "refused", "virus")
    assert "Eicar-Test" in paper.reason
    assert [one["paper"] for one in house.json("quarantine", "list")] == [paper.id]
    assert house.json("quarantine", "release", paper.id, "--reason", "a test file")["state"] == "accepted"
    await_verdict(faults, "/inbox/virus.txt", "accepted", "released")
    assert house.run("files", "get", CLIENT, "/inbox/virus.txt").stdout == PROBE
    assert house.json("quarantine", "list") == []


def test_papers_wait_while_clamd_is_dead_and_go_on_by_themselves(faults: Faults) -> None:
    faults.scanner.stop()
    try:
        put(faults.house, "/inbox/letter.txt", b"a letter")
        await_verdict(faults, "/inbox/letter.txt", "held", "unscanned")
    finally:
        faults.scanner.start()
    await_verdict(faults, "/inbox/letter.txt", "accepted", "")


def test_fifty_faults(faults: Faults) -> None:
    strike_and_count(faults, count=50, seed=50)


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_a_thousand_faults(faults: Faults) -> None:
    strike_and_count(faults, count=1000, seed=1000)


def strike_and_count(faults: Faults, count: int, seed: int) -> None:
    """Strike `count` times while uploads run, then hold the server to its promises."""
    house, faults.chance, faults.done = faults.house, random.Random(seed), Counter()
    uploaders = [Uploader(house, number, seed + number, folder=f"/inbox/{count}") for number in range(UPLOADERS)]
    with house.paramiko() as client:
        client.mkdir(f"/inbox/{count}")
    began = datetime.now(UTC)
    for uploader in uploaders:
        uploader.start()
    deadline = time.monotonic() + count * 4 + 120
    while faults.done.total() < count:
        time.sleep(faults.chance.uniform(0.05, 0.5))
        assert time.monotonic() < deadline, f"only {faults.done}: {house.tail()}"
        faults.strike()
    assert set(faults.done) == set(FAULTS)
    faults.end()
    house.wait(lambda: all(house.pid(role) for role in ROLES), 90, "not all roles came back")
    time.sleep(1)  # everybody gets some uploads through
    for uploader in uploaders:
        uploader.stop.set()
    for uploader in uploaders:
        uploader.join(60)
        assert not uploader.is_alive()
    uploads = {upload.path: upload for uploader in uploaders for upload in uploader.uploads}
    papers = hold_to_promises(house, uploads, f"/inbox/{count}/")
    assert min(paper.received_at for paper in papers) < began - STEP / 2, "the clock was never seen to be stepped back"


def hold_to_promises(house: House, uploads: dict[str, Upload], folder: str) -> list[Paper]:
    """Every acknowledged upload is catalogued once, with its hash, one receipt, and reads back; nothing that was not closed is there. All papers
    of `folder`."""
    acknowledged = {path for path, upload in uploads.items() if upload.phase == "acknowledged"}
    assert len(acknowledged) > UPLOADERS, "nothing was uploaded: the test proves nothing"
    catalog = Catalog.open(house.data / "catalog.sqlite3")
    house.wait(lambda: acknowledged <= {paper.path for paper in catalog.papers(CLIENT)} and not catalog.unreceipted(), 120, "papers are missing")
    house.wait(lambda: not os.listdir(house.data / "spool" / "landed"), 120, "the spool is not empty")
    everything = list(catalog.papers(CLIENT))
    papers = [paper for paper in everything if paper.path.startswith(folder)]
    assert max(Counter(paper.path for paper in papers).values()) == 1
    for paper in papers:
        upload = uploads[paper.path]
        assert upload.phase != "writing", f"{paper.path} was published though its handle was never closed"
        assert (paper.state, paper.sha256, paper.size) == ("accepted", upload.sha256, upload.size)
    receipts = list((house.data / "jails" / CLIENT / "receipts").rglob("*.json"))
    assert Counter(json.loads(path.read_text())["paper"] for path in receipts) == Counter(paper.id for paper in everything)
    read_back(house, [uploads[path] for path in sorted(acknowledged)])
    assert house.json("audit", "verify")["problems"] == []
    return papers


def read_back(house: House, uploads: list[Upload]) -> None:
    with house.paramiko() as client:
        for upload in uploads[:: max(1, len(uploads) // 300)]:
            with client.open(upload.path, "rb") as file:
                file.prefetch(upload.size)
                assert hashlib.sha256(file.read()).hexdigest() == upload.sha256, upload.path
