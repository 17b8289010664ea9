"""Invariant 2, on one upload: when CLOSE returns OK, content and names are on the disk."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.catalog import Catalog
from tests.e2e.disks import mounted_image
from tests.e2e.house import CLIENT, House

pytestmark = pytest.mark.timeout(900)
CALL = re.compile(r"^(?P<pid>\d+) +(?P<time>[\d.]+) (?P<name>\w+)\((?P<rest>.*)$")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house that is up, whose data folder lies on an image of its own; a test may kill it."""
    home = tmp_path_factory.mktemp("durable")
    with mounted_image(home / "disk.img", home / "disk", megabytes=256) as disk:
        made = House(home, disk / "data")
        made.init()
        try:
            made.start()
            yield made
        finally:
            made.stop_hard()


def is_traced(pid: int | None) -> bool:
    """All of its threads."""
    return all("TracerPid:\t0" not in path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status"))


def test_content_and_folders_are_fsynced_before_the_reply(house: House, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls_seen = "trace=fsync,fdatasync,rename,renameat,renameat2,sendto,sendmsg,write"
    attach = ["strace", "-f", "-y", "-ttt", "-e", calls_seen, "-o", str(trace), "-p", str(house.pid("gateway"))]
    tracer = subprocess.Popen(attach, stderr=subprocess.DEVNULL)
    try:
        house.wait(lambda: is_traced(house.pid("gateway")), 240, "strace is not attached")
        with house.paramiko() as client:
            client.mkdir("/inbox/new")
            file = client.open("/inbox/new/traced.bin", "wb")
            file.write(os.urandom(200_000))
            asked = time.time()
            file.close()
            answered = time.time()
            time.sleep(0.2)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(240)
    calls = [found.groupdict() for line in trace.read_text(errors="replace").splitlines() if (found := CALL.match(line))]
    window = [call for call in calls if asked <= float(call["time"]) <= answered]
    replies = [number for number, call in enumerate(window) if call["name"] in ("sendto", "sendmsg", "write") and "<socket:" in call["rest"]]
    assert replies, "the reply was not seen"
    before = window[: replies[-1]]
    synced = [call["rest"] for call in before if call["name"] in ("fsync", "fdatasync")]

    def was_synced(pattern: str) -> bool:
        return any(re.search(pattern, rest) for rest in synced)

    data = re.escape(str(house.data))
    assert was_synced(rf"<{data}/spool/partial/[0-9a-f]{{32}}"), synced
    assert was_synced(rf"<{data}/spool/partial>"), synced
    assert was_synced(rf"<{data}/jails/{CLIENT}/inbox/new>"), synced
    assert was_synced(rf"<{data}/jails/{CLIENT}/(\.tmp|inbox)/"), synced  # the pointer's own content


def test_an_image_copied_at_the_acknowledgement_holds_the_paper(house: House, tmp_path: Path) -> None:
    """What a power cut right after the reply would leave: the disk's image, copied without a sync, started again."""
    content = os.urandom(300_000)
    copy = tmp_path / "copy.img"
    house.freeze("ingest")  # the paper stays where the gateway put it
    with house.paramiko() as client:
        client.mkdir("/inbox/image")
        file = client.open("/inbox/image/paper.bin", "wb")
        file.write(content)
        file.close()
        shutil.copyfile(house.home / "disk.img", copy)
    house.stop_hard()
    with mounted_image(copy, tmp_path / "disk2") as disk:
        again = House(house.home, disk / "data")
        again.start()
        try:
            with Catalog.open(again.data / "catalog.sqlite3") as catalog:
                again.wait(lambda: any(catalog.versions(CLIENT, "/inbox/image/paper.bin")), 240, "the paper is not catalogued")
                (paper,) = catalog.versions(CLIENT, "/inbox/image/paper.bin")
            assert paper.sha256 == hashlib.sha256(content).hexdigest()
            with again.paramiko() as client, client.open("/inbox/image/paper.bin", "rb") as file:
                assert file.read() == content
        finally:
            again.stop()
