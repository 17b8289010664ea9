"""A running gateway, and the hands of those who run it and of those who log in."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
import pyotp
from click.testing import CliRunner

from nightsafe import cli
from tests.integration.sftp_rig import CLIENT, Server

PASSWORD = "correct horse battery"


class Desk:
    """A running gateway with keyd, and the commands of those who run it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.key = server.key

    def __call__(self, *arguments: str, code: int = 0, text: str | None = None) -> Any:
        done = CliRunner().invoke(cli, [*arguments, "--data", str(self.server.folder.root), "--json"], input=text)
        assert done.exit_code == code or (code and done.exception is not None), done.output
        return json.loads(done.stdout) if done.exit_code == 0 else done.exception

    def sftp(self, name: str, *options: str, key: Path | None = None) -> tuple[int, str]:
        command = ["sftp", *self.server.options(key), *options, "-P", str(self.server.port), "-b", "-", f"{name}@127.0.0.1"]
        done = subprocess.run(command, input=b"ls /\n", capture_output=True, timeout=240, check=False)
        return done.returncode, done.stdout.decode() + done.stderr.decode()

    def connect(self) -> paramiko.Transport:
        opened = paramiko.Transport(("127.0.0.1", self.server.port))
        opened.start_client()
        return opened

    def events(self, name: str, **wanted: object) -> list[dict[str, Any]]:
        return [event for event in self.server.events(name) if all(event.get(field) == value for field, value in wanted.items())]


def until(condition: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def code(seed: str) -> str:
    return pyotp.TOTP(seed).now()


def fresh_code(seed: str, used: str) -> str:
    """A code that was not used: the next one is taken a little early."""
    found = pyotp.TOTP(seed).at(time.time() + 25)
    return found if found != used else pyotp.TOTP(seed).at(time.time() + 30)


def add(desk: Desk, name: str, *options: str, text: str | None = None) -> Any:
    return desk("person", "add", name, "--client", CLIENT, *options, text=text)
