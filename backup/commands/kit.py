"""`nightsafe kit show`."""

from __future__ import annotations

from pathlib import Path

import click

from backup.access import access, is_offsite
from config.cli import data_option, json_option
from config.console import emit
from config.loading import open_installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.keys.keyring import RESTIC_KIT, Keyring
from gateway.keys.kit import KitValues, part_b, restore_script
from gateway.keys.master import load_master


@click.group()
def kit() -> None:
    """The recovery kit: with it, restic and age give every paper back without Nightsafe."""


@kit.command()
@data_option
@json_option
def show(data: Path | None, as_json: bool) -> None:
    """Print part B: where the backups are, a credential that can only read, and the script. Part A was shown by `init`, once.

    Print it again after every change of the bucket. It opens no paper without part A.
    """
    installation = open_installation(data)
    keyring = Keyring(installation.folder)
    bucket = access(installation, "reader")
    values = KitValues(
        papers_repository=bucket.url("papers"),
        keys_repository=bucket.url("keys"),
        restic_password=keyring.open_secret(RESTIC_KIT, load_master(installation)).decode(),
        access_key=bucket.access_key,
        secret_key=bucket.secret_key,
        region=bucket.region,
        offsite=not bucket.embedded and is_offsite(bucket.endpoint),
    )
    log = AuditLog(installation.folder.audit, "ops")
    log.append(Event.KIT_SHOWN, durable=True)
    log.close()
    if as_json:
        repositories = {"papers": values.papers_repository, "keys": values.keys_repository}
        secret = {"restic_password": values.restic_password, "access_key": values.access_key, "secret_key": values.secret_key}
        emit({"repositories": repositories, **secret, "region": values.region, "script": restore_script()}, as_json)
    else:
        click.echo(part_b(values, keyring), nl=False)
