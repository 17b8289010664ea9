"""What every session channel of this server has in common: it carries SFTP, and nothing else can be asked for on it."""

from __future__ import annotations

from typing import Any

import asyncssh

SUBSYSTEM = "sftp"
CHANNEL_BUFFER = 256 * 1024  # bytes of replies that may wait for the peer's window


class SftpOnlySession(asyncssh.SSHServerSession[bytes]):
    """No terminal, no shell, no command, one subsystem. `_channel` is None before it is opened and after it is lost."""

    def __init__(self) -> None:
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None

    def sftp_requested(self) -> bool:
        """SFTP was asked for; False refuses."""
        raise NotImplementedError

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """See asyncssh, as for the others."""
        self._channel = chan
        chan.set_write_buffer_limits(high=CHANNEL_BUFFER)

    def pty_requested(self, *_: Any) -> bool:
        """Refused."""
        return False

    def shell_requested(self) -> bool:
        """Refused."""
        return False

    def exec_requested(self, command: str) -> bool:  # noqa: ARG002
        """Refused."""
        return False

    def subsystem_requested(self, subsystem: str) -> bool:
        """Refused, unless it is SFTP."""
        return subsystem == SUBSYSTEM and self.sftp_requested()
