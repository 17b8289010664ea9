"""lftp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.e2e.clients.driver import Driver, quoted


class Lftp(Driver):
    """lftp."""

    name = "lftp"

    def version(self) -> str:
        return self.run("lftp", "--version").split("Version")[1].split()[0]

    def _script(self, line: str) -> list[str]:
        program = f"ssh -a -x {' '.join(self.server.options())}"
        settings = f'set sftp:connect-program "{program}"; set net:max-retries 1; set cmd:fail-exit yes; set cmd:interactive no'
        return ["lftp", "-c", f"{settings}; open -u {self.server.person},none sftp://127.0.0.1:{self.server.port}; {line}; bye"]

    def put(self, source: Path, target: str) -> None:
        self.run(*self._script(f"put {source} -o {quoted(target)}"))

    def get(self, source: str, target: Path) -> None:
        target.unlink(missing_ok=True)
        self.run(*self._script(f"get {quoted(source)} -o {target}"))

    put_kept = put

    def put_tree(self, source: Path, target: str) -> None:
        self.run(*self._script(f"mirror -R {source} {quoted(target)}"))

    def get_tree(self, source: str, target: Path) -> None:
        self.run(*self._script(f"mirror {quoted(source)} {target}"))

    def resume_put(self, source: Path, target: str) -> None:
        self.run(*self._script(f"put -c {source} -o {quoted(target)}"))

    def resume_get(self, source: str, target: Path) -> None:
        self.run(*self._script(f"get -c {quoted(source)} -o {target}"))

    def rename(self, source: str, target: str) -> None:
        self.run(*self._script(f"mv {quoted(source)} {quoted(target)}"))

    def remove(self, target: str) -> None:
        self.run(*self._script(f"rm {quoted(target)}"))

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        self.killed(self._script(f"put {source} -o {target}"), has_begun)
