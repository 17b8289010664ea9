"""`nightsafe audit verify`: of this wing, because it may ask the repositories what they hold."""

from __future__ import annotations

from pathlib import Path

import click

from backup.run import snapshots as snapshots_of
from config.cli import data_option, json_option
from config.console import emit, say
from config.errors import CheckFailed, UsageError
from config.loading import Installation, open_installation
from config.words import counted
from gateway.audit.anchors import collect
from gateway.audit.verify import verify as verify_chain
from gateway.completing import named
from gateway.keys.keyring import CHECKPOINT_SIGNING, Keyring

TAG = "audit:"


@click.command()
@click.option(
    "--anchor",
    "files",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="Something that was kept elsewhere and names a head of the log: a receipt, an evidence, a notice. May be given several times.",
)
@click.option(
    "--anchors", "folders", type=click.Path(path_type=Path, file_okay=False), multiple=True, metavar="DIR", help="Everything of this kind below DIR."
)
@click.option("--snapshots", is_flag=True, help="Also the heads in the tags of the snapshots that are in the bucket now.")
@click.option(
    "--from",
    "copy",
    default="",
    metavar="NAME",
    shell_complete=named("copy"),
    help="With --snapshots: those of the copy NAME, instead of the first place.",
)
@data_option
@json_option
def verify(files: tuple[Path, ...], folders: tuple[Path, ...], snapshots: bool, copy: str, data: Path | None, as_json: bool) -> None:
    """Check every segment of the log; exit code 1 when something was edited, removed, reordered or cut off.

    What was cut off after the last signed checkpoint shows only against what somebody else kept: give it with --anchor, --anchors, --snapshots.

    Example: nightsafe audit verify --anchors /mnt/auditor/receipts --snapshots
    """
    if copy and not snapshots:
        raise UsageError("--from is for the snapshots of a copy", "add --snapshots")
    installation = open_installation(data)
    folder = installation.folder
    anchors = collect(files, folders) | (_tags(installation, copy) if snapshots else {})
    report = verify_chain(folder.audit, [Keyring(folder).public_half(CHECKPOINT_SIGNING)], anchors)
    if as_json:
        facts = {"segments": report.segments, "lines": report.lines, "checkpoints": report.checkpoints, "anchors": len(anchors)}
        emit({**facts, "problems": report.problems, "torn": report.torn}, as_json)
    else:
        say(
            f"{counted(report.lines, 'line')} in {counted(report.segments, 'segment')}, {counted(report.checkpoints, 'checkpoint')}, "
            f"{counted(len(anchors), 'anchor')} from elsewhere"
        )
        for torn in report.torn:
            is_whole = not any(problem.startswith(f"{torn}:") for problem in report.problems)
            say(f"torn by a crash (nothing was lost that had been confirmed): {torn}" if is_whole else f"ends in the middle of a line: {torn}")
    if report.problems:
        raise CheckFailed(
            "the audit log does not hold:\n" + "\n".join(f"  {line}" for line in report.problems), "compare with the copies in the backups"
        )
    if not as_json:
        say("the chain holds")


def _tags(installation: Installation, copy: str) -> dict[str, str]:
    """hash → snapshot, of what the tags of snapshots name. Raises UsageError when there are none."""
    found = {
        tag.removeprefix(TAG): f"the tag of snapshot {snapshot.id[:8]}"
        for _, snapshot in snapshots_of(installation, copy=copy)
        for tag in snapshot.tags
        if tag.startswith(TAG)
    }
    if not found:
        raise UsageError("no snapshot names a head of the audit log", "make one with: nightsafe backup run")
    return found
