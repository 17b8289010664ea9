"""The role `gateway`: the SFTP server as a process, from its hardening to its orderly end."""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from contextlib import closing

import structlog

from config.errors import NightsafeError
from config.folder import DataFolder
from config.loading import Installation, load_settings
from config.roles import RunningRole, running_role
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.keys.client import KeydClient
from gateway.keys.keyring import Keyring
from gateway.keys.process import harden_process
from gateway.sftp.recording import Recorder
from gateway.sftp.server import Gateway, Stores
from gateway.sftp.transport import check_asyncssh
from gateway.store.spool import Spool
from gateway.store.vault import Vault

log = structlog.get_logger()

DESCRIPTORS = 65536  # connections, open papers and folders; the usual soft limit of 1024 stems from select(), which is not used here


def serve(installation: Installation, host: str | None = None, port: int | None = None) -> None:
    """Serve SFTP until SIGTERM or SIGINT; `host` and `port` stand above the settings.

    Holds no identity: the host key, and public recipients. Raises Busy when it runs already, OutOfReach when the port is taken, SettingsError.
    """
    harden_process()
    raise_descriptors()
    check_asyncssh()
    folder, settings = installation.folder, installation.settings.gateway
    with (
        running_role(folder, "gateway") as role,
        Catalog.open(folder.catalog) as catalog,
        closing(AuditLog(folder.audit, "gateway")) as audit,
        Spool(folder.spool_partial, folder.spool_landed, Keyring(folder).ingest_recipient) as spool,
        closing(KeydClient(folder.keyd_socket)) as keys,
    ):
        gateway = Gateway(settings, Stores(folder, catalog, spool, Vault(folder.vault), keys, Recorder(audit)))
        place = settings.host if host is None else host, settings.port if port is None else port
        asyncio.run(_run(gateway, role, audit, place, folder))


def raise_descriptors() -> None:
    """Let this process open as many files as it may, up to DESCRIPTORS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _run(gateway: Gateway, role: RunningRole, audit: AuditLog, place: tuple[str, int], folder: DataFolder) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    host, port = place
    tasks: set[asyncio.Task[None]] = set()

    def asked_to_stop() -> None:
        (hurry if stop.is_set() else stop).set()  # asked twice: at once

    def asked_to_reload() -> None:
        task = loop.create_task(_reload(gateway, audit, folder))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop)
    if not sys.stdin.isatty():  # from a terminal it says that the terminal is gone
        loop.add_signal_handler(signal.SIGHUP, asked_to_reload)
    try:
        port = await gateway.start(host, port)
        role.announce(host=host, port=port)
        log.info("gateway.ready", host=host, port=port)
        await stop.wait()
        log.info("gateway.stopping")
        role.withdraw()
    finally:
        await gateway.stop(hurry)
        audit.sync()


async def _reload(gateway: Gateway, audit: AuditLog, folder: DataFolder) -> None:
    """SIGHUP: read settings and host key again. Mistakes in them change nothing."""
    try:
        await gateway.reload(load_settings(folder.settings).gateway)
        audit.append(Event.GATEWAY_RELOADED)
    except NightsafeError as error:
        log.warning("gateway.not_reloaded", mistakes=error.message)
    else:
        log.info("gateway.reloaded")
