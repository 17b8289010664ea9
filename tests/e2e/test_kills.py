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
from concurrent.futures import Future, ThreadPoolExecutor
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
LASTING = {"clamd": "scanner", "full": "disk", "locked": "disk"}  # and what each is done to: one at a time
FAULTS = (*ROLES, *LASTING, "clock")
UPLOADERS = 3
STEP = timedelta(hours=1)
pytestmark = pytest.mark.timeout(900)


class Chance:
    """Strikes a house at random, and counts. What lasts for a moment goes on while the next one strikes; nobody can lock a catalog on a full disk."""

    def __init__(self, faults: Faults, seed: int, hands: ThreadPoolExecutor) -> None:
        self.faults = faults
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self._hands = hands
        self._lasting: dict[str, Future[None]] = {}

    def strike(self) -> None:
        """One fault of those that are possible now (a role that is not back yet cannot be killed), one that was not yet before the others."""
        faults, seconds = self.faults, self.random.uniform(0.1, 0.8)
        possible = [one for one in FAULTS if self._is_possible(one)]
        fault = self.random.choice([one for one in possible if not self.done[one]] or possible)
        if fault in ROLES:
            faults.house.kill(fault)
        elif fault == "clock":
            faults.set_clock(-STEP if faults.clock_is_right else timedelta(0))
        else:
            does = {"clamd": faults.stop_scanner, "full": faults.fill_disk, "locked": faults.lock_catalog}[fault]
            self._lasting[LASTING[fault]] = self._hands.submit(does, seconds)
        self.done[fault] += 1

    def _is_possible(self, fault: str) -> bool:
        if fault in ROLES:
            return self.faults.house.pid(fault) is not None
        lasting = self._lasting.get(LASTING.get(fault, ""))
        if lasting is None or not lasting.done():
            return lasting is None
        lasting.result()  # it has to have worked
        return True


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

    house.wait(told, 240, f"{path} is not {state}")
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
    house = faults.house
    uploaders = [Uploader(house, number, seed + number, folder=f"/inbox/{count}", virus=PROBE) for number in range(UPLOADERS)]
    with house.paramiko() as client:
        client.mkdir(f"/inbox/{count}")
    began = datetime.now(UTC)
    for uploader in uploaders:
        uploader.start()
    deadline = time.monotonic() + count * 4 + 120
    with ThreadPoolExecutor() as hands:
        chance = Chance(faults, seed, hands)
        while chance.done.total() < count or set(chance.done) != set(FAULTS):
            time.sleep(chance.random.uniform(0.05, 0.5))
            assert time.monotonic() < deadline, f"only {chance.done}: {house.tail()}"
            chance.strike()
    house.wait(lambda: all(house.pid(role) for role in ROLES), 240, "not all roles came back")
    for shift in (-STEP, timedelta(0)):  # for a moment of few faults nobody may have come in
        faults.set_clock(shift)
        await_uploads(house, uploaders)
    for uploader in uploaders:
        uploader.stop.set()
    for uploader in uploaders:
        uploader.join(240)
        assert not uploader.is_alive()
    uploads = {upload.path: upload for uploader in uploaders for upload in uploader.uploads}
    papers = hold_to_promises(house, uploads, f"/inbox/{count}/")
    assert min(paper.received_at for paper in papers) < began - STEP / 2, "the clock was never seen to be stepped back"


def await_uploads(house: House, uploaders: list[Uploader]) -> None:
    """Until everybody has got two more through: the first may have begun before."""
    before = [uploader.acknowledged for uploader in uploaders]
    house.wait(lambda: all(one.acknowledged >= count + 2 for one, count in zip(uploaders, before, strict=True)), 240, "nobody comes in")


def hold_to_promises(house: House, uploads: dict[str, Upload], folder: str) -> list[Paper]:
    """Every acknowledged upload is catalogued once, with its hash and one receipt, and reads back, or is in quarantine when it is infected; nothing
    that was not closed is there. All papers of `folder`."""
    acknowledged = {path for path, upload in uploads.items() if upload.phase == "acknowledged"}
    assert len(acknowledged) > UPLOADERS, "nothing was uploaded: the test proves nothing"
    catalog = Catalog.open(house.data / "catalog.sqlite3")
    house.wait(lambda: acknowledged <= {paper.path for paper in catalog.papers(CLIENT)} and not catalog.unreceipted(), 480, "papers are missing")
    house.wait(lambda: not os.listdir(house.data / "spool" / "landed"), 480, "the spool is not empty")
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
