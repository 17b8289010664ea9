"""`nightsafe restore CLIENT [PATH…] --to DIR`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from backup.commands.facts import moment
from config.cli import Moment, data_option, json_option
from config.console import emit, facts, human_bytes, progress, say
from config.errors import UsageError
from config.loading import open_installation
from gateway.catalog import Catalog
from gateway.keys.agent import key_agent

SHOWN = 20


@click.command()
@click.argument("client")
@click.argument("paths", nargs=-1, metavar="[PATH]…")
@click.option(
    "--at", type=Moment(), metavar="TIME", help="The newest backup at or before this time, as in 2026-01-31T08:00Z; the newest of all by default."
)
@click.option("--to", "target", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR", help="A new folder, for plaintext.")
@data_option
@json_option
def restore(client: str, paths: Sequence[str], at: datetime | None, target: Path, data: Path | None, as_json: bool) -> int:
    """Bring a client's papers back from a backup, in plaintext, under their own names, each compared with its recorded hash.

    PATH names papers or folders; without one, all come. Exit code 3: some did not come, and they are named.

    Example: nightsafe restore acme /inbox/2026 --to back
    """
    from backup.restic import RepositoryMissing
    from backup.restore import restore_papers

    installation = open_installation(data)
    agent = key_agent(installation)
    if not as_json:
        sys.stderr.write(f"Plaintext will be written to {target.absolute()}: keep that folder as safe as the papers are.\n")
    with progress("restoring") as watched:
        try:
            report = restore_papers(installation, client, paths, at, target, agent, watched)
        except RepositoryMissing as error:
            with Catalog.open(installation.folder.catalog) as catalog:
                if catalog.repository("papers") is None:
                    raise UsageError("there is no backup yet", "make one with: nightsafe backup run") from error
            raise
    if as_json:
        emit(
            {
                "snapshot": report.snapshot,
                "taken_at": moment(report.taken_at),
                "restored": report.restored,
                "bytes": report.restored_bytes,
                "not_restored": report.not_restored,
                "not_yet_sealed": report.unsealed,
                "problems": report.problems,
            },
            as_json,
        )
    else:
        facts(
            {
                "snapshot": report.snapshot[:8],
                "taken": moment(report.taken_at),
                "papers": report.restored,
                "bytes": human_bytes(report.restored_bytes),
            }
        )
        for line in [*report.problems, *report.unsealed][:SHOWN]:
            say(f"not restored: {line}")
        if report.not_restored > SHOWN:
            say(f"not restored: {report.not_restored} in all")
    return report.exit_code
