"""`nightsafe hold set | release | list`: what must be kept, whatever retention or a destruction would say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from config.cli import Group, data_option, json_option
from config.console import emit, say, table
from config.errors import UsageError
from config.loading import Installation, open_installation
from config.words import counted
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Hold
from gateway.commands.operators import operator, virtual
from gateway.commands.times import moment
from gateway.completing import named


@click.group(cls=Group)
def hold() -> None:
    """Legal holds: what they cover is neither expired nor destroyed until they are released."""


reason_option = click.option("--reason", required=True, metavar="TEXT", help="Why; it stands in the audit log.")
by_option = click.option("--by", "ordered_by", required=True, metavar="NAME", help="Who ordered it.")


@hold.command("set")
@click.argument("client", shell_complete=named("client"))
@click.option("--path", metavar="P", help="Only this paper or folder, every version; everything of the client by default.")
@click.option("--paper", metavar="ID", help="Only this one version of a paper.")
@reason_option
@by_option
@data_option
@json_option
def set_(client: str, path: str | None, paper: str | None, reason: str, ordered_by: str, data: Path | None, as_json: bool) -> None:
    """Forbid the destruction of a client's papers, from now on.

    Example: nightsafe hold set acme --path /inbox/2026 --reason "audit of 2026" --by "R. Keller"
    """
    if path and paper:
        raise UsageError("--path and --paper exclude each other", "set two holds")
    installation = open_installation(data)
    with Catalog.open(installation.folder.catalog) as catalog:
        made = catalog.set_hold(client, reason=reason, ordered_by=ordered_by, path=virtual(path) if path else None, paper=paper)
    _record(installation, Event.HOLD_SET, made, ordered_by, reason)
    if as_json:
        emit(hold_facts(made), as_json)
    else:
        say(f"Hold {made.id} is set: {made.subject}. Lift it with: nightsafe hold release {made.id} --reason TEXT --by NAME")


@hold.command()
@click.argument("number", metavar="HOLD", type=int, shell_complete=named("hold"))
@reason_option
@by_option
@data_option
@json_option
def release(number: int, reason: str, ordered_by: str, data: Path | None, as_json: bool) -> None:
    """Lift one hold. Others on the same papers remain.

    Example: nightsafe hold release 3 --reason "the trial is over" --by "Ms Keller"
    """
    installation = open_installation(data)
    with Catalog.open(installation.folder.catalog) as catalog:
        lifted = catalog.release_hold(number, reason=reason, released_by=ordered_by)
        left = len(catalog.holds(lifted.client))
    _record(installation, Event.HOLD_RELEASED, lifted, ordered_by, reason)
    if as_json:
        emit(hold_facts(lifted), as_json)
    else:
        others = counted(left, f"other hold on {lifted.client} remains", f"other holds on {lifted.client} remain")
        say(f"Hold {number} is released: {lifted.subject}. {others}.")


@hold.command("list")
@click.argument("client", shell_complete=named("client"), required=False)
@click.option("--all", "everything", is_flag=True, help="The released ones, too.")
@data_option
@json_option
def list_(client: str | None, everything: bool, data: Path | None, as_json: bool) -> None:
    """The holds that are active now.

    Example: nightsafe hold list
    """
    with Catalog.open(open_installation(data).folder.catalog) as catalog:
        found = catalog.holds(client, active_only=not everything)
    if as_json:
        emit([hold_facts(one) for one in found], as_json)
        return
    table(
        "Legal holds",
        ("hold", "on", "since", "ordered by", "reason", "released"),
        [(one.id, one.subject, moment(one.set_at), one.ordered_by, one.reason, moment(one.released_at) or "no") for one in found],
    )
    if not found:
        say("no holds")


def hold_facts(one: Hold) -> dict[str, Any]:
    """A hold as JSON values."""
    return {
        "hold": one.id,
        "client": one.client,
        "path": one.path,
        "paper": one.paper,
        "reason": one.reason,
        "ordered_by": one.ordered_by,
        "set_at": moment(one.set_at),
        "released_at": moment(one.released_at),
        "released_by": one.released_by,
        "release_reason": one.release_reason,
    }


def _record(installation: Installation, event: Event, one: Hold, by: str, reason: str) -> None:
    with AuditLog(installation.folder.audit, "ops") as log:
        log.append(event, durable=True, person=operator(), hold=one.id, client=one.client, path=one.path, paper=one.paper, reason=reason, by=by)
