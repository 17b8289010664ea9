"""The embedded S3 server as it really runs: who may do what, restarts, kills, and what lies open."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from backup.bucket import count_objects
from backup.embedded import role
from backup.embedded.role import serve
from backup.repositories.access import S3Access, access
from config.errors import Busy, OutOfReach, SettingsError
from config.loading import Installation
from gateway import supervise
from tests.integration.s3_parts import answering

Role = Callable[[Installation], AbstractContextManager[subprocess.Popen[bytes]]]


def client(one: S3Access) -> Any:
    return boto3.client(
        "s3", endpoint_url=one.endpoint, region_name=one.region, aws_access_key_id=one.access_key, aws_secret_access_key=one.secret_key
    )


def refused(call: Callable[[], Any]) -> bool:
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"] in ("AccessDenied", "403")
    return False


def weeds(process: subprocess.Popen[bytes]) -> list[int]:
    """The children of the role."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def gone(pid: int, seconds: float = 240) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_each_credential_does_what_it_is_for_and_no_more(s3: Any) -> None:
    writer, reader, pruner = (client(s3.access(role)) for role in ("writer", "reader", "pruner"))
    name, lock = "who/papers/data/1", "who/papers/locks/1"
    writer.put_object(Bucket="nightsafe", Key=name, Body=b"sealed")
    writer.put_object(Bucket="nightsafe", Key=lock, Body=b"lock")
    assert reader.get_object(Bucket="nightsafe", Key=name)["Body"].read() == b"sealed"
    assert refused(lambda: reader.put_object(Bucket="nightsafe", Key="who/x", Body=b""))
    assert refused(lambda: reader.delete_object(Bucket="nightsafe", Key=lock))
    assert refused(lambda: writer.delete_object(Bucket="nightsafe", Key=name))
    writer.delete_objects(Bucket="nightsafe", Delete={"Objects": [{"Key": name}]})  # answers 200 with an error for the object
    assert reader.get_object(Bucket="nightsafe", Key=name)["Body"].read() == b"sealed"
    assert refused(lambda: writer.delete_bucket(Bucket="nightsafe"))
    assert refused(lambda: writer.create_bucket(Bucket="another"))
    assert refused(lambda: pruner.delete_bucket(Bucket="nightsafe"))
    assert refused(lambda: writer.put_bucket_policy(Bucket="nightsafe", Policy=json.dumps({"Version": "2012-10-17", "Statement": []})))
    writer.delete_object(Bucket="nightsafe", Key=lock)
    pruner.delete_object(Bucket="nightsafe", Key=name)
    assert "Contents" not in reader.list_objects_v2(Bucket="nightsafe", Prefix="who/")


@pytest.mark.long
def test_objects_survive_kills_and_other_ports(new_installation: Any, s3_role: Role) -> None:
    installation = new_installation()
    with s3_role(installation) as process:
        writer = access(installation, "writer")
        client(writer).put_object(Bucket="nightsafe", Key="a/1", Body=b"x" * 5_000_000)
        [weed] = weeds(process)
        process.send_signal(signal.SIGKILL)
        assert gone(weed), "weed outlived its parent"
    folder = installation.path(installation.settings.s3.folder)
    with s3_role(installation):
        reader = access(installation, "reader")
        assert reader.endpoint == writer.endpoint, "the ports are kept"
        assert client(reader).get_object(Bucket="nightsafe", Key="a/1")["Body"].read() == b"x" * 5_000_000
    (folder / "ports.json").unlink()
    with s3_role(installation):
        reader = access(installation, "reader")
        assert reader.endpoint != writer.endpoint
        assert client(reader).get_object(Bucket="nightsafe", Key="a/1")["Body"].read() == b"x" * 5_000_000
        client(access(installation, "writer")).put_object(Bucket="nightsafe", Key="a/2", Body=b"y")
        assert count_objects(reader, "a/") == 2


