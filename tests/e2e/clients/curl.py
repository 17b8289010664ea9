"""curl with libssh2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from tests.e2e.clients.driver import Driver, quoted
from tests.e2e.clients.paramiko import walk
from tests.integration.sftp_rig import Server, paramiko_client


class Curl(Driver):
    """curl with libssh2."""

    name = "curl"

    def __init__(self, server: Server, home: Path) -> None:
        super().__init__(server, home)
        host = server.folder.host_key.with_name(server.folder.host_key.name + ".pub").read_text().split()
        (home / ".ssh").mkdir()
        (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {host[0]} {host[1]}\n")

    def version(self) -> str:
        words = self.run("curl", "--version").split()
        return f"{words[1]}, {next(word for word in words if word.startswith('libssh'))}"

    def _curl(self, remote: str, *words: str) -> list[str]:
        login = ["--user", f"{self.server.person}:", "--key", str(self.server.key), "--pubkey", f"{self.server.key}.pub"]
        return ["curl", "-sS", "-g", "--ftp-create-dirs", *login, *words, f"sftp://127.0.0.1:{self.server.port}{quote(remote)}"]

    def _run(self, remote: str, *words: str) -> None:
        self.run(*self._curl(remote, *words), environment={"HOME": str(self.home)})

    def put(self, source: Path, target: str) -> None:
        self._run(target, "-T", str(source))

    def get(self, source: str, target: Path) -> None:
        self._run(source, "-o", str(target))

    def put_tree(self, source: Path, target: str) -> None:
        for path in source.rglob("*"):
            if path.is_file():
                self.put(path, f"{target}/{path.relative_to(source)}")

    def get_tree(self, source: str, target: Path) -> None:
        with paramiko_client(self.server) as client, client.open_sftp() as sftp:  # curl can fetch a file whose name it is told
            names = list(walk(sftp, source))
        for name in names:
            local = target / name
            local.parent.mkdir(parents=True, exist_ok=True)
            self.get(f"{source}/{name}", local)

    def resume_put(self, source: Path, target: str) -> None:
        self._run(target, "-C", "-", "-T", str(source))

    def resume_get(self, source: str, target: Path) -> None:
        self._run(source, "-C", "-", "-o", str(target))

    def rename(self, source: str, target: str) -> None:
        self._run("/", "-o", "/dev/null", "-Q", f"rename {quoted(source)} {quoted(target)}")

    def remove(self, target: str) -> None:
        self._run("/", "-o", "/dev/null", "-Q", f"rm {quoted(target)}")

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        self.killed(self._curl(target, "-T", str(source)), has_begun, environment={"HOME": str(self.home)})
