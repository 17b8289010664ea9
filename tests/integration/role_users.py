"""The roles under users of their own, without systemd: users that exist in a mount namespace alone, and what a unit gives a role.

`Barracks` is an installation whose files have the rights of `config.owners`; `command` runs anything as the user of a role, without any
capability, with its credentials and nothing else of ours in its environment.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from config.loading import Installation
from config.owners import ROLES, USERS
from config.rights import apply
from config.roles import role_state
from tests.integration.conftest import make_installation

ROOT = Path(__file__).parents[2]
FIRST_USER = 61_101
NUMBERS = {role: FIRST_USER + place for place, role in enumerate(ROLES)}


def _opened_up(held: str) -> str:
    """Shell lines that show Python and this program to every user, in a mount namespace, where they lie below a closed folder such as /root."""
    lines = []
    for number, needed in enumerate((Path(sys.base_prefix), ROOT)):
        closed = next((folder for folder in reversed(needed.parents) if not folder.stat().st_mode & stat.S_IXOTH), None)
        if closed is not None:
            aside = f"{held}/{number}"
            lines += [f"mkdir -p {aside} && mount --bind {needed} {aside}"]
            lines += [f"{{ mountpoint -q {closed} && test -d {needed}/bin || mount -t tmpfs -o mode=711 none {closed}; }}", f"mkdir -p {needed}"]
            lines += [f"mount --bind {aside} {needed}"]
    return " && ".join([*lines, "true"])


class Barracks:
    """One installation below `home`, which everybody may pass through, with `settings`; its credentials are on a RAM disk."""

    def __init__(self, home: Path, secrets: Path, settings: str = "") -> None:
        self.home = home
        self.secrets = secrets
        self.installation: Installation = make_installation(home, settings)
        for what in (home, secrets):
            what.chmod(0o711)
        (home / "held").mkdir()
        lines = [f"{USERS[role]}:x:{NUMBERS[role]}:{NUMBERS[role]}::/nonexistent:/usr/sbin/nologin" for role in ROLES]
        (home / "passwd").write_text("\n".join(["root:x:0:0:root:/root:/bin/sh", *lines, ""]))
        (home / "passwd").chmod(0o644)
        for folder in (self.installation.folder.dump, self.installation.folder.run):
            folder.mkdir(exist_ok=True)
        apply(self.installation, NUMBERS, deep=True)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def data(self) -> Path:
        return self.installation.folder.root

    def give_credentials(self) -> None:
        """What nightsafe-credentials.service does, and then LoadCredential for each role."""
        shown = self.secrets / "all"
        done = self.run("root", "credentials", str(shown))
        assert done.returncode == 0, done.stderr
        for role in os.listdir(shown):
            own = self.secrets / role
            shutil.copytree(shown / role, own)
            for path in (own, *own.iterdir()):
                os.chown(path, NUMBERS[role], NUMBERS[role])

    def command(self, role: str, *words: str) -> list[str]:
        """`words` as the user of `role`, or as root."""
        script = f'mount --bind "$0" /etc/passwd && {_opened_up(str(self.home / "held"))} && exec "$@"'
        inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(self.home / "passwd")]
        if role == "root":
            return [*inside, *words]
        number = str(NUMBERS[role])
        drop = ["setpriv", "--reuid", number, "--regid", number, "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        return [*inside, *drop, *words]

    def environment(self, role: str) -> dict[str, str]:
        """All that a process of `role` finds."""
        own = {"CREDENTIALS_DIRECTORY": str(self.secrets / role)} if (self.secrets / role).is_dir() else {}
        return {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "NIGHTSAFE_DATA": str(self.data), "NIGHTSAFE_DEBUG": "1", **own}

    def nightsafe(self, role: str, *words: str) -> list[str]:
        """A command line of ours as `role`."""
        return self.command(role, sys.executable, "-m", "nightsafe", *words)

    def run(self, role: str, *words: str) -> subprocess.CompletedProcess[str]:
        """`nightsafe …` as `role`, to its end."""
        ways = {"env": self.environment(role), "cwd": ROOT, "stdin": subprocess.DEVNULL, "timeout": 120}
        return subprocess.run(self.nightsafe(role, *words), capture_output=True, text=True, check=False, **ways)  # type: ignore[call-overload, no-any-return]

    def start(self, role: str, *words: str) -> None:
        """A role in the foreground; returns when it says that it is ready."""
        apply(self.installation, NUMBERS, deep=False)  # ExecStartPre
        with (self.home / f"{role}.log").open("ab") as log:
            self._running[role] = subprocess.Popen(
                self.nightsafe(role, *words), env=self.environment(role), stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT
            )
        self.until(lambda: role_state(self.installation.folder, words[0] if words[0] != "scheduler" else f"scheduler-{role}") is not None, role)

    def until(self, condition: Callable[[], bool], role: str, seconds: float = 240) -> None:
        """Wait; fails with the log of `role` when it has ended, or takes too long."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._running[role].poll() is None, self.log(role)
            assert time.monotonic() < deadline, self.log(role)
            time.sleep(0.05)

    def log(self, role: str) -> str:
        return (self.home / f"{role}.log").read_text(errors="replace")

    def stop(self) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        codes = {role: process.wait(240) for role, process in self._running.items()}
        self._running.clear()
        assert set(codes.values()) <= {0}, codes


@contextlib.contextmanager
def barracks(settings: str = "") -> Iterator[Barracks]:
    """One for a test, below /tmp: pytest's own folders are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="nightsafe-roles-") as home, tempfile.TemporaryDirectory(prefix="nightsafe-", dir="/dev/shm") as secrets:
        made = Barracks(Path(home), Path(secrets), settings)
        try:
            yield made
        except BaseException:
            sys.stderr.write("".join(f"{path.name}: {path.read_text(errors='replace')}" for path in sorted(Path(home).glob("*.log"))))
            raise
        finally:
            made.stop()
