"""`nightsafe kit show | check | restore`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import click

from backup.commands.facts import moment, operator, read_kit
from backup.repositories.access import access, is_offsite
from config.cli import Group, Moment, data_option, json_option
from config.console import emit, facts, progress, say, table
from config.loading import locate, open_installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.catalog.rows import RunState
from gateway.keys.keyring import RESTIC_KIT, Keyring
from gateway.keys.kit import KitValues, part_b, restore_script
from gateway.keys.master import load_master


@click.group(cls=Group)
def kit() -> None:
    """The recovery kit: with it, restic and age give every paper back without Nightsafe."""


@kit.command()
@click.argument("files", nargs=-1, required=True, type=click.File("rb"), metavar="FILE…")
@data_option
@json_option
def check(files: Sequence[BinaryIO], data: Path | None, as_json: bool) -> int:
    """Try a recovery kit against this installation: part A, part B or both; '-' is standard input. Nothing of it is stored.

    Part A must open a key of each client; part B's credential must read the bucket, and its restic key open both repositories. Exit code 1:
    something of it is not good; 5: the bucket could not be reached.

    Example: nightsafe kit check part-a.txt part-b.txt
    """
    from backup.kit.check import as_values, check_kit, part_states, verdict
    from backup.kit.kit import MAX_KIT_BYTES, parse_kit

    installation = open_installation(data)
    found = parse_kit("\n".join(file.read(MAX_KIT_BYTES).decode("utf-8", errors="replace") for file in files))
    checks = check_kit(installation, found)
    code, states = verdict(checks), part_states(checks)
    faults = [f"{one.name}: {one.text}" for one in checks if one.state == "bad"]
    with AuditLog(installation.folder.audit, "ops") as log, Catalog.open(installation.folder.catalog) as catalog:
        log.append(Event.KIT_CHECKED, durable=True, person=operator(), **states, faults=faults)
        state: RunState = "failed" if faults else "inconclusive" if code else "passed"
        catalog.finish_run(catalog.start_run("kit"), state, detail={**states, "faults": faults})
    if as_json:
        emit({"good": not code, **states, "checks": as_values(checks)}, as_json)
    else:
        table("Recovery kit", ("part", "what", "state", "found"), [(one.part, one.name, one.state, one.text) for one in checks])
    return code


@kit.command()
@click.argument("files", nargs=-1, required=True, type=click.File("rb"), metavar="FILE…")
@click.option("--at", type=Moment(), metavar="TIME", help="The newest backup at or before this time; the newest of all by default.")
@click.option("--restic", "program", default="restic", show_default=True, metavar="PROGRAM", help="The restic to use.")
@data_option
@json_option
def restore(files: Sequence[BinaryIO], at: datetime | None, program: str, data: Path | None, as_json: bool) -> None:
    """Make a whole data folder again out of the recovery kit and the backups: on a new machine, when the old one is lost.

    FILE: part A and part B ('-' is standard input). --data names the folder to make. Clients, people, papers and names are as they were in the
    newest backup; a new master is made where the settings that came back say. An interrupted one is simply run again.

    Example: nightsafe kit restore part-a.txt part-b.txt --data /srv/nightsafe/data
    """
    from backup.kit.revival import revive

    target = locate(data).root
    whole = read_kit(files)
    with progress("restoring") as watched:
        done = revive(whole, target, program, operator(), watched, at)
    told = {"data": str(target), "snapshot": done.snapshot.id, "taken_at": moment(done.snapshot.time), "clients": done.clients, "papers": done.papers}
    if as_json:
        emit(told, as_json)
        return
    facts({name.replace("_", " "): value for name, value in told.items()})
    say("A new master was made; keep it as you kept the old one. Next: look at nightsafe.toml and the files that it names, then: nightsafe up")


@kit.command()
@data_option
@json_option
def show(data: Path | None, as_json: bool) -> None:
    """Print part B: where the backups are, a credential that can only read, and the script. Part A was shown by `init`, once.

    Print it again after every change of the bucket. It opens no paper without part A.

    Example: nightsafe kit show > part-b.txt
    """
    from backup.repositories.trust import known_backups

    installation = open_installation(data)
    keyring = Keyring(installation.folder)
    bucket = access(installation, "reader")
    with Catalog.open(installation.folder.catalog) as catalog:
        newest = next((run.started_at for run in known_backups(catalog, "")), None)
    values = KitValues(
        papers_repository=bucket.url("papers"),
        keys_repository=bucket.url("keys"),
        restic_password=keyring.open_secret(RESTIC_KIT, load_master(installation)).decode(),
        access_key=bucket.access_key,
        secret_key=bucket.secret_key,
        region=bucket.region,
        offsite=not bucket.embedded and is_offsite(bucket.endpoint),
        newest=newest,
    )
    log = AuditLog(installation.folder.audit, "ops")
    log.append(Event.KIT_SHOWN, durable=True, person=operator())
    log.close()
    if as_json:
        repositories = {"papers": values.papers_repository, "keys": values.keys_repository}
        secret = {"restic_password": values.restic_password, "access_key": values.access_key, "secret_key": values.secret_key}
        emit({"repositories": repositories, **secret, "region": values.region, "script": restore_script()}, as_json)
    else:
        click.echo(part_b(values, keyring), nl=False)
