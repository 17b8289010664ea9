"""The role `gateway`: the SFTP server as a process, or as several on one port, from its hardening to its orderly end."""

from __future__ import annotations

import _thread
import asyncio
import gc
import resource
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from types import FrameType

import structlog

from config.errors import NightsafeError
from config.folder import DataFolder
from config.loading import Installation, load_settings
from config.manager import beat_seconds, say_no_more, tell, tell_alive, tell_reloading
from config.roles import RunningRole, running_role
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.settings import record_settings
from gateway.catalog import Catalog
from gateway.keys.client import KeydClient
from gateway.keys.keyring import Keyring
from gateway.keys.process import harden_process
from gateway.sftp.defender.doorkeeper import EACH, descriptors
from gateway.sftp.defender.tallies import Board
from gateway.sftp.papers.stores import Stores
from gateway.sftp.server import Gateway
from gateway.sftp.session.recording import Recorder
from gateway.sftp.transport.connection import check_asyncssh
from gateway.sftp.transport.listening import BACKLOG, cannot_listen
from gateway.sftp.workers.crew import Crew, door_path, listen, open_door
from gateway.sftp.workers.workforce import Workforce
from gateway.store.spool import Spool
from gateway.store.vault import Vault

log = structlog.get_logger()

DESCRIPTORS = 65536  # connections, open papers and folders; the usual soft limit of 1024 stems from select(), which is not used here

COLLECTED_AT = 400, 3, 40  # as much work in all as by Python's own 700, 10, 10, which does up to 2 ms of it at once
SWITCH_SECONDS = 0.0003  # for which a thread may keep the event loop from going on; Python's own 0.005 is felt by everybody whenever folders are read


def serve(installation: Installation, host: str | None = None, port: int | None = None, workers: int | None = None) -> None:
    """Serve SFTP until SIGTERM or SIGINT; `host`, `port` and `workers` stand above the settings.

    Holds no identity: the host key, and public recipients. Raises Busy when it runs already, OutOfReach when the port is taken, SettingsError.
    """
    harden_process()
    raise_descriptors()
    _tell_of_few_descriptors(installation.settings.gateway.max_connections)
    sys.setswitchinterval(SWITCH_SECONDS)
    check_asyncssh()
    settings = installation.settings.gateway
    host, port = settings.host if host is None else host, settings.port if port is None else port
    count = settings.workers if workers is None else workers
    with running_role(installation.folder, "gateway") as role:
        if count > 1:
            _serve_together(installation, role, host, port, count)
            return

        def ready(port: int) -> None:
            role.announce(host=host, port=port)
            log.info("gateway.ready", host=host, port=port)

        _serve_here(installation, host, port, None, ready, role.withdraw)


def _serve_together(installation: Installation, role: RunningRole, host: str, port: int, count: int) -> None:
    """Watch `count` workers that share one port."""
    folder = installation.folder.run
    with ExitStack() as held:
        try:
            listeners = [held.enter_context(listener) for listener in listen(host, port, BACKLOG)]
        except OSError as error:
            raise cannot_listen(host, port, error) from error
        doors = [held.enter_context(open_door(folder, number)) for number in range(count)]
        port, board = int(listeners[0].getsockname()[1]), Board(count)

        def work(number: int, ready: Callable[[], None]) -> None:
            say_no_more()
            for other in doors[:number] + doors[number + 1 :]:
                other.close()
            crew = Crew(number, count, listeners, doors, folder, board)
            _serve_here(_now(installation), host, port, crew, lambda _port: ready(), lambda: None)

        force = Workforce(count, work, board.clear, installation.settings.gateway.stop_seconds)
        hurry = threading.Event()
        _watch_signals(role.stop, hurry, force)
        try:
            force.start(role.stop)
            if not role.stop.is_set():
                role.announce(host=host, port=port)
                log.info("gateway.ready", host=host, port=port, workers=count)
            force.watch(role.wait)
            log.info("gateway.stopping")
            role.withdraw()
        finally:
            force.end(hurry)
            for number in range(count):
                door_path(folder, number).unlink(missing_ok=True)


