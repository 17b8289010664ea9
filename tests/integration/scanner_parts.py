"""A real clamd with one signature, and small programs that scan: for the tests of checks."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.checks import ScanSettings
from gateway.ingest.checks.scanner import PROBE

MEMORY = Path("/dev/shm")  # a tmpfs, as clamd's temporary folder must be on
ALERTS = "AlertExceedsMax yes\nAlertEncrypted yes\n"
FINDS = "import sys; found = b'EICAR-STANDARD' in sys.stdin.buffer.read(); print('Eicar' if found else 'fine'); sys.exit(found)"


class RealClamd:
    """clamd as a process. `settings` are those of ingest for it; its own may be changed by `lines`."""

    def __init__(self, folder: Path, memory: Path, lines: str = ALERTS) -> None:
        self.folder = folder
        self.socket = folder / "s"
        self.config = folder / "clamd.conf"
        (folder / "db").mkdir(parents=True, exist_ok=True)
        (folder / "db" / "test.hdb").write_text(f"{hashlib.md5(PROBE).hexdigest()}:{len(PROBE)}:Eicar-Test\n")
        self.config.write_text(
            f"LocalSocket {self.socket}\nDatabaseDirectory {folder / 'db'}\nTemporaryDirectory {memory}\nForeground yes\nStreamMaxLength 4M\n"
            f"FixStaleSocket yes\nUser root\n{lines}"
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> ScanSettings:
        return ScanSettings(scanner="clamd", address=str(self.socket), signatures_hours=0, clamd_config=self.config, seconds=30)

    def start(self) -> None:
        """Returns once it listens."""
        program = shutil.which("clamd", path="/usr/sbin:/usr/bin:/bin")
        assert program is not None
        self.process = subprocess.Popen([program, "-c", str(self.config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 240
        while not self._listens():
            assert self.process.poll() is None and time.monotonic() < until, "clamd did not start"
            time.sleep(0.02)

    def _listens(self) -> bool:
        """Its socket is there a moment before it takes connections."""
        with socket.socket(socket.AF_UNIX) as line:
            return line.connect_ex(str(self.socket)) == 0

    def stop(self) -> None:
        """As by SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.socket.unlink(missing_ok=True)


@contextmanager
def clamd(lines: str = ALERTS) -> Iterator[RealClamd]:
    """A running clamd, gone at the end. Its folders have short names: a socket's path may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="clamd-") as folder, tempfile.TemporaryDirectory(prefix="clamd-", dir=MEMORY) as memory:
        made = RealClamd(Path(folder), Path(memory), lines)
        made.start()
        try:
            yield made
        finally:
            made.stop()


def command_settings(program: str = FINDS) -> ScanSettings:
    """A command scanner: a few lines of Python."""
    return ScanSettings(scanner="command", command=(sys.executable, "-c", program), seconds=30)
