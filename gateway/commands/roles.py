"""`nightsafe gateway | keyd | ingest`: one role in the foreground, as a service manager runs it."""

from __future__ import annotations

from pathlib import Path

import click

from config.cli import data_option, loading
from config.loading import Installation, open_installation
from config.logging import set_up_logging
from config.memory import hold_little_memory, keep_freed_memory


def opened(data: Path | None, role: str) -> Installation:
    """The installation, with logging and memory set up for `role`."""
    installation = open_installation(data)
    if role == "ingest":
        hold_little_memory()
    else:
        keep_freed_memory()
    set_up_logging(role, installation.settings.log.level, installation.settings.log.json_lines)
    return installation


@click.command()
@data_option
@click.option("--host", metavar="ADDRESS", help="Address to listen on, instead of the setting.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="Port, instead of the setting; 0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 64), metavar="N", help="Processes that share the port, instead of the setting.")
def gateway(data: Path | None, host: str | None, port: int | None, workers: int | None) -> None:
    """The SFTP server: the only role that faces the internet.

    Example: nightsafe gateway --data /srv/nightsafe/data --workers 2
    """
    with loading():
        from gateway.sftp.role import serve

    serve(opened(data, "gateway"), host, port, workers)


@click.command()
@data_option
def keyd(data: Path | None) -> None:
    """The key agent: opens one paper's key a request, and records it.

    Example: nightsafe keyd --data /srv/nightsafe/data
    """
    with loading():
        from gateway.keys.keyd import serve

    serve(opened(data, "keyd"))


@click.command()
@data_option
@click.option("--instance", type=click.IntRange(1, 64), default=1, show_default=True, help="A number of its own for each, where several run.")
def ingest(data: Path | None, instance: int) -> None:
    """The pipeline from landed papers to checked, sealed, catalogued, receipted ones.

    Example: nightsafe ingest --data /srv/nightsafe/data
    """
    with loading():
        from gateway.ingest.role import serve

    serve(opened(data, "ingest"), instance=instance)
