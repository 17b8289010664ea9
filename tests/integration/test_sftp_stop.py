"""The end of the gateway while papers come in, and new settings without an end: real processes, OpenSSH's client."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.catalog import Catalog
from tests.integration.sftp_rig import CLIENT, Server, paramiko_client, running_server
from tests.integration.test_sftp_defence import fail, turned_away

SLOW = 500_000  # bytes a second


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("stop"), "stop_seconds = 20\n") as running:
        with Catalog.open(running.folder.catalog) as catalog:
            catalog.edit_client(CLIENT, upload_bytes_per_second=SLOW)
        yield running


def until(holds: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def begin(server: Server, source: Path, name: str) -> subprocess.Popen[bytes]:
    """A slow upload that has begun."""
    command = ["sftp", *server.options(), "-P", str(server.port), "-b", "-", f"{CLIENT}@127.0.0.1"]
    sending = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert sending.stdin is not None
    sending.stdin.write(f"put {source} {name}\n".encode())
    sending.stdin.close()
    jail = server.folder.jail(CLIENT)
    until(lambda: (jail / name.lstrip("/")).exists())
    return sending


def test_new_settings_and_a_new_host_key_disturb_nobody(server: Server, tmp_path: Path) -> None:
    def keys() -> str:
        return subprocess.run(["ssh-keyscan", "-p", str(server.port), "127.0.0.1"], capture_output=True, text=True, check=True).stdout

    before, settings = keys(), server.folder.settings.read_text()
    with paramiko_client(server) as client, client.open_sftp() as sftp:
        file = sftp.open("/inbox/meanwhile", "wb")
        file.write(b"before ")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "host")], check=True)
        shutil.copy(tmp_path / "host", server.folder.host_key)
        server.folder.settings.write_text(settings + 'notice = "new words"\nban_after = 1\ntrusted_networks = ["127.0.0.1/32"]\n')
        os.kill(server.pid(), signal.SIGHUP)
        until(lambda: server.events("gateway.reloaded"))
        file.write(b"after")
        file.close()
        assert sftp.stat("/inbox/meanwhile").st_size == 12
    assert keys() != before
    with paramiko_client(server) as client:
        transport = client.get_transport()
        assert transport is not None and transport.get_banner() == b"new words\n"
    fail(server, "127.0.0.9", "pat")
    until(lambda: turned_away(server, "127.0.0.9"))
    server.folder.settings.write_text(settings + "max_handles = -1\n")
    os.kill(server.pid(), signal.SIGHUP)
    until(lambda: "gateway.not_reloaded" in server.log())
    assert server.sftp("ls /inbox").splitlines()[-1].strip() == "/inbox/meanwhile"
    server.folder.settings.write_text(settings)


def test_a_transfer_that_runs_is_let_end_and_one_that_hangs_is_not_waited_for(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.write_bytes(os.urandom(1_500_000))
    with paramiko_client(server) as idle, idle.open_sftp() as hanging:
        held = hanging.open("/inbox/held", "wb")
        held.write(b"x" * 100)
        sending = begin(server, source, "/inbox/running")
        stopping = threading.Thread(target=server.stop, args=("gateway",))
        began = time.monotonic()
        stopping.start()
        assert sending.wait(30) == 0, sending.stdout and sending.stdout.read()
        stopping.join(30)
        assert time.monotonic() - began < 15
    assert server.landed()["/inbox/running"] == source.read_bytes()
    assert "/inbox/held" not in server.landed()
    server.start("gateway")


def test_asked_twice_it_cuts_and_what_was_cut_is_resumed(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.write_bytes(os.urandom(10_000_000))
    sending = begin(server, source, "/inbox/cut")
    pid = server.pid()
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.5)
    began = time.monotonic()
    server.stop("gateway")
    assert time.monotonic() - began < 5
    assert sending.wait(20) != 0
    server.start("gateway")
    with Catalog.open(server.folder.catalog) as catalog:
        catalog.edit_client(CLIENT, upload_bytes_per_second=None)
    with paramiko_client(server) as client, client.open_sftp() as sftp:
        there = sftp.stat("/inbox/cut").st_size or 0
    assert 0 < there < 10_000_000
    server.sftp(f"reput {source} /inbox/cut")
    until(lambda: server.landed().get("/inbox/cut") == source.read_bytes())
