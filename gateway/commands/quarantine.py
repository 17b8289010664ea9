"""`nightsafe quarantine list | show | release | delete`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from config.cli import Group, data_option, json_option
from config.console import emit, facts, human_bytes, say, table
from config.loading import open_installation
from config.roles import exclusive
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.catalog.people import unknown_client
from gateway.commands.operators import operator
from gateway.commands.times import moment
from gateway.completing import named
from gateway.ingest.quarantine import Quarantine, Quarantined

reason_option = click.option("--reason", required=True, metavar="TEXT", help="Why; it stands in the audit log.")


@click.group(cls=Group)
def quarantine() -> None:
    """Papers that were refused: kept encrypted, until somebody decides."""


@quarantine.command("list")
@click.argument("client", shell_complete=named("client"), required=False)
@data_option
@json_option
def list_(client: str | None, data: Path | None, as_json: bool) -> None:
    """What lies in the quarantine, and why.

    Example: nightsafe quarantine list acme
    """
    with _opened(data) as (store, catalog):
        if client is not None and catalog.client(client) is None:
            raise unknown_client(client)
        found = list(store.papers(client))
        _looked(data, client=client, found=len(found))
    if as_json:
        emit([_facts(one) for one in found], as_json)
        return
    rows = [(one.client, one.row.path if one.row else "?", human_bytes(one.size), one.kind, _when(one), _why(one), one.paper) for one in found]
    table("Quarantine", ("client", "path", "stored", "kind", "received", "why", "paper"), rows)
    if not found:
        say("the quarantine is empty")


@quarantine.command()
@click.argument("paper", shell_complete=named("quarantined"))
@data_option
@json_option
def show(paper: str, data: Path | None, as_json: bool) -> None:
    """Everything that is known of one refused paper. Its content is not shown.

    Example: nightsafe quarantine show 018f88b0c5e10123456789abcdef0123
    """
    with _opened(data) as (store, _):
        one = store.paper(paper)
        found = _facts(one)
        _looked(data, client=one.client, path=one.row.path if one.row else None, found=1)
    if as_json:
        emit(found, as_json)
    else:
        facts(found)


@quarantine.command()
@click.argument("paper", shell_complete=named("quarantined"))
@reason_option
@data_option
@json_option
def release(paper: str, reason: str, data: Path | None, as_json: bool) -> None:
    """Accept a refused paper after all: it goes into the vault, and the client gets a new receipt.

    Example: nightsafe quarantine release 018f88b0c5e10123456789abcdef0123 --reason "false alarm, see ticket 12"
    """
    with _opened(data, to_change=True) as (store, _):
        released = store.release(paper, person=operator(), reason=reason)
    if as_json:
        emit({"paper": released.id, "client": released.client, "path": released.path, "version": released.version, "state": released.state}, as_json)
    else:
        say(f"{released.path} of {released.client}, version {released.version}, is accepted. Its receipt follows when ingest runs.")


@quarantine.command()
@click.argument("paper", shell_complete=named("quarantined"))
@reason_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@json_option
def delete(paper: str, reason: str, yes: bool, data: Path | None, as_json: bool) -> None:
    """Delete a refused paper for good. The client gets a new receipt that says so; snapshots keep it until they are forgotten.

    Example: nightsafe quarantine delete 018f88b0c5e10123456789abcdef0123 --reason "a virus"
    """
    if not yes:
        click.confirm(f"Delete the paper {paper}?", abort=True, err=True)
    with _opened(data, to_change=True) as (store, _):
        deleted = store.delete(paper, person=operator(), reason=reason)
    if as_json:
        emit({"paper": deleted.paper, "client": deleted.client, "deleted": True}, as_json)
    else:
        say(f"The paper {deleted.paper} of {deleted.client} was deleted.")


def _looked(data: Path | None, **fields: Any) -> None:
    """Who looks at refused papers is recorded, as every search is."""
    with AuditLog(open_installation(data).folder.audit, "ops") as log:
        log.append(Event.FILES_SEARCHED, durable=True, person=operator(), state="refused", **{k: v for k, v in fields.items() if v is not None})


@contextmanager
def _opened(data: Path | None, *, to_change: bool = False) -> Iterator[tuple[Quarantine, Catalog]]:
    folder = open_installation(data).folder
    with Catalog.open(folder.catalog) as catalog:
        if not to_change:
            yield Quarantine(folder, catalog, None), catalog
            return
        with (
            exclusive(folder, "quarantine", "somebody else is working on the quarantine", "try again in a moment"),
            AuditLog(folder.audit, "ops") as log,
        ):
            yield Quarantine(folder, catalog, log), catalog


def _facts(one: Quarantined) -> dict[str, Any]:
    row = one.row
    known = {} if row is None else {
        "path": row.path, "version": row.version, "person": row.person, "received_at": moment(row.received_at), "size": row.size,
        "sha256": row.sha256, "reason": row.reason, "code": row.code, "class": row.class_name, "session": row.session, "address": row.address,
    }  # fmt: skip
    return {"paper": one.paper, "client": one.client, "kind": one.kind, "stored_bytes": one.size, **known}


def _when(one: Quarantined) -> str:
    return (moment(one.row.received_at) or "") if one.row else "?"


def _why(one: Quarantined) -> str:
    return one.row.reason if one.row else "of a client that is not known"
