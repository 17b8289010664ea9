"""`nightsafe scheduler | s3`: one role in the foreground, as a service manager runs it."""

from __future__ import annotations

from pathlib import Path

import click

from config.cli import data_option
from config.loading import Installation, open_installation
from config.logging import set_up_logging
from gateway.keys.process import harden_process


def opened(data: Path | None, role: str) -> Installation:
    """The installation, with logging set up for `role`."""
    installation = open_installation(data)
    harden_process()
    set_up_logging(role, installation.settings.log.level, installation.settings.log.json_lines)
    return installation


@click.command()
@data_option
def scheduler(data: Path | None) -> None:
    """Backups and drills by the clock; a missed slot is caught up once."""
    from backup.scheduler import serve

    serve(opened(data, "scheduler"))


@click.command()
@data_option
def s3(data: Path | None) -> None:
    """The embedded S3 server: good for a look, never offsite."""
    from backup.embedded import serve

    serve(opened(data, "s3"))
