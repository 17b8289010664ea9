"""`nightsafe catalog rebuild | upgrade`."""

from __future__ import annotations

from pathlib import Path

import click

from config.cli import Group, data_option, json_option
from config.console import emit, progress, say
from config.errors import Busy, Exit, SettingsError
from config.folder import DataFolder
from config.loading import open_installation
from config.roles import exclusive
from config.words import counted
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.commands.operators import operator
from gateway.commands.signers import make_new_signers
from gateway.rebuild.catalog import NEVER, rebuild, running_roles


@click.group("catalog", cls=Group)
def catalog() -> None:
    """The catalog of clients, people, papers and versions."""


@catalog.command("upgrade")
@data_option
@json_option
def upgrade(data: Path | None, as_json: bool) -> None:
    """Bring the data folder of an older Nightsafe along; its catalog is copied first, and the copy is named. The roles must be stopped,
    unless there is nothing to do.

    Forward only: an older Nightsafe refuses the folder afterwards. `nightsafe up` and scripts/install do this by themselves.

    Example: nightsafe catalog upgrade
    """
    folder = open_installation(data).folder
    running = running_roles(folder)
    if running and not _is_current(folder):
        stop = "stop them ('nightsafe up', systemctl stop nightsafe.target, or docker compose down), and start them afterwards; clients try again"
        raise Busy(f"these roles run: {', '.join(running)}", stop)
    make_new_signers(folder)
    copy = Catalog.upgrade(folder.catalog)
    if as_json:
        emit({"copy": str(copy) if copy else None}, as_json)
    elif copy is not None:
        say(f"The catalog is of this version now. As it was before it is kept in {copy}.")
    else:
        say("The catalog is of this version already.")


def _is_current(folder: DataFolder) -> bool:
    try:
        with Catalog.open(folder.catalog):
            return True
    except SettingsError:
        return False


@catalog.command("rebuild")
@click.option("--over", is_flag=True, help="There is a catalog: set it aside, and make a new one.")
@data_option
@json_option
def rebuild_(over: bool, data: Path | None, as_json: bool) -> int:
    """Make a lost catalog anew from keys, vault, quarantine, receipts and the audit log.

    Clients, papers, versions, names, hashes and legal holds come back; what does not is listed. A newer catalog out of a backup is the better
    way: this one is for the day when there is none. Nothing else may run meanwhile. Exit code 3 when papers are missing or unexplained.

    Example: nightsafe catalog rebuild
    """
    folder = open_installation(data).folder
    with exclusive(folder, "backup", "a backup runs", "try again when it has ended"), progress("rebuild") as shown:
        done = rebuild(folder, shown, over=over)
    counts = {"clients": done.clients, "papers": done.papers, "holds": done.holds}
    with AuditLog(folder.audit, "ops") as log:
        log.append(Event.CATALOG_REBUILT, durable=True, person=operator(), lost=len(done.lost), unexplained=len(done.unexplained), **counts)
    if as_json:
        emit(
            {**counts, "lost": done.lost, "unexplained": done.unexplained, "people": done.people, "never": NEVER, "old": done.old and str(done.old)},
            as_json,
        )
    else:
        say(f"The catalog has {counted(done.clients, 'client')}, {counted(done.papers, 'paper')} and {counted(done.holds, 'hold')} again.")
        if done.old:
            say(f"The one that was there is {done.old} now.")
        told = {"Lost:": done.lost, "Unexplained:": done.unexplained, "People to add again:": done.people, "Not given back:": NEVER}
        for title, lines in told.items():
            for line in (title, *(f"  {line}" for line in lines)) if lines else ():
                say(line)
    return Exit.PARTLY if done.lost or done.unexplained else Exit.DONE
