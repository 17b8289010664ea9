"""Invariant 2, on one upload: when CLOSE returns OK, content and names are on the disk."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from gateway.catalog import Catalog
from tests.e2e.disks import mounted_image
from tests.e2e.house import CLIENT, House

pytestmark = pytest.mark.timeout(180)
CALL = re.compile(r"^(?P<pid>\d+) +(?P<time>[\d.]+) (?P<name>\w+)\((?P<rest>.*)$")


def test_content_and_folders_are_fsynced_before_the_reply(own_house: House, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls_seen = "trace=fsync,fdatasync,rename,renameat,renameat2,sendto,sendmsg,write"
    attach = ["strace", "-f", "-y", "-ttt", "-e", calls_seen, "-o", str(trace), "-p", str(own_house.pid("gateway"))]
    tracer = subprocess.Popen(attach, stderr=subprocess.DEVNULL)
    try:
        own_house.wait(lambda: "TracerPid:\t0" not in Path(f"/proc/{own_house.pid('gateway')}/status").read_text(), 10, "strace is not attached")
        with own_house.paramiko() as client:
            client.mkdir("/inbox/new")
            file = client.open("/inbox/new/traced.bin", "wb")
            file.write(os.urandom(200_000))
            asked = time.time()
            file.close()
            answered = time.time()
            time.sleep(0.2)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(20)
    calls = [found.groupdict() for line in trace.read_text(errors="replace").splitlines() if (found := CALL.match(line))]
    window = [call for call in calls if asked <= float(call["time"]) <= answered]
    replies = [number for number, call in enumerate(window) if call["name"] in ("sendto", "sendmsg", "write") and "<socket:" in call["rest"]]
    assert replies, "the reply was not seen"
    before = window[: replies[-1]]
    synced = [call["rest"] for call in before if call["name"] in ("fsync", "fdatasync")]

    def was_synced(pattern: str) -> bool:
        return any(re.search(pattern, rest) for rest in synced)

    data = re.escape(str(own_house.data))
    assert was_synced(rf"<{data}/spool/partial/[0-9a-f]{{32}}"), synced
    assert was_synced(rf"<{data}/spool/partial>"), synced
    assert was_synced(rf"<{data}/jails/{CLIENT}/inbox/new>"), synced
    assert was_synced(rf"<{data}/jails/{CLIENT}/(\.tmp|inbox)/"), synced  # the pointer's own content


def test_an_image_copied_at_the_acknowledgement_holds_the_paper(tmp_path: Path) -> None:
    """What a power cut right after the reply would leave: the disk's image, copied without a sync, started again."""
    content = os.urandom(300_000)
    image, copy = tmp_path / "disk.img", tmp_path / "copy.img"
    with mounted_image(image, tmp_path / "disk", megabytes=256) as disk:
        house = House(tmp_path, disk / "data")
        house.init()
        house.start()
        house.freeze("ingest")  # the paper stays where the gateway put it
        with house.paramiko() as client:
            client.mkdir("/inbox/new")
            file = client.open("/inbox/new/paper.bin", "wb")
            file.write(content)
            file.close()
            shutil.copyfile(image, copy)
        house.stop_hard()
    with mounted_image(copy, tmp_path / "disk2") as disk:
        again = House(tmp_path, disk / "data")
        again.start()
        try:
            again.await_papers(1)
            with Catalog.open(again.data / "catalog.sqlite3") as catalog:
                (paper,) = catalog.papers(CLIENT)
            assert (paper.path, paper.sha256) == ("/inbox/new/paper.bin", hashlib.sha256(content).hexdigest())
            with again.paramiko() as client, client.open("/inbox/new/paper.bin", "rb") as file:
                assert file.read() == content
        finally:
            again.stop()
