"""`nightsafe up`: all roles in the foreground."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import click
import structlog

from config.acl import get_acl
from config.cli import data_option
from config.errors import SettingsError, UsageError
from config.files import write_whole
from config.folder import DataFolder
from config.loading import Installation, open_installation
from config.logging import set_up_logging
from config.manager import tell
from config.roles import running_role, set_on_signals, starter
from gateway.catalog import Catalog
from gateway.commands.signers import make_new_signers
from gateway.keys.keyring import Keyring
from gateway.keys.master import load_master
from gateway.keys.process import harden_process
from gateway.keys.secrets import secrets_for
from gateway.supervise import RoleCommand, Supervisor


@click.command()
@data_option
@click.option("--sftp-host", metavar="ADDRESS", help="Address to listen on, instead of the setting.")
@click.option("--sftp-port", type=click.IntRange(0, 65535), metavar="N", help="Port to listen on, instead of the setting; 0 takes a free one.")
@click.option("--ready-file", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="Written (JSON: sftp, s3, pid) once logins work.")
def up(data: Path | None, sftp_host: str | None, sftp_port: int | None, ready_file: Path | None) -> None:
    """Run all roles in the foreground, until Ctrl-C or SIGTERM. A role that dies is started again.
    SIGHUP makes the gateway read its settings and its host key again; nobody is disconnected.

    Example: nightsafe up --data /srv/nightsafe/data --sftp-port 2022 --ready-file /run/nightsafe.json
    """
    installation = open_installation(data)
    if ready_file and not ready_file.absolute().parent.is_dir():
        raise UsageError(f"the folder {ready_file.absolute().parent} does not exist", "make it, or choose another place for the ready file")
    if (rights := get_acl(installation.folder.root)) is not None and rights.users:
        raise UsageError("each role has a user of its own here; one process must not take their place", f"start them: {starter(installation.folder)}")
    set_up_logging("up", installation.settings.log.level, installation.settings.log.json_lines)
    harden_process()
    stop = threading.Event()
    set_on_signals(stop)
    with running_role(installation.folder, "up"):
        check_folders(installation.folder)
        make_new_signers(installation.folder)
        commands = role_commands(installation, sftp_host, sftp_port)
        if (copy := Catalog.upgrade(installation.folder.catalog)) is not None:
            structlog.get_logger().warning("catalog.upgraded", kept_as_it_was_in=str(copy))
        supervisor = Supervisor(installation.folder, commands, installation.settings.gateway.stop_seconds)
        if not sys.stdin.isatty():  # from a terminal it says that the terminal is gone
            signal.signal(signal.SIGHUP, lambda *_: supervisor.reload())
        if ready_file:
            ready_file.unlink(missing_ok=True)
        announced = supervisor.start(stop)
        try:
            if ready_file and not stop.is_set():
                write_whole(ready_file.absolute(), json.dumps(ready_facts(announced), indent=2).encode())
            if not stop.is_set():
                tell("READY=1")
            supervisor.watch(stop)
        finally:
            tell("STOPPING=1")
            if ready_file:
                ready_file.unlink(missing_ok=True)
            supervisor.stop()


def check_folders(folder: DataFolder) -> None:
    """Raise SettingsError when a folder that `init` made is gone: a disk that is not mounted must not be mistaken for an empty one."""
    for inner in (folder.keys, folder.spool_partial, folder.spool_landed, folder.jails, folder.vault, folder.quarantine, folder.audit):
        if not inner.is_dir():
            raise SettingsError(
                f"the folder {inner} is missing", "is its disk mounted? else restore it from a backup; an empty spool may be made by hand, with mkdir"
            )


def role_commands(installation: Installation, host: str | None, port: int | None) -> list[RoleCommand]:
    """The roles in the order in which they start. The gateway is last: once it answers, everything behind it does."""
    keyring, master = Keyring(installation.folder), load_master(installation)

    def secrets(role: str) -> Mapping[str, bytes]:
        return secrets_for(role, keyring, master)

    listen = (*(("--host", host) if host is not None else ()), *(("--port", str(port)) if port is not None else ()))
    s3 = [RoleCommand("s3", secrets=secrets("s3"))] if installation.settings.s3.is_embedded else []
    ingests = [
        RoleCommand("ingest", ("--instance", str(number)), secrets("ingest"), instance=number)
        for number in range(1, installation.settings.ingest.processes + 1)
    ]
    return [
        *s3,
        RoleCommand("keyd", secrets=secrets("keyd")),
        *ingests,
        RoleCommand("scheduler", secrets=secrets("scheduler")),
        RoleCommand("gateway", listen, secrets("gateway"), lambda state: ("--host", str(state["host"]), "--port", str(state["port"]))),
    ]


def ready_facts(announced: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """What stands in the ready file."""
    gateway, s3 = announced["gateway"], announced.get("s3")
    return {"sftp": {"host": gateway["host"], "port": gateway["port"]}, "s3": {"endpoint": s3["endpoint"]} if s3 else None, "pid": os.getpid()}
