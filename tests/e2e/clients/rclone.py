"""rclone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.e2e.clients.driver import Driver


class Rclone(Driver):
    """rclone, with several streams a file."""

    name = "rclone"

    def version(self) -> str:
        return self.run("rclone", "version").split()[1].removeprefix("v")

    def _remote(self, path: str) -> str:
        key = f"key_file={self.server.key},shell_type=none,md5sum_command=none,sha1sum_command=none"
        return f":sftp,host=127.0.0.1,port={self.server.port},user={self.server.person},{key}:{path}"

    def _rclone(self, *words: str) -> list[str]:
        streams = ["--multi-thread-streams", "4", "--multi-thread-cutoff", "1M", "--multi-thread-chunk-size", "1M"]
        return ["rclone", "--config", "/dev/null", "--retries", "1", "--low-level-retries", "1", *streams, *words]

    def put(self, source: Path, target: str) -> None:
        self.run(*self._rclone("copyto", "--ignore-times", str(source), self._remote(target)))

    put_kept = put

    def get(self, source: str, target: Path) -> None:
        self.run(*self._rclone("copyto", "--ignore-times", self._remote(source), str(target)))

    def put_tree(self, source: Path, target: str) -> None:
        self.run(*self._rclone("copy", "--create-empty-src-dirs", str(source), self._remote(target)))

    def get_tree(self, source: str, target: Path) -> None:
        self.run(*self._rclone("copy", "--create-empty-src-dirs", self._remote(source), str(target)))

    def rename(self, source: str, target: str) -> None:
        self.run(*self._rclone("moveto", self._remote(source), self._remote(target)))

    def remove(self, target: str) -> None:
        self.run(*self._rclone("deletefile", self._remote(target)))

    def space(self) -> int:
        lines = dict(line.split(":", 1) for line in self.run(*self._rclone("about", "--full", self._remote("/inbox"))).splitlines() if ":" in line)
        return int(lines["Free"])

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        self.killed(self._rclone("copyto", str(source), self._remote(target)), has_begun)
