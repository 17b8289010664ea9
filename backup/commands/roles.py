"""`nightsafe scheduler | s3 | web`: one role in the foreground, as a service manager runs it."""

from __future__ import annotations

from pathlib import Path

import click

from config.cli import data_option, loading
from config.loading import Installation, open_installation
from config.logging import set_up_logging
from config.memory import keep_freed_memory
from config.roles import SCHEDULERS, scheduler_name
from gateway.keys.process import harden_process


def opened(data: Path | None, role: str) -> Installation:
    """The installation, with logging and memory set up for `role`."""
    installation = open_installation(data)
    harden_process()
    keep_freed_memory()
    set_up_logging(role, installation.settings.log.level, installation.settings.log.json_lines)
    return installation


@click.command()
@data_option
@click.option("--only", type=click.Choice(list(SCHEDULERS)), help="Only these jobs: backups and copies; drills and checks; forgetting.")
def scheduler(data: Path | None, only: str | None) -> None:
    """Backups and drills by the clock; a missed slot is caught up once.

    With --only it is one part of three, each of which may run under a user of its own, with its own secrets alone.

    Example: nightsafe scheduler --data /srv/nightsafe/data
    """
    with loading():
        from backup.scheduler import serve

    serve(opened(data, scheduler_name(only)), part=only)


@click.command()
@data_option
def s3(data: Path | None) -> None:
    """The embedded S3 server: good for a look, never offsite.

    Example: nightsafe s3 --data /srv/nightsafe/data
    """
    with loading():
        from backup.embedded.role import serve

    serve(opened(data, "s3"))


@click.command()
@data_option
def web(data: Path | None) -> None:
    """The page for ops: status, clients, backups, drills, evidence, quarantine, sessions. Read-only.

    On loopback, where web.port says; behind a proxy, with web.token_file.

    Example: nightsafe web --data /srv/nightsafe/data
    """
    with loading():
        from backup.web.role import serve

    serve(opened(data, "web"))
