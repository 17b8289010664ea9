"""keyd as a process of its own: it starts again, stops, runs once, and shows no secret to others."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.errors import Busy
from config.roles import role_state
from gateway.keys.client import KeydClient, KeydUnavailable
from tests.integration.keyd_house import House, build


@pytest.fixture
def house(tmp_path: Path) -> House:
    return build(tmp_path)


SERVE = """
import sys
from config.folder import DataFolder
from config.loading import Installation
from config.settings import Settings
from pathlib import Path
from gateway.keys.keyd import serve
serve(Installation(DataFolder(Path(sys.argv[1])), Settings()))
"""


@contextlib.contextmanager
def keyd_process(house: House) -> Iterator[subprocess.Popen[bytes]]:
    log = house.folder.root.parent / "keyd.log"
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-c", SERVE, str(house.folder.root)], stderr=output, stdout=output)
    try:
        until = time.monotonic() + 240
        while not role_state(house.folder, "keyd"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_role_serves_restarts_and_stops(house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    client = KeydClient(house.folder.keyd_socket)
    with keyd_process(house) as process:
        key = client.paper_key("acme", paper, "vault", "acme", "download")
        assert Path(f"/proc/{process.pid}/limits").read_text().splitlines()[5].split()[4:6] == ["0", "0"]  # max core file size
        process.kill()
        process.wait()
    assert role_state(house.folder, "keyd") is None
    with pytest.raises(KeydUnavailable):
        client.paper_key("acme", paper, "vault", "acme", "download")
    with keyd_process(house) as process:
        assert client.paper_key("acme", paper, "vault", "acme", "download") == key
        process.terminate()
        assert process.wait(240) == 0
        assert not house.folder.keyd_socket.exists()
    said = (house.folder.root.parent / "keyd.log").read_text() + house.everything_written()
    for secret in (key.hex(), house.master.encode(), *(one.encode() for one in house.keyring.client_identities("acme", house.master))):
        assert secret not in said
    assert [event["event"] for event in house.audited()] == ["key.granted", "key.granted"]


def test_a_hardened_process_cannot_be_dumped() -> None:
    script = "import ctypes; from gateway.keys.process import harden_process; harden_process(); print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    dumpable = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert dumpable == "0\n"


def test_arguments_and_environment_hold_no_secret(house: House) -> None:
    with keyd_process(house) as process:
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"AGE-SECRET" not in environment + arguments


def test_only_one_keyd_runs_on_a_folder(house: House) -> None:
    from gateway.keys import keyd

    with keyd_process(house):
        script = (
            SERVE.replace("serve(Inst", "from config.errors import Busy\ntry:\n  serve(Inst").rstrip()
            + "\nexcept Busy as error:\n  sys.exit(int(error.exit_code))\n"
        )
        assert subprocess.run([sys.executable, "-c", script, str(house.folder.root)], timeout=240).returncode == Busy.exit_code
    assert keyd.MAX_CONNECTIONS > 0


def test_peer_credentials_are_the_kernels() -> None:
    from gateway.keys.keyd import _peer_user

    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert _peer_user(one) == os.geteuid()
        assert struct.calcsize("3i") == 12
