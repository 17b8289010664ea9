"""`nightsafe backup run | copy | begin-anew | check | repair | forget | status | snapshots`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from backup.commands.facts import from_option, moment, operator, run_facts
from backup.commands.status import print_lines
from backup.repositories.places import from_words
from backup.status.line import worst
from backup.status.overview import backup_lines
from config.cli import Group, data_option, json_option
from config.console import emit, facts, human_bytes, progress, say, table
from config.errors import CheckFailed, Exit, OutOfReach, Partial
from config.loading import Installation, open_installation
from config.words import counted
from gateway.catalog import Catalog, Run
from gateway.completing import named


@click.group(cls=Group)
def backup() -> None:
    """Everything in the data folder, sealed, in S3."""


@backup.command()
@data_option
@json_option
def run(data: Path | None, as_json: bool) -> None:
    """Back up now: catalog dump, vault, jails, quarantine, audit, settings; the keys into a repository of their own.

    Example: nightsafe backup run --data /srv/nightsafe/data
    """
    from backup.run import run_backup

    installation = open_installation(data)
    with progress("backing up") as watched:
        done = run_backup(installation, watched, person=operator())
    _tell(done, installation, as_json)


@backup.command()
@click.argument("name", shell_complete=named("copy"))
@data_option
@json_option
def copy(name: str, data: Path | None, as_json: bool) -> None:
    """Back up now to the copy NAME of the settings ([copies.NAME]): another place, with repositories and credentials of its own.

    Example: nightsafe backup copy cellar
    """
    from backup.run import run_backup

    installation = open_installation(data)
    with progress(f"copying to {name}") as watched:
        done = run_backup(installation, watched, copy=name, person=operator())
    _tell(done, installation, as_json)


def _tell(done: Run, installation: Installation, as_json: bool) -> None:
    if as_json:
        emit(run_facts(done, installation.folder), as_json)
    else:
        facts(
            {
                "snapshot": done.snapshot,
                "of the keys": done.keys_snapshot,
                "papers": done.detail.get("papers"),
                "bytes": human_bytes(done.detail.get("bytes", 0)),
                "new there": human_bytes(done.detail.get("added_bytes", 0)),
            }
        )
    if done.state == "partial":
        raise Partial("the backup is not complete: some files could not be read", str(done.detail.get("error", "")))


@backup.command("begin-anew")
@click.option("--reason", required=True, metavar="TEXT", help="Why: it is recorded.")
@from_option
@data_option
@json_option
def begin_anew(reason: str, copy: str, data: Path | None, as_json: bool) -> None:
    """Make new repositories where the known ones are lost (the bucket was emptied, or is another one now), and back up everything.

    Nothing is deleted anywhere. Refused while the known repository is there.

    Example: nightsafe backup begin-anew --reason 'the account of the old bucket was closed'
    """
    from backup.repositories.anew import give_up
    from backup.run import run_backup

    installation = open_installation(data)
    give_up(installation, copy, reason, operator())
    with progress("backing up") as watched:
        done = run_backup(installation, watched, copy=copy, person=operator())
    _tell(done, installation, as_json)


@backup.command()
@click.option("--remove", is_flag=True, help="Remove the damaged packs, rebuild the index, and back up. Without it they are only named.")
@from_option
@data_option
@json_option
def repair(remove: bool, copy: str, data: Path | None, as_json: bool) -> int:
    """Mend a damaged repository: take out packs that are not what they should be, and save again what is still here.

    What only a removed pack held, and what is not on this machine any more, is lost in this place; look first whether another copy has it. Exit
    code 1: there is damage, and nothing was changed.

    Example: nightsafe backup repair --remove
    """
    from backup.run import run_backup
    from backup.upkeep.repair import repair as mend

    installation = open_installation(data)
    with progress("reading everything") as watched:
        found = mend(installation, watched, remove=remove, person=operator(), copy=copy)
        saved = run_backup(installation, watched, copy=copy, person=operator()) if remove and not found.is_clean else None
        if saved and saved.state == "partial":  # restic calls it an error when it saves again what was gone: the next one tells
            saved = run_backup(installation, watched, copy=copy, person=operator())
    told = {**found.values(), "backup": saved.state if saved else None}
    if as_json:
        emit(told, as_json)
    elif found.is_clean:
        say("Every byte was read, and nothing is wrong.")
    else:
        for name, fault in found.faults.items():
            bad, missing = found.packs.get(name, []), found.missing.get(name, [])
            gone = f", {counted(len(missing), 'is', 'are')} missing" if missing else ""
            say(f"{name}: {fault}; {counted(len(bad), 'pack')} {'removed' if remove else 'damaged'}{gone}")
            for pack in [*bad, *missing][:20]:
                say(f"  {pack}{' (missing)' if pack in missing else ''}")
        at = from_words(copy)
        nothing = f"Nothing was changed. Mend it with: nightsafe backup repair --remove{at}"
        say(f"Saved again. Prove it: nightsafe drill run --full{at}; nightsafe backup check --whole{at}" if remove else nothing)
    if found.is_clean:
        return Exit.DONE
    return Exit.BAD if not remove else Exit.DONE if saved and saved.state == "passed" else Exit.PARTLY


@backup.command()
@click.option("--whole", is_flag=True, help="Every pack now, whatever the plan says.")
@from_option
@data_option
@json_option
def check(whole: bool, copy: str, data: Path | None, as_json: bool) -> None:
    """Check both repositories: their structure, and the next part of all packs, so that every byte is read in turn.

    Exit code 1: a repository is bad. 5: it could not be reached, nothing was shown.

    Example: nightsafe backup check --whole
    """
    from backup.upkeep.check import run_check

    installation = open_installation(data)
    with progress("checking") as watched:
        done = run_check(installation, watched, copy=copy, whole=whole, person=operator())
    if as_json:
        emit(run_facts(done, installation.folder), as_json)
    else:
        read = "every pack" if whole else f"part {done.detail['part']} of {done.detail['parts']}"
        facts({"check": f"{done.id} ({done.state})", "read": read})
    if done.state == "failed":
        drill = f"learn which papers are concerned with: nightsafe drill run --full{from_words(copy)}"
        older = "when that passes, only an older backup is damaged: docs/how-to/keep-backups-in-order.md#the-check"
        raise CheckFailed(f"check {done.id} failed: {done.detail.get('cause')}", f"{drill}; {older}")
    if done.state == "inconclusive":
        raise OutOfReach(f"check {done.id} showed nothing: {done.detail.get('cause')}", "mend that and run it again")


@backup.command()
@click.option("--confirm", "confirmed", metavar="REASON", default="", help="Forget in spite of what is odd; the reason is recorded.")
@from_option
@data_option
@json_option
def forget(confirmed: str, copy: str, data: Path | None, as_json: bool) -> None:
    """Forget the snapshots that no rule of [forget] keeps, and prune what they alone held.

    Never after a failed check or drill, when the clock jumped, or when papers changed, went or shrank en masse: then exit code 1, and nothing
    is forgotten until a person looks into it and says so with --confirm.

    Example: nightsafe backup forget --confirm 'acme left, its papers expired'
    """
    from backup.upkeep.forget import run_forget

    installation = open_installation(data)
    with progress("forgetting") as watched:
        done = run_forget(installation, watched, copy=copy, confirmed=confirmed, person=operator())
    if as_json:
        emit(run_facts(done, installation.folder), as_json)
    else:
        facts({name: counted(done.detail[name], "snapshot") for name in ("forgotten", "kept")})


@backup.command()
@data_option
@json_option
def status(data: Path | None, as_json: bool) -> int:
    """Is the newest backup good? Exit code 1 when it is stale, failed, or was never proven.

    Example: nightsafe backup status
    """
    installation = open_installation(data)
    lines = backup_lines(installation, datetime.now(UTC))
    with Catalog.open(installation.folder.catalog) as catalog:
        runs = catalog.runs("backup", limit=10)
    if as_json:
        emit(
            {"colour": worst(lines), "lines": [line.as_dict() for line in lines], "runs": [run_facts(run, installation.folder) for run in runs]},
            as_json,
        )
    else:
        print_lines(lines)
    return Exit.BAD if worst(lines) == "red" else Exit.DONE


@backup.command()
@from_option
@data_option
@json_option
def snapshots(copy: str, data: Path | None, as_json: bool) -> None:
    """The snapshots that are in the bucket now, or in a copy, and what is known of each: whether its backup was whole, and what drills showed.

    Example: nightsafe backup snapshots
    """
    from backup.repositories.marks import marked
    from backup.run import snapshots as in_bucket

    installation = open_installation(data)
    found = marked(installation, in_bucket(installation, copy=copy), copy)
    rows: list[dict[str, Any]] = [
        {"repository": name, "id": snapshot.id, "time": moment(snapshot.time), "tags": list(snapshot.tags), **mark.values(), "known": mark.text}
        for name, snapshot, mark in found
    ]
    if as_json:
        emit(rows, as_json)
        return
    columns = ("repository", "id", "time", "run", "known")
    table(
        "Snapshots",
        columns,
        [(row["repository"], row["id"][:8], row["time"], one.tag("run") or "", row["known"]) for row, (_, one, _) in zip(rows, found, strict=True)],
    )
    if not rows:
        say("no snapshots yet; make one with: nightsafe backup run")
