"""The SFTP clients of the matrix, a module each, behind the same few verbs."""

from __future__ import annotations

import shutil

from tests.e2e.clients.asyncssh import Asyncssh
from tests.e2e.clients.curl import Curl
from tests.e2e.clients.driver import Driver
from tests.e2e.clients.lftp import Lftp
from tests.e2e.clients.openssh import OpenSsh, Scp
from tests.e2e.clients.paramiko import Paramiko
from tests.e2e.clients.psftp import Psftp
from tests.e2e.clients.rclone import Rclone
from tests.e2e.clients.sshfs import Sshfs

__all__ = ["DRIVERS", "Asyncssh", "Curl", "Driver", "Lftp", "OpenSsh", "Paramiko", "Psftp", "Rclone", "Scp", "Sshfs", "missing_programs"]

DRIVERS: tuple[type[Driver], ...] = (OpenSsh, Scp, Rclone, Lftp, Curl, Psftp, Sshfs, Paramiko, Asyncssh)


def missing_programs() -> list[str]:
    """Programs of the matrix that this machine lacks."""
    return [name for name in ("sftp", "scp", "rclone", "lftp", "curl", "psftp", "sshfs") if shutil.which(name) is None]
