"""OpenSSH's two clients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.e2e.clients.driver import Driver, quoted


class OpenSsh(Driver):
    """OpenSSH's sftp, by a batch."""

    name = "OpenSSH sftp"

    def version(self) -> str:
        return self.run("ssh", "-V").split(",")[0].split("_")[1].split(" ")[0]

    def put(self, source: Path, target: str) -> None:
        self.server.sftp(f"put {source} {quoted(target)}")

    def get(self, source: str, target: Path) -> None:
        self.server.sftp(f"get {quoted(source)} {target}")

    def put_kept(self, source: Path, target: str) -> None:
        self.server.sftp(f"put -p {source} {quoted(target)}")

    def put_tree(self, source: Path, target: str) -> None:
        self.server.sftp(f"put -R {source} {quoted(target)}")

    def get_tree(self, source: str, target: Path) -> None:
        self.server.sftp(f"get -R {quoted(source)} {target}")

    def resume_put(self, source: Path, target: str) -> None:
        self.server.sftp(f"reput {source} {quoted(target)}")

    def resume_get(self, source: str, target: Path) -> None:
        self.server.sftp(f"reget {quoted(source)} {target}")

    def rename(self, source: str, target: str) -> None:
        self.server.sftp(f"rename {quoted(source)} {quoted(target)}")

    def remove(self, target: str) -> None:
        self.server.sftp(f"rm {quoted(target)}")

    def space(self) -> int:
        return int(self.server.sftp("df /inbox").splitlines()[-1].split()[2]) * 1024

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        command = ["sftp", *self.server.options(), "-P", str(self.server.port), "-b", "-", f"{self.server.person}@127.0.0.1"]
        self.killed(command, has_begun, f"put {source} {target}\n")


class Scp(Driver):
    """OpenSSH's scp, which speaks SFTP since 9.0."""

    name = "OpenSSH scp"

    version = OpenSsh.version

    def _scp(self, *words: str) -> list[str]:
        return ["scp", "-s", *self.server.options(), "-P", str(self.server.port), *words]

    def put(self, source: Path, target: str) -> None:
        self.run(*self._scp(str(source), self.server.remote(target)))

    def get(self, source: str, target: Path) -> None:
        self.run(*self._scp(self.server.remote(source), str(target)))

    def put_kept(self, source: Path, target: str) -> None:
        self.run(*self._scp("-p", str(source), self.server.remote(target)))

    def put_tree(self, source: Path, target: str) -> None:
        self.run(*self._scp("-r", str(source), self.server.remote(target)))

    def get_tree(self, source: str, target: Path) -> None:
        self.run(*self._scp("-r", self.server.remote(source), str(target)))

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        self.killed(self._scp(str(source), self.server.remote(target)), has_begun)
