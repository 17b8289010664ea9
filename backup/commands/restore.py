"""`nightsafe restore CLIENT [PATH…] --to DIR | --in-place`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backup.commands.facts import from_option, moment
from config.cli import Moment, data_option, json_option
from config.console import Progress, emit, facts, human_bytes, progress, say
from config.errors import UsageError
from config.loading import Installation, open_installation
from config.printable import printable
from gateway.catalog import Catalog
from gateway.completing import named
from gateway.keys.agent import key_agent

if TYPE_CHECKING:
    from backup.restore.errand import RestoreReport

SHOWN = 20


@click.command()
@click.argument("client", shell_complete=named("client"), required=False)
@click.argument("paths", nargs=-1, metavar="[PATH]…", shell_complete=named("path"))
@click.option(
    "--at",
    type=Moment(),
    metavar="TIME",
    shell_complete=named("moment"),
    help="The newest backup at or before this time, as in 2026-01-31T08:00Z; the newest of all by default.",
)
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="A folder for plaintext: new, or one in which the same restore was stopped.",
)
@click.option("--all", "everybody", is_flag=True, help="With --to: every client, each in a folder of its name below DIR.")
@click.option("--in-place", is_flag=True, help="Names and versions back into the client's folders; nothing is decrypted.")
@click.option("--overwrite", is_flag=True, help="With --in-place: replace names that stand for something newer, without asking.")
@from_option
@data_option
@json_option
def restore(
    client: str | None,
    paths: Sequence[str],
    at: datetime | None,
    target: Path | None,
    everybody: bool,
    in_place: bool,
    overwrite: bool,
    copy: str,
    data: Path | None,
    as_json: bool,
) -> int:
    """Bring a client's papers back from a backup: in plaintext into a folder (--to), or sealed into the client's own folders (--in-place).

    What was stopped goes on when the same is said again: what is in DIR already is compared with its hash, and the rest comes.

    PATH names papers or folders; without one, all come. Each paper is compared with its recorded hash. In place, a name that stands for
    something newer is replaced only if you agree, and the newer paper stays a version. Exit code 3: some did not come, and they are named.
    The newest backup is refused when it is not the one that was made last here; one that is asked for by its time comes with a warning.
    With --to, papers that nothing on this machine opens (custody deposit-only) come as sealed files, with .age at the end of their names.

    Example: nightsafe restore acme /inbox/2026 --to back
    """
    from backup.repositories.places import recorded_name, save_words
    from backup.restic import RepositoryMissing

    if (target is None) != in_place:
        raise UsageError("say where to: --to DIR, or --in-place", "nightsafe restore --help tells the difference")
    if everybody == (client is not None) or (everybody and in_place):
        raise UsageError("name a client, or say --all with --to DIR", "in place, clients are restored one by one")
    if overwrite and not in_place:
        raise UsageError("--overwrite belongs to --in-place", "with --to nothing is ever written over")
    installation = open_installation(data)
    try:
        with progress("restoring") as watched:
            if target is not None:
                report = _to_folder(installation, client, paths, at, target, watched, as_json, copy)
            else:
                report = _in_place(installation, str(client), paths, at, overwrite, watched, as_json, copy)
    except RepositoryMissing as error:
        with Catalog.open(installation.folder.catalog) as catalog:
            if catalog.repository(recorded_name("papers", copy)) is None:
                raise UsageError("there is no backup yet", f"make one with: {save_words(copy)}") from error
        raise
    _tell(report, as_json)
    return report.exit_code


def _to_folder(
    installation: Installation,
    client: str | None,
    paths: Sequence[str],
    at: datetime | None,
    target: Path,
    watched: Progress,
    quiet: bool,
    copy: str,
) -> RestoreReport:
    from backup.restore.everybody import restore_everybody
    from backup.restore.papers import restore_papers

    agent = key_agent(installation)
    if not quiet:
        sys.stderr.write(f"Plaintext will be written to {target.absolute()}: keep that folder as safe as the papers are.\n")
    if client is None:
        return restore_everybody(installation, at, target, agent, watched, copy=copy)
    return restore_papers(installation, client, paths, at, target, agent, watched, copy=copy)


def _in_place(
    installation: Installation, client: str, paths: Sequence[str], at: datetime | None, overwrite: bool, watched: Progress, quiet: bool, copy: str
) -> RestoreReport:
    from backup.restore.inplace import restore_in_place

    asks = not overwrite and not quiet and sys.stdin.isatty() and sys.stderr.isatty()

    def may_replace(path: str) -> bool:
        return overwrite or (asks and click.confirm(printable(f"{path} stands for something newer. Replace the name?"), default=False, err=True))

    return restore_in_place(installation, client, paths, at, may_replace, watched, copy=copy)


def _tell(report: RestoreReport, as_json: bool) -> None:
    if as_json:
        emit(
            {
                "snapshot": report.snapshot,
                "taken_at": moment(report.taken_at),
                "restored": report.restored,
                "there_already": report.verified,
                "sealed": report.sealed,
                "bytes": report.restored_bytes,
                "not_restored": report.not_restored,
                "not_yet_sealed": report.unsealed,
                "problems": report.problems,
                "warnings": report.warnings,
            },
            as_json,
        )
    else:
        facts(
            {
                "snapshot": report.snapshot[:8],
                "taken": moment(report.taken_at),
                "papers": report.restored,
                **({"there already": f"{report.verified}, compared"} if report.verified else {}),
                **({"sealed": f"{report.sealed}, as .age files that nothing here opens"} if report.sealed else {}),
                "bytes": human_bytes(report.restored_bytes),
            }
        )
        for line in report.warnings:
            say(f"WARNING: {line}")
        for line in [*report.problems, *report.unsealed][:SHOWN]:
            say(f"not restored: {line}")
        if report.not_restored > SHOWN:
            say(f"not restored: {report.not_restored} in all")