def _now(installation: Installation) -> Installation:
    """With the settings as they are: they may have changed since the first workers started."""
    try:
        return replace(installation, settings=load_settings(installation.folder.settings))
    except NightsafeError:
        return installation


def _watch_signals(stop: threading.Event, hurry: threading.Event, force: Workforce) -> None:
    """SIGTERM and SIGINT stop, and hurry when they come again; SIGHUP is for the workers."""
    asked: list[int] = []

    def asked_to_stop(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        # not here: this runs in the main thread, which may be inside the event's wait and hold its lock
        _thread.start_new_thread((stop if len(asked) == 1 else hurry).set, ())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked_to_stop)
    if not sys.stdin.isatty():
        signal.signal(signal.SIGHUP, lambda number, _: force.signal(number))


def _serve_here(
    installation: Installation, host: str, port: int, crew: Crew | None, ready: Callable[[int], None], stopping: Callable[[], None]
) -> None:
    """Serve in this process: alone, or as one of a crew."""
    folder = installation.folder
    with (
        Catalog.open(folder.catalog) as catalog,
        closing(AuditLog(folder.audit, "gateway")) as audit,
        Spool(folder.spool_partial, folder.spool_landed, Keyring(folder).ingest_recipient) as spool,
        closing(KeydClient(folder.keyd_socket)) as keys,
    ):
        if crew is None or crew.me == 0:  # once, however many share the port
            record_settings(folder.audit, installation.settings, audit, "gateway")
        gateway = Gateway(installation.settings.gateway, Stores(folder, catalog, spool, Vault(folder.vault), keys, Recorder(audit)), crew)
        asyncio.run(_run(gateway, audit, (host, port), folder, ready, stopping, tells=crew is None or crew.me == 0))


def raise_descriptors() -> None:
    """Let this process open as many files as it may, up to DESCRIPTORS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _tell_of_few_descriptors(connections: int) -> None:
    """The doorkeeper takes fewer connections then: nobody should have to wonder why."""
    if (most := descriptors() // EACH) < connections:
        hint = "raise its limit of open files (LimitNOFILE, ulimit -n), or lower [gateway] max_connections"
        log.warning("gateway.few_descriptors", may_open=descriptors(), connections=most, wanted=connections, hint=hint)


async def _run(
    gateway: Gateway,
    audit: AuditLog,
    place: tuple[str, int],
    folder: DataFolder,
    ready: Callable[[int], None],
    stopping: Callable[[], None],
    *,
    tells: bool,
) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def asked_to_stop() -> None:
        (hurry if stop.is_set() else stop).set()  # asked twice: at once

    def asked_to_reload() -> None:
        task = loop.create_task(_reload(gateway, audit, folder, tells=tells))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop)
    if not sys.stdin.isatty():  # from a terminal it says that the terminal is gone
        loop.add_signal_handler(signal.SIGHUP, asked_to_reload)
    try:
        port = await gateway.start(*place)
        gc.collect()
        gc.freeze()  # what stays for good is not looked at again: a full collection held up everybody for some 30 ms
        gc.set_threshold(*COLLECTED_AT)
        ready(port)
        await _until(stop)
        log.info("gateway.stopping")
        stopping()
    finally:
        await gateway.stop(hurry)
        audit.sync()


async def _until(stop: asyncio.Event) -> None:
    """Meanwhile the service manager is told that the loop, which everybody is served by, goes round."""
    while not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), beat_seconds())
        if not stop.is_set():
            tell_alive()
    tell("STOPPING=1")


async def _reload(gateway: Gateway, audit: AuditLog, folder: DataFolder, *, tells: bool) -> None:
    """SIGHUP: read settings and host key again. Mistakes in them change nothing."""
    tell_reloading()
    try:
        settings = load_settings(folder.settings)
        await gateway.reload(settings.gateway)
        audit.append(Event.GATEWAY_RELOADED)
        if tells:
            record_settings(folder.audit, settings, audit, "gateway")
    except NightsafeError as error:
        log.warning("gateway.not_reloaded", mistakes=error.message, mend=error.hint)
    else:
        log.info("gateway.reloaded")
    finally:
        tell("READY=1")
