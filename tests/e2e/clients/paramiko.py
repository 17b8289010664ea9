"""paramiko, and what the others take it for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko

from tests.e2e.clients.driver import SECONDS, Driver
from tests.integration.sftp_rig import paramiko_client


def walk(sftp: paramiko.SFTPClient, folder: str, below: str = "") -> Iterator[str]:
    """Relative paths of all files below a remote folder."""
    for entry in sftp.listdir_attr(f"{folder}/{below}"):
        name = f"{below}{entry.filename}"
        if (entry.st_mode or 0) & 0o40000:
            yield from walk(sftp, folder, f"{name}/")
        else:
            yield name


class Paramiko(Driver):
    """paramiko."""

    name = "paramiko"

    def version(self) -> str:
        return paramiko.__version__

    @contextlib.contextmanager
    def _sftp(self) -> Iterator[paramiko.SFTPClient]:
        with paramiko_client(self.server) as client, client.open_sftp() as sftp:
            yield sftp

    def put(self, source: Path, target: str) -> None:
        with self._sftp() as sftp:
            sftp.put(str(source), target)  # asks for the size afterwards, and raises when it differs

    def get(self, source: str, target: Path) -> None:
        with self._sftp() as sftp:
            sftp.get(source, str(target))

    def put_kept(self, source: Path, target: str) -> None:
        with self._sftp() as sftp:
            sftp.put(str(source), target)
            state = source.stat()
            sftp.utime(target, (state.st_atime, state.st_mtime))

    def put_tree(self, source: Path, target: str) -> None:
        with self._sftp() as sftp:
            sftp.mkdir(target)
            for path in sorted(source.rglob("*")):
                remote = f"{target}/{path.relative_to(source)}"
                if path.is_dir():
                    sftp.mkdir(remote)
                else:
                    sftp.put(str(path), remote)

    def get_tree(self, source: str, target: Path) -> None:
        with self._sftp() as sftp:
            for name in list(walk(sftp, source)):
                local = target / name
                local.parent.mkdir(parents=True, exist_ok=True)
                sftp.get(f"{source}/{name}", str(local))

    def resume_put(self, source: Path, target: str) -> None:
        with self._sftp() as sftp, sftp.open(target, "ab") as file:
            file.write(source.read_bytes()[sftp.stat(target).st_size or 0 :])

    def resume_get(self, source: str, target: Path) -> None:
        with self._sftp() as sftp, sftp.open(source, "rb") as file:
            file.seek(target.stat().st_size)
            with target.open("ab") as local:
                local.write(file.read())

    def rename(self, source: str, target: str) -> None:
        with self._sftp() as sftp:
            sftp.rename(source, target)

    def remove(self, target: str) -> None:
        with self._sftp() as sftp:
            sftp.remove(target)

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        with paramiko_client(self.server) as client:
            sftp = client.open_sftp()
            file = sftp.open(target, "wb")
            file.write(source.read_bytes()[: source.stat().st_size // 2])
            file.flush()
            deadline = time.monotonic() + SECONDS
            while not has_begun():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            transport = client.get_transport()
            assert transport is not None
            transport.sock.close()  # no goodbye
