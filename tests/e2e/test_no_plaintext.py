"""Invariant 1: no content on a disk in plaintext, ever.

Everything that the server can write (data folder, temporary folder, scratch, the S3 server's folder) lies on one ext4 image, which is
searched raw: files that were unlinked at once are found too. The clients' own copies lie on a memory disk that is not searched.

Every paper is scanned by a real clamd, which has its temporary files in memory, and looked into by worker processes: archives are unpacked,
encrypted ones with the password that was agreed.
"""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest

from tests.e2e.disks import contains, mounted_image, search_folder, tmpfs
from tests.e2e.house import CLIENT, House
from tests.e2e.uploads import Uploader
from tests.integration.scanner_parts import clamd
from tests.integration.test_checks_workers import locked, zipped

PASSWORD = b"s3cret-word of two parties"
OURS = 64 << 20  # bytes: more than all papers together
pytestmark = pytest.mark.timeout(900)


def canary() -> bytes:
    """64 bytes that occur nowhere by chance."""
    return b"CANARY" + secrets.token_hex(29).encode()


@contextmanager
def killing(house: House, victims: tuple[str, ...], seed: int) -> Iterator[None]:
    """Roles die at random meanwhile."""
    stop = threading.Event()
    chance = random.Random(seed)

    def kill() -> None:
        while not stop.wait(chance.uniform(2.5, 6.0)):
            house.kill(chance.choice(victims))

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        stop.set()
        killer.join()


def patiently(action: list[str], house: House, seconds: float = 150) -> None:
    """A client's command, again and again until the gateway lives long enough for it."""
    deadline = time.monotonic() + seconds
    while (done := subprocess.run(["timeout", "30", *action], capture_output=True, text=True, check=False)).returncode:
        assert time.monotonic() < deadline, f"{action}: {done.stderr}\n{house.tail()}"
        time.sleep(0.3)


def test_no_canary_on_the_raw_disk(tmp_path: Path) -> None:
    image, began = tmp_path / "disk.img", time.time() - 1
    needles: dict[str, bytes] = {
        road: canary()
        for road in ("sftp", "scp", "lftp", "rclone", "stream", "partial", "overwritten", "append", "read-back", "zip", "locked-zip", "planted")
    }
    with tmpfs(tmp_path / "client", "256m") as client, mounted_image(image, tmp_path / "disk", megabytes=768) as disk, clamd() as scanner:
        house = House(tmp_path, disk / "data")
        (disk / "tmp").mkdir()
        house.environment |= {
            "TMPDIR": str(disk / "tmp"),
            "NIGHTSAFE_SET_S3__FOLDER": str(disk / "offsite"),
            "NIGHTSAFE_SET_DRILL__SCRATCH": str(disk / "scratch"),
            "NIGHTSAFE_SET_SCAN__SCANNER": "clamd",
            "NIGHTSAFE_SET_SCAN__ADDRESS": scanner.settings.address,
            "NIGHTSAFE_SET_SCAN__CLAMD_CONFIG": str(scanner.config),
            "NIGHTSAFE_SET_SCAN__SIGNATURES_HOURS": "0",
        }
        house.init()
        with (house.data / "nightsafe.toml").open("a") as settings:
            settings.write("\n[[checks.rules]]\narchives = true\nmatch_type = true\n")
        assert house.run("client", "archive-password", CLIENT, "--password-stdin", input=PASSWORD).returncode == 0
        try:
            house.start()
            house.prepare()
            with killing(house, ("gateway", "keyd", "ingest"), 1):
                send_by_every_road(house, client, needles)
            house.wait(lambda: all(house.pid(role) for role in ("gateway", "keyd", "ingest")), 240, "not all roles are back")
            send_archives(house, needles)
            house.wait(lambda: not os.listdir(house.data / "spool" / "landed"), 240, "the spool is not empty")
            house.json("backup", "run")
            assert house.json("drill", "run", "--full")["state"] == "passed"
            listed = {row["path"] for row in house.json("files", "list", CLIENT)}
            assert {"/inbox/sftp.bin", "/inbox/scp.bin", "/inbox/lftp.bin", "/inbox/rclone.bin", "/inbox/zip.zip", "/inbox/locked-zip.zip"} <= listed
            assert house.json("held", "list") == house.json("quarantine", "list") == [], "a paper was not looked into to its end"
            got = house.run("files", "get", CLIENT, "/inbox/sftp.bin").stdout
            assert needles["sftp"] in got
        finally:
            house.stop()
        subprocess.run(["sync", "-f", str(disk)], check=True)
        assert contains(image, needles.values()) == []
        assert search_folder(Path("/dev/shm"), needles.values(), since=began, most=OURS) == []
        # The folders of other tests, and the large files of other programs, hold gigabytes that are none of this one's.
        others = [path for path in tmp_path.parents if path.name.startswith("pytest-of-")]
        assert search_folder(tmp_path, needles.values(), leave_out=[client, disk]) == []
        assert search_folder(Path("/tmp"), needles.values(), leave_out=[client, disk, *others], since=began, most=OURS) == []
        plant_and_unlink(disk / "tmp" / "planted", needles["planted"])
        assert contains(image, needles.values()) == [needles["planted"]]
        assert search_folder(client, [needles["sftp"]]), "the search itself finds nothing"


