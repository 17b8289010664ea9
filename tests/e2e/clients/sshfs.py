"""sshfs: a client that is a file system."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.e2e.clients.driver import SECONDS, Driver


class Sshfs(Driver):
    """sshfs: what programs do on a file system, mounted for each verb."""

    name = "sshfs"

    def version(self) -> str:
        return self.run("sshfs", "--version").split("SSHFS version")[1].split()[0]

    def _command(self) -> list[str]:
        program = f"ssh -a -x {' '.join(self.server.options())}"
        return ["sshfs", "-s", "-p", str(self.server.port), "-o", f"ssh_command={program}", f"{self.server.person}@127.0.0.1:/", str(self.home)]

    @contextlib.contextmanager
    def _mounted(self) -> Iterator[Callable[[str], Path]]:
        self.run(*self._command())
        try:
            yield lambda path: self.home / path.lstrip("/")
        finally:
            os.statvfs(self.home)  # a file is closed at the server behind its program's back: one after another (-s), so before this is answered
            self.run("fusermount3", "-u", str(self.home))

    def put(self, source: Path, target: str) -> None:
        with self._mounted() as at:
            shutil.copyfile(source, at(target))

    def get(self, source: str, target: Path) -> None:
        with self._mounted() as at:
            shutil.copyfile(at(source), target)

    def put_kept(self, source: Path, target: str) -> None:
        with self._mounted() as at:
            shutil.copy2(source, at(target))

    def put_tree(self, source: Path, target: str) -> None:
        with self._mounted() as at:
            shutil.copytree(source, at(target))

    def get_tree(self, source: str, target: Path) -> None:
        with self._mounted() as at:
            shutil.copytree(at(source), target)

    def resume_put(self, source: Path, target: str) -> None:
        with self._mounted() as at, at(target).open("ab") as file:
            file.write(source.read_bytes()[file.tell() :])
            file.flush()
            assert at(target).stat().st_size == source.stat().st_size  # asked by name, while it is being written

    def resume_get(self, source: str, target: Path) -> None:
        with self._mounted() as at, at(source).open("rb") as file, target.open("ab") as local:
            file.seek(local.tell())
            shutil.copyfileobj(file, local)

    def rename(self, source: str, target: str) -> None:
        with self._mounted() as at:
            at(source).rename(at(target))

    def remove(self, target: str) -> None:
        with self._mounted() as at:
            at(target).unlink()

    def space(self) -> int:
        with self._mounted() as at:
            told = os.statvfs(at("/inbox"))
            return told.f_bavail * told.f_frsize

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        """The whole file system dies: would the copying program alone, its file were closed like any other."""
        mount = subprocess.Popen([*self._command(), "-f"], stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            deadline = time.monotonic() + SECONDS
            while not self.home.is_mount():
                assert mount.poll() is None and time.monotonic() < deadline, "sshfs did not mount"
                time.sleep(0.01)

            def mount_is_gone() -> bool:
                if not has_begun():
                    return False
                os.killpg(mount.pid, 9)
                return True

            self.killed(["cp", str(source), str(self.home / target.lstrip("/"))], mount_is_gone)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(mount.pid, 9)
            mount.wait()
            self.run("fusermount3", "-u", "-z", str(self.home))