def test_it_starts_and_ends_quickly_and_leaves_nothing_open(new_installation: Any, s3_role: Role) -> None:
    before = set(Path("/tmp").glob("seaweedfs-*.sock"))  # of others, and of those that were killed
    installation = new_installation()
    started = time.monotonic()
    with s3_role(installation) as process:
        assert time.monotonic() - started < 60  # about 3 s on an idle machine
        [weed] = weeds(process)
        listening = _listeners(weed)
        assert len(listening) == 8
        assert all(address == "127.0.0.1" for address, _ in listening)
        secrets = [access(installation, role).secret_key for role in ("writer", "reader", "pruner")]  # type: ignore[arg-type]
        assert not any(secret in Path(f"/proc/{weed}/{what}").read_text() for secret in secrets for what in ("cmdline", "environ"))
        assert Path(f"/proc/{weed}/fd").is_dir()
        folder = installation.path(installation.settings.s3.folder)
        for path in folder.rglob("*"):
            assert not (path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets)), path
        ports = json.loads((folder / "ports.json").read_text())
        for url, method in ((f"http://127.0.0.1:{ports['filer']}/buckets/nightsafe/x", "PUT"), (f"http://127.0.0.1:{ports['filer']}/", "GET")):
            with pytest.raises(urllib.error.HTTPError) as error:
                urllib.request.urlopen(urllib.request.Request(url, data=b"x" if method == "PUT" else None, method=method), timeout=5)
            assert error.value.code == 401
        stopped = time.monotonic()
        process.terminate()
        assert process.wait(240) == 0
        assert time.monotonic() - stopped < 30
        assert gone(weed)
    assert set(Path("/tmp").glob(f"seaweedfs-*-{ports['s3']}.sock")) <= before
    assert set(Path("/tmp").glob(f"seaweedfs-*-{ports['filer_grpc']}.sock")) <= before


def _listeners(pid: int) -> list[tuple[str, int]]:
    """Addresses on which a process listens, from /proc."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for file, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{file}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                raw = bytes.fromhex(address)
                text = socket.inet_ntop(family, raw[::-1] if family == socket.AF_INET else raw)
                found.append((text, int(port, 16)))
    return found


def test_a_folder_inside_the_data_folder_is_refused(new_installation: Any) -> None:
    for place in ("offsite", "..", "."):
        with pytest.raises(SettingsError, match="lie in each other"):
            serve(new_installation(f'[s3]\nfolder = "{place}"\n'))


def test_a_taken_port_is_named(new_installation: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OutOfReach, match=f"port {port} .*is taken"):
            _serve_here(new_installation(f"[s3]\nport = {port}\n"))


def test_two_servers_on_one_folder_are_refused(new_installation: Any, s3_role: Role, tmp_path: Path) -> None:
    shared = f'[s3]\nfolder = "{tmp_path}/shared"\n'
    first, second = new_installation(shared), new_installation(shared)
    with s3_role(first):
        with pytest.raises(Busy, match="another S3 server uses"):
            _serve_here(second)
        with pytest.raises(Busy, match="already runs"):
            _serve_here(first)


def test_what_keeps_it_from_getting_ready_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert role.READY_SECONDS < supervise.READY_SECONDS, "the supervisor would give up first, and say nothing"
    monkeypatch.setattr(role, "READY_SECONDS", 1.0)
    refusal = b"<?xml version='1.0'?><Error><Code>RequestTimeTooSkewed</Code></Error>"
    with answering(403, refusal) as endpoint, subprocess.Popen(["sleep", "600"], stderr=subprocess.PIPE) as process:
        server = role._Server(process, S3Access(endpoint, "nightsafe", "", "us-east-1", "a", "b", embedded=True), threading.Event())
        try:
            with pytest.raises(OutOfReach, match="finds the time wrong") as error:
                server.ready()
        finally:
            process.kill()
    assert "clock" in error.value.hint


def _serve_here(installation: Installation) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        serve(installation)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_without_the_server_access_says_so(new_installation: Any) -> None:
    with pytest.raises(OutOfReach, match="does not run") as error:
        access(new_installation(), "writer")
    assert "nightsafe up" in error.value.hint