def plant_and_unlink(path: Path, needle: bytes) -> None:
    """What a careless temporary file leaves behind."""
    with path.open("wb") as file:
        file.write(needle * 100)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    subprocess.run(["sync", "-f", str(path.parent)], check=True)


def send_by_every_road(house: House, client: Path, needles: dict[str, bytes]) -> None:
    """Each canary goes in by its own road, as the content of papers of several blocks."""

    def paper(road: str) -> Path:
        path = client / f"{road}.bin"
        path.write_bytes(needles[road] * 3000)  # three blocks of the spool
        return path

    options = [*house.ssh_options(), "-P", str(house.sftp_port)]
    target = f"{CLIENT}@127.0.0.1"
    batch = client / "batch"
    batch.write_text(f"put {paper('sftp')} inbox/sftp.bin\n")
    patiently(["sftp", "-q", "-b", str(batch), *options, target], house)
    patiently(["scp", "-q", *options, str(paper("scp")), f"{target}:inbox/scp.bin"], house)
    connect = " ".join(["ssh", "-a", "-x", *house.ssh_options()])
    retries = "set net:max-retries 3; set net:reconnect-interval-base 1; set net:reconnect-interval-multiplier 1"
    commands = f"set sftp:connect-program '{connect}'; {retries}; open -u {CLIENT}, sftp://127.0.0.1:{house.sftp_port}; "
    patiently(["lftp", "-c", commands + f"put {paper('lftp')} -o inbox/lftp.bin"], house)
    remote = f":sftp,host=127.0.0.1,port={house.sftp_port},user={CLIENT},key_file={house.key},shell_type=none:inbox/rclone.bin"
    patiently(["rclone", "--config", "", "--retries", "1", "copyto", str(paper("rclone")), remote], house)
    uploader = Uploader(house, 0, 7, canary=needles["stream"])
    uploader.start()
    for road, mode in (("overwritten", "wb"), ("overwritten", "wb"), ("append", "ab"), ("read-back", "wb")):
        send_by_paramiko(house, road, mode, needles[road] * 3000)
    leave_partial(house, needles["partial"] * 3000)
    read_all_back(house)
    time.sleep(2)
    uploader.stop.set()
    uploader.join(240)
    assert any(upload.phase == "acknowledged" for upload in uploader.uploads)


def send_by_paramiko(house: House, road: str, mode: str, content: bytes, ending: str = "bin") -> None:
    for _ in range(200):
        try:
            with house.paramiko() as client, client.open(f"/inbox/{road}.{ending}", mode) as file:
                file.write(content)
            return
        except (OSError, EOFError, paramiko.SSHException):
            time.sleep(0.3)
    raise AssertionError(f"{road} could not be sent: {house.tail()}")


def send_archives(house: House, needles: dict[str, bytes]) -> None:
    """Two that hold their canaries packed: only what looks into them ever has these in the clear."""
    send_by_paramiko(house, "zip", "wb", zipped(("letter.txt", needles["zip"] * 3000)), ending="zip")
    send_by_paramiko(house, "locked-zip", "wb", locked(PASSWORD, ("letter.txt", needles["locked-zip"] * 3000)), ending="zip")


def leave_partial(house: House, content: bytes) -> None:
    """An upload whose connection is lost before it is closed."""
    for _ in range(200):
        try:
            with house.paramiko() as client:
                client.open("/inbox/partial.bin", "wb").write(content)
                return  # the transport is cut, the handle never closed
        except (OSError, EOFError, paramiko.SSHException):
            time.sleep(0.3)


def read_all_back(house: House) -> None:
    """Reading decrypts too: before sealing and after, while keyd dies now and then."""
    for name in ("sftp", "read-back", "append"):
        for _ in range(200):
            try:
                with house.paramiko() as client, client.open(f"/inbox/{name}.bin", "rb") as file:
                    assert len(file.read()) >= 3000 * 64
                break
            except (OSError, EOFError, paramiko.SSHException):
                time.sleep(0.3)
        else:
            raise AssertionError(f"{name} could not be read: {house.tail()}")
