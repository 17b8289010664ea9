"""Faults at random moments during uploads, every paper being scanned by a real clamd: what was acknowledged is never lost, nothing else is published.

The faults: SIGKILL of gateway, keyd, ingest and clamd, a full disk, a catalog that another process has locked, a clock that is stepped back by
an hour and forth again.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from gateway.catalog import Catalog
from gateway.catalog.rows import Paper
from gateway.ingest.checks.scanner import PROBE
from gateway.ingest.receipts import receipt_path
from gateway.store import Vault
from tests.e2e.faults import Faults, fault_prone_house
from tests.e2e.house import CLIENT, House
from tests.e2e.uploads import Upload, Uploader

ROLES = ("gateway", "keyd", "ingest")
FAULTS = (*ROLES, "clamd", "full", "locked", "clock")
UPLOADERS = 3
STEP = timedelta(hours=1)
pytestmark = pytest.mark.timeout(400)


@dataclass
class Chance:
    """Strikes a house at random, and counts."""

    faults: Faults
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)

    def strike(self) -> None:
        """One fault. A role that is not back yet cannot be killed, and does not count."""
        fault, faults, seconds = self.random.choice(FAULTS), self.faults, self.random.uniform(0.1, 0.8)
        if fault in ROLES:
            if faults.house.pid(fault) is None:
                return
            faults.house.kill(fault)
        elif fault == "clock":
            faults.set_clock(-STEP if faults.clock_is_right else timedelta(0))
        else:
            {"clamd": faults.stop_scanner, "full": faults.fill_disk, "locked": faults.lock_catalog}[fault](seconds)
        self.done[fault] += 1


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    """A house that is up, and what can be done to it."""
    with fault_prone_house(tmp_path_factory.mktemp("faults"), megabytes=16_000) as faults:
        faults.house.init()
        faults.house.start()
        yield faults


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
    house, chance = faults.house, Chance(faults, random.Random(seed))
    uploaders = [Uploader(house, number, seed + number, folder=f"/inbox/{count}", virus=PROBE) for number in range(UPLOADERS)]
    with house.paramiko() as client:
        client.mkdir(f"/inbox/{count}")
    began = datetime.now(UTC)
    for uploader in uploaders:
        uploader.start()
    deadline = time.monotonic() + count * 4 + 120
    while chance.done.total() < count:
        time.sleep(chance.random.uniform(0.05, 0.5))
        assert time.monotonic() < deadline, f"only {chance.done}: {house.tail()}"
        chance.strike()
    assert set(chance.done) == set(FAULTS)
    faults.set_clock()
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
    """Every acknowledged upload is catalogued once, with its hash and one receipt, and reads back, or is in quarantine when it is infected; nothing
    that was not closed is there. All papers of `folder`."""
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
        assert (paper.state, paper.sha256, paper.size) == ("refused" if upload.infected else "accepted", upload.sha256, upload.size)
        places = [place for place in ("vault", "quarantine") if Vault(house.data / place).exists(CLIENT, paper.id)]
        assert places == ["quarantine" if upload.infected else "vault"]
    assert {upload.infected for upload in uploads.values()} == {False, True}
    receipts = list((house.data / "jails" / CLIENT / "receipts").rglob("*.json"))
    assert Counter(json.loads(path.read_text())["paper"] for path in receipts) == Counter(paper.id for paper in everything)
    read_back(house, [uploads[path] for path in sorted(acknowledged) if not uploads[path].infected])
    assert house.json("audit", "verify")["problems"] == []
    return papers


def read_back(house: House, uploads: list[Upload]) -> None:
    with house.paramiko() as client:
        for upload in uploads[:: max(1, len(uploads) // 300)]:
            with client.open(upload.path, "rb") as file:
                file.prefetch(upload.size)
                assert hashlib.sha256(file.read()).hexdigest() == upload.sha256, upload.path
