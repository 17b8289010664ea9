"""The sockets that connections come from, and what SSH offers on them."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable

import asyncssh
from asyncssh.connection import SSHServerConnectionOptions

from config.errors import OutOfReach, SettingsError
from config.folder import DataFolder
from config.settings import GatewaySettings
from gateway.sftp.authentication.login import Login
from gateway.sftp.transport.algorithms import COMPRESSION, algorithms
from gateway.sftp.transport.connection import GuardedConnection
from gateway.sftp.workers.crew import Crew
from gateway.sftp.workers.guests import Guest

BACKLOG = 512
ACCEPTED_AT_ONCE = 1  # in one turn of the event loop: the others have theirs soon, and workers share a burst of connections
SERVER_VERSION = "Nightsafe"

Connect = Callable[[], GuardedConnection]


class Listeners:
    """The listening sockets of one process."""

    def __init__(self) -> None:
        self._servers: list[asyncio.AbstractServer] = []

    async def open(self, host: str, port: int, connection: Connect) -> int:
        """Listen, alone; the port. Raises OutOfReach."""
        try:
            server = await asyncio.get_running_loop().create_server(connection, host, port, backlog=ACCEPTED_AT_ONCE)
        except OSError as error:
            raise cannot_listen(host, port, error) from error
        for listening in server.sockets:
            with socket.socket(fileno=os.dup(listening.fileno())) as again:
                again.listen(BACKLOG)  # asyncio takes one number for both
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def join(self, crew: Crew, connection: Connect, guest: Callable[[], Guest]) -> None:
        """Take connections from the sockets that all workers share, and guests at the door of this one."""
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_unix_server(guest, sock=crew.doors[crew.me]))
        for listener in crew.listeners:
            self._servers.append(await loop.create_server(connection, sock=listener, backlog=ACCEPTED_AT_ONCE))
            listener.listen(BACKLOG)  # asyncio takes the number of connections that it accepts at once for the kernel's queue, too

    def close(self) -> None:
        """Take nobody in any more."""
        for server in self._servers:
            server.close()


async def ssh_options(
    settings: GatewaySettings,
    folder: DataFolder,
    run: Callable[[Callable[[], asyncssh.SSHKey]], Awaitable[asyncssh.SSHKey]],
    login: Callable[[], Login],
) -> SSHServerConnectionOptions:
    """What a connection offers by the settings; the host key is read by `run`, in a thread. Raises SettingsError."""
    offered = algorithms(settings.algorithms)
    path = folder.host_key
    if settings.algorithms == "nist":
        path = folder.nist_host_key
        if not path.exists():
            raise SettingsError("there is no host key for the policy 'nist'", "make it with: nightsafe host-key --nist")
    try:
        host_key = await run(lambda: asyncssh.read_private_key(path))
    except (OSError, asyncssh.KeyImportError) as error:
        raise SettingsError(f"the host key {path.name} cannot be read: {error}", "restore keys/host from a backup of the keys") from error
    options: SSHServerConnectionOptions = await SSHServerConnectionOptions.construct(
        config=None,
        server_factory=login,
        server_version=SERVER_VERSION,
        server_host_keys=[host_key],
        kex_algs=list(offered.key_exchange),
        encryption_algs=list(offered.encryption),
        mac_algs=list(offered.mac),
        compression_algs=list(COMPRESSION),
        signature_algs=list(offered.signatures),
        public_key_auth=True,
        password_auth=True,
        kbdint_auth=True,
        host_based_auth=False,
        gss_host=None,
        x509_trusted_certs=None,
        allow_pty=False,
        agent_forwarding=False,
        x11_forwarding=False,
        line_editor=False,
        encoding=None,
        login_timeout=settings.login_seconds,
        keepalive_interval=0,
    )
    return options


def cannot_listen(host: str, port: int, error: OSError) -> OutOfReach:
    """The error for a port that cannot be listened on."""
    place = f"{host} port {port}"
    if error.errno == errno.EADDRINUSE:
        return OutOfReach(f"{place} is taken by another program", "stop it, or set [gateway] port in the settings (0 takes a free one)")
    if error.errno == errno.EACCES:
        return OutOfReach(f"this user may not listen on {place}", "ports below 1024 need CAP_NET_BIND_SERVICE; the default is 2022")
    if error.errno == errno.EADDRNOTAVAIL:
        return OutOfReach(f"this machine does not have the address {host}", "set [gateway] host in the settings to one that it has, or to 0.0.0.0")
    return OutOfReach(f"the server cannot listen on {place}: {error.strerror or error}", "check [gateway] host and port in the settings")
