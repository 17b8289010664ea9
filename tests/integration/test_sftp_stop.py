"""The end of the gateway while papers come in, and new settings without an end: real processes, OpenSSH's client."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.catalog import Catalog
from tests.integration.sftp_rig import CLIENT, Server, paramiko_client, running_server
from tests.integration.test_sftp_defence import fail, turned_away

SLOW = 500_000  # bytes a second
# A machine that stands still for some seconds must not make a running transfer one that hangs; still far less than `stop_seconds`.
PATIENT = "import gateway.sftp.transport.draining as draining\ndraining.QUIET_SECONDS = 20.0\n"
STOP_SECONDS = 150


class Manager:
    """A service manager: hears what processes say, and knows which one said it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(str(path))
        self._heard: list[tuple[int, str]] = []
        self._thread = threading.Thread(target=self._listen, name="manager", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            news, about, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(12))
            if not news:
                return
            (sender,) = (struct.unpack("3i", data)[0] for _, kind, data in about if kind == socket.SCM_CREDENTIALS)
            self._heard += [(sender, line) for line in news.decode().splitlines()]

    def said_by(self, pid: int) -> list[str]:
        """All lines, in order."""
        return [line for sender, line in self._heard if sender == pid]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    """What the server's roles take for the service manager, which wants to hear from them every two seconds."""
    path = tmp_path_factory.mktemp("manager") / "notify"
    with closing(Manager(path)) as made, pytest.MonkeyPatch.context() as environment:
        environment.setenv("NOTIFY_SOCKET", str(path))
        environment.setenv("WATCHDOG_USEC", "2000000")
        yield made


def patient(server: Server) -> None:
    server.before = PATIENT


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, manager: Manager) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("stop"), f"stop_seconds = {STOP_SECONDS}\n", patient) as running:
        with Catalog.open(running.folder.catalog) as catalog:
            catalog.edit_client(CLIENT, upload_bytes_per_second=SLOW)
        yield running


def until(holds: Callable[[], object], seconds: float = 240) -> None:
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


def test_the_service_manager_is_told_of_it_all(server: Server, manager: Manager) -> None:
    """After the two reloads above."""
    gateway, keyd = server.pid(), server.pid("keyd")
    until(lambda: [manager.said_by(pid).count("WATCHDOG=1") >= 2 for pid in (gateway, keyd)] == [True, True])
    said = [line.partition("=")[0] for line in manager.said_by(gateway) if line != "WATCHDOG=1"]
    assert said == ["READY", *["RELOADING", "MONOTONIC_USEC", "READY"] * 2]
    (reloaded, _) = (int(line.partition("=")[2]) for line in manager.said_by(gateway) if line.startswith("MONOTONIC_USEC="))
    assert 0 < time.monotonic() - reloaded / 1e6 < 300
    assert [line for line in manager.said_by(keyd) if line != "WATCHDOG=1"] == ["READY=1"]


def test_a_transfer_that_runs_is_let_end_and_one_that_hangs_is_not_waited_for(server: Server, manager: Manager, tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.write_bytes(os.urandom(3_000_000))
    pid = server.pid()
    with paramiko_client(server) as idle, idle.open_sftp() as hanging:
        held = hanging.open("/inbox/held", "wb")
        held.write(b"x" * 100)
        sending = begin(server, source, "/inbox/running")
        stopping = threading.Thread(target=server.stop, args=("gateway",))
        began = time.monotonic()
        stopping.start()
        assert sending.wait(240) == 0, sending.stdout and sending.stdout.read()
        stopping.join(240)
        assert time.monotonic() - began < STOP_SECONDS - 30
    assert server.landed()["/inbox/running"] == source.read_bytes()
    assert "/inbox/held" not in server.landed()
    assert manager.said_by(pid).count("STOPPING=1") == 1
    server.start("gateway")


def test_asked_twice_it_cuts_and_what_was_cut_is_resumed(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.write_bytes(os.urandom(40_000_000))  # for more than a minute
    sending = begin(server, source, "/inbox/cut")
    until(lambda: any(path.stat().st_size > 200_000 for path in server.folder.spool_partial.iterdir()))
    pid = server.pid()
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.5)
    began = time.monotonic()
    server.stop("gateway")
    assert time.monotonic() - began < 30
    assert sending.wait(240) != 0
    server.start("gateway")
    with Catalog.open(server.folder.catalog) as catalog:
        catalog.edit_client(CLIENT, upload_bytes_per_second=None)
    with paramiko_client(server) as client, client.open_sftp() as sftp:
        there = sftp.stat("/inbox/cut").st_size or 0
    assert 0 < there < 40_000_000
    server.sftp(f"reput {source} /inbox/cut")
    until(lambda: server.landed().get("/inbox/cut") == source.read_bytes())
