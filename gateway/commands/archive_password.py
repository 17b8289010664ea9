"""`nightsafe client archive-password`: what opens a client's encrypted archives, so that they can be looked into."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from config.cli import data_option
from config.console import say
from config.errors import UsageError
from config.loading import open_installation
from config.words import counted
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.catalog.people import unknown_client
from gateway.commands.operators import operator
from gateway.completing import named
from gateway.keys.archive_password import remove_archive_password as remove_password
from gateway.keys.archive_password import set_archive_password
from gateway.keys.keyring import Keyring

LOCKED = "archive-locked"


@click.command("archive-password")
@click.argument("name", shell_complete=named("client"))
@click.option("--password-stdin", is_flag=True, help="Read it from standard input, one line, instead of asking for it.")
@click.option("--remove", is_flag=True, help="Forget the one that was agreed.")
@data_option
def archive_password(name: str, password_stdin: bool, remove: bool, data: Path | None) -> None:
    """Keep the password that was agreed with a client for its encrypted zip archives, in place of an older one.

    Rules with `archives = true` look into such archives with it. Archives that are held because they were locked are looked at again.

    Example: nightsafe client archive-password acme
    """
    if remove and password_stdin:
        raise UsageError("--remove and --password-stdin exclude each other")
    installation = open_installation(data)
    keyring = Keyring(installation.folder)
    with Catalog.open(installation.folder.catalog) as catalog, AuditLog(installation.folder.audit, "ops") as log:
        if catalog.client(name) is None:
            raise unknown_client(name)
        password = "" if remove else _asked(password_stdin)
        if remove:
            with keyring.changing():
                removed = remove_password(keyring, name)
            if not removed:
                raise UsageError(f"no archive password was agreed with {name}", "there is nothing to remove")
        else:
            set_archive_password(keyring, name, password)
        log.append(Event.ARCHIVE_PASSWORD_SET, durable=True, person=operator(), client=name, removed=remove)
        waiting = [] if remove else [paper for paper in catalog.held(name) if paper.code == LOCKED]
        for paper in waiting:
            catalog.decide(paper.id, "again", person=operator(), reason="the archive password was set")
    say(
        f"The archive password of {name} was {'removed' if remove else 'set'}."
        + (f" {counted(len(waiting), 'archive is', 'archives are')} looked at again." if waiting else "")
    )


def _asked(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password of the archives", hide_input=True, confirmation_prompt=True, err=True))
