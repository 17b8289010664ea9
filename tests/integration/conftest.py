"""Real parts that several integration tests share: data folders, and one real S3 server (SeaweedFS) for the whole session."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backup.repositories.access import S3Access, S3Role, access
from config.folder import DataFolder
from config.loading import Installation, load_settings
from config.roles import role_state
from gateway.age import Identity
from gateway.catalog import Catalog
from gateway.keys.keyring import Keyring
from gateway.keys.master import make_master
from gateway.sftp.papers.sync_cost import SyncCost
from tests.integration.audit_roles import roles_held

SERVE_S3 = "import sys; from config.loading import open_installation; from backup.embedded.role import serve; serve(open_installation(sys.argv[1]))"


def make_installation(root: Path, settings: str = "") -> Installation:
    """A finished, empty installation in `root/data`, as `init` makes it; its master key is `root/master.key`."""
    folder = DataFolder(root / "data")
    for path in (folder.spool_partial, folder.spool_landed, folder.jails, folder.vault, folder.quarantine, folder.audit, folder.evidence):
        path.mkdir(parents=True)
    folder.settings.write_text(settings)
    installation = Installation(folder, load_settings(folder.settings, {"NIGHTSAFE_SET_DRILL__SELF_TEST": "false"}))
    master = make_master(installation.path(installation.settings.keys.master_file), folder)
    Keyring.create(folder, master.recipient, Identity.generate().recipient)
    Catalog.create(folder.catalog).close()
    folder.version_file.write_text("1\n")
    return installation


@contextlib.contextmanager
def running_s3(installation: Installation) -> Iterator[subprocess.Popen[bytes]]:
    """The role 's3' in a process of its own, ready."""
    process = subprocess.Popen([sys.executable, "-c", SERVE_S3, str(installation.folder.root)], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 240
        while role_state(installation.folder, "s3") is None:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"the S3 server did not start: {process.communicate()[1].decode()}")
            time.sleep(0.02)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(240)
        if process.stderr:
            process.stderr.close()


@dataclass(frozen=True)
class S3Server:
    """The session's server, and how to reach a place of one's own in it."""

    installation: Installation

    def access(self, role: S3Role = "writer", prefix: str = "") -> S3Access:
        found = access(self.installation, role)
        return S3Access(found.endpoint, found.bucket, prefix, found.region, found.access_key, found.secret_key)

    def settings(self, root: Path, prefix: str) -> str:
        """Settings that use this server as an external one; writes the credentials file into `root`."""
        tables = []
        for role in ("writer", "reader", "pruner"):
            one = self.access(role)  # type: ignore[arg-type]
            tables.append(f'[{role}]\naccess_key = "{one.access_key}"\nsecret_key = "{one.secret_key}"\n')
        root.mkdir(parents=True, exist_ok=True)
        file = root / "s3.toml"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as opened:
            opened.write("\n".join(tables))
        endpoint = self.access().endpoint
        return f'[s3]\nendpoint = "{endpoint}"\nprefix = "{prefix}"\ncredentials_file = "../s3.toml"\n'


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, shared; take a prefix of your own."""
    installation = make_installation(tmp_path_factory.mktemp("s3"))
    with running_s3(installation):
        yield S3Server(installation)


@pytest.fixture
def new_installation(tmp_path: Path) -> Callable[[str], Installation]:
    """A function that makes an installation below the test's folder, with the given settings."""
    return lambda settings="": make_installation(tmp_path / secrets.token_hex(4), settings)


@pytest.fixture
def installation(tmp_path: Path, s3: S3Server) -> Installation:
    """An empty installation that backs up to the shared S3 server, below a prefix of its own."""
    return make_installation(tmp_path, s3.settings(tmp_path, f"t-{secrets.token_hex(6)}"))


@pytest.fixture
def s3_role() -> Callable[[Installation], contextlib.AbstractContextManager[subprocess.Popen[bytes]]]:
    """A context that runs the embedded S3 server of an installation."""
    return running_s3


@pytest.fixture(scope="session", autouse=True)
def audit_roles() -> Iterator[None]:
    """Every event is written by the role that the reference names."""
    with roles_held():
        yield


@pytest.fixture(params=["in threads", "in place"])
def closing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test on a slow disk, whose syncs threads wait for, and on a quick one, where small papers are finished on the event loop."""
    monkeypatch.setattr(SyncCost, "is_low", request.param == "in place")
