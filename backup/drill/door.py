"""A client of the restored gateway, as any client is: paramiko, which shares no code with the server. Nothing it fetches touches a disk."""

from __future__ import annotations

import base64
import hashlib
import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, cast

import paramiko

from config.errors import NightsafeError
from gateway.audit.signatures import SigningKey

HOST = "127.0.0.1"
SECONDS = 60.0  # for an answer
AT_ONCE = 64  # read requests under way: bounds memory


class DoorClosed(NightsafeError):
    """The restored gateway did not do what a client asked of it."""


@dataclass(frozen=True)
class Door:
    """Where the restored gateway listens, the host key that it must have, and the key that opens it."""

    port: int
    host_key: str  # the public half, as ssh-keygen writes it
    key: SigningKey = field(repr=False)

    @contextmanager
    def enter(self, person: str) -> Iterator[Visit]:
        """Log in as `person`. Raises DoorClosed."""
        with _translated("it does not let its client in"):
            transport = paramiko.Transport((HOST, self.port))
        try:
            transport.auth_timeout = transport.banner_timeout = SECONDS
            with _translated("it does not let its client in"):
                expected = paramiko.Ed25519Key(data=base64.b64decode(self.host_key.split()[1]))
                transport.connect(hostkey=expected, username=person, pkey=paramiko.Ed25519Key(file_obj=io.StringIO(self.key.encode().decode())))
                sftp = paramiko.SFTPClient.from_transport(transport)
                if sftp is None:
                    raise DoorClosed("it opens no SFTP session")
            channel = sftp.get_channel()
            if channel is not None:
                channel.settimeout(SECONDS)
            yield Visit(sftp)
        finally:
            transport.close()


class Visit:
    """One SFTP session."""

    def __init__(self, sftp: paramiko.SFTPClient) -> None:
        self._sftp = sftp

    def names(self, folder: str) -> Iterator[tuple[str, int]]:
        """(path, size) of every file below `folder`. Raises DoorClosed."""
        with _translated("it does not list"):
            entries = sorted(self._sftp.listdir_attr(folder), key=lambda one: one.filename)
        for entry in entries:
            path = f"{folder}/{entry.filename}"
            if stat.S_ISDIR(entry.st_mode or 0):
                yield from self.names(path)
            else:
                yield path, entry.st_size or 0

    def fetch(self, path: str) -> tuple[int, str]:
        """Size and SHA-256 of a file. Raises DoorClosed."""
        sink = _Hashing()
        with _translated("it does not send it"):
            self._sftp.getfo(path, cast(IO[bytes], sink), max_concurrent_prefetch_requests=AT_ONCE)
        return sink.size, sink.digest.hexdigest()


class _Hashing(io.RawIOBase):
    """A file that keeps nothing but the hash of what is written to it."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Hash it."""
        self.digest.update(data)
        self.size += len(data)
        return len(data)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise DoorClosed(f"{what}: {str(error) or type(error).__name__}") from error
