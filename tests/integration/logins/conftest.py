"""One gateway for all tests of logins."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.logins.desk import Desk
from tests.integration.sftp_rig import running_server

SETTINGS = (
    'settle_seconds = 0\nmax_auth_attempts = 6\nrequire_auditor = ["publickey+totp"]\nnotice = "Authorised use only."\nnotice_version = "2026-11"\n'
)


@pytest.fixture(scope="package")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with running_server(tmp_path_factory.mktemp("logins"), SETTINGS) as running:
        yield Desk(running)


@pytest.fixture
def new_key(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, *options: str) -> Path:
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", str(tmp_path / name), *(options or ("-t", "ed25519"))], check=True)
        return tmp_path / name

    return make
