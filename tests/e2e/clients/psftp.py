"""PuTTY's psftp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.e2e.clients.driver import Driver


def doubled(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


class Psftp(Driver):
    """PuTTY's psftp, by a batch."""

    name = "psftp"

    def version(self) -> str:
        return self.run("psftp", "-V").split("Release")[1].split()[0]

    def _psftp(self) -> list[str]:
        host = self.server.folder.host_key.with_name(self.server.folder.host_key.name + ".pub")
        fingerprint = self.run("ssh-keygen", "-lf", str(host)).split()[1]
        key = self.home / "key.ppk"
        if not key.exists():
            self.run("puttygen", str(self.server.key), "-o", str(key), "-O", "private")
        return ["psftp", "-batch", "-P", str(self.server.port), "-i", str(key), "-hostkey", fingerprint, f"{self.server.person}@127.0.0.1"]

    def _do(self, *lines: str) -> None:
        batch = self.home / "batch"
        batch.write_text("".join(f"{line}\n" for line in lines))
        self.run(*self._psftp(), "-b", str(batch))

    def put(self, source: Path, target: str) -> None:
        self._do(f"put {source} {doubled(target)}")

    def get(self, source: str, target: Path) -> None:
        self._do(f"get {doubled(source)} {target}")

    def put_tree(self, source: Path, target: str) -> None:
        self._do(f"put -r {source} {doubled(target)}")

    def get_tree(self, source: str, target: Path) -> None:
        self._do(f"get -r {doubled(source)} {target}")

    def resume_put(self, source: Path, target: str) -> None:
        self._do(f"reput {source} {doubled(target)}")

    def resume_get(self, source: str, target: Path) -> None:
        self._do(f"reget {doubled(source)} {target}")

    def rename(self, source: str, target: str) -> None:
        self._do(f"mv {doubled(source)} {doubled(target)}")

    def remove(self, target: str) -> None:
        self._do(f"rm {doubled(target)}")

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        batch = self.home / "batch"
        batch.write_text(f"put {source} {target}\n")
        self.killed([*self._psftp(), "-b", str(batch)], has_begun)
