"""SIGKILL of gateway, keyd and ingest at random moments during uploads: what was acknowledged is never lost, nothing else is published."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections import Counter

import pytest

from gateway.catalog import Catalog
from tests.e2e.house import CLIENT, House
from tests.e2e.uploads import Upload, Uploader

VICTIMS = ("gateway", "keyd", "ingest")
UPLOADERS = 3


@pytest.mark.timeout(300)
def test_fifty_kills(own_house: House) -> None:
    kill_and_count(own_house, kills=50, seed=50)


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_a_thousand_kills(own_house: House) -> None:
    kill_and_count(own_house, kills=1000, seed=1000)


def kill_and_count(house: House, kills: int, seed: int) -> None:
    """Kill `kills` times while uploads run, then hold the server to its promises."""
    chance = random.Random(seed)
    uploaders = [Uploader(house, number, seed + number) for number in range(UPLOADERS)]
    for uploader in uploaders:
        uploader.start()
    done = 0
    deadline = time.monotonic() + kills * 3 + 60
    while done < kills:
        time.sleep(chance.uniform(0.05, 0.8))
        victim = chance.choice(VICTIMS)
        assert time.monotonic() < deadline, f"only {done} kills: {house.tail()}"
        if house.pid(victim) is not None:
            house.kill(victim)
            done += 1
    house.wait(lambda: all(house.pid(victim) for victim in VICTIMS), 60, "not all roles came back")
    time.sleep(1)  # everybody gets some uploads through
    for uploader in uploaders:
        uploader.stop.set()
    for uploader in uploaders:
        uploader.join(60)
        assert not uploader.is_alive()
    uploads = {upload.path: upload for uploader in uploaders for upload in uploader.uploads}
    hold_to_promises(house, uploads)


def hold_to_promises(house: House, uploads: dict[str, Upload]) -> None:
    """Every acknowledged upload is catalogued once, with its hash, one receipt, and reads back; nothing that was not closed is there."""
    acknowledged = {path for path, upload in uploads.items() if upload.phase == "acknowledged"}
    assert len(acknowledged) > UPLOADERS, "nothing was uploaded: the test proves nothing"
    catalog = Catalog.open(house.data / "catalog.sqlite3")
    house.wait(lambda: acknowledged <= {paper.path for paper in catalog.papers(CLIENT)} and not catalog.unreceipted(), 60, "papers are missing")
    house.wait(lambda: not os.listdir(house.data / "spool" / "landed"), 30, "the spool is not empty")
    papers = list(catalog.papers(CLIENT))
    assert max(Counter(paper.path for paper in papers).values()) == 1
    for paper in papers:
        upload = uploads[paper.path]
        assert upload.phase != "writing", f"{paper.path} was published though its handle was never closed"
        assert (paper.state, paper.sha256, paper.size) == ("accepted", upload.sha256, upload.size)
    receipts = list((house.data / "jails" / CLIENT / "receipts").rglob("*.json"))
    assert Counter(json.loads(path.read_text())["paper"] for path in receipts) == Counter(paper.id for paper in papers)
    read_back(house, [uploads[path] for path in sorted(acknowledged)])
    assert house.json("audit", "verify")["problems"] == []


def read_back(house: House, uploads: list[Upload]) -> None:
    with house.paramiko() as client:
        for upload in uploads[:: max(1, len(uploads) // 300)]:
            with client.open(upload.path, "rb") as file:
                file.prefetch(upload.size)
                assert hashlib.sha256(file.read()).hexdigest() == upload.sha256, upload.path
