"""`nightsafe held list | release | refuse | again`: papers that a check holds back, and what a person decides about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from config.cli import Group, data_option, json_option
from config.console import emit, human_bytes, say, table
from config.loading import open_installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Paper
from gateway.catalog.checked import Decision
from gateway.catalog.people import unknown_client
from gateway.commands.operators import operator
from gateway.commands.times import moment
from gateway.completing import named

reason_option = click.option("--reason", required=True, metavar="TEXT", help="Why; it stands in the audit log.")


@click.group(cls=Group)
def held() -> None:
    """Papers that a check holds: they wait, encrypted, until the check has an end or a person decides."""


@held.command("list")
@click.argument("client", shell_complete=named("client"), required=False)
@data_option
@json_option
def list_(client: str | None, data: Path | None, as_json: bool) -> None:
    """What waits, and what for.

    Example: nightsafe held list acme
    """
    folder = open_installation(data).folder
    with Catalog.open(folder.catalog) as catalog:
        if client is not None and catalog.client(client) is None:
            raise unknown_client(client)
        found = catalog.held(client)
        decided = {paper: one.decision for paper, one in catalog.decisions().items()}
    with AuditLog(folder.audit, "ops") as log:
        log.append(Event.FILES_SEARCHED, durable=True, person=operator(), state="held", found=len(found), **({"client": client} if client else {}))
    if as_json:
        emit([_facts(one, decided.get(one.id)) for one in found], as_json)
        return
    rows = [(one.client, one.path, human_bytes(one.size), moment(one.received_at), one.code, decided.get(one.id, ""), one.id) for one in found]
    table("Held papers", ("client", "path", "size", "received", "for", "decided", "paper"), rows)
    if not found:
        say("no paper is held")


@held.command()
@click.argument("paper", shell_complete=named("held"))
@reason_option
@data_option
def release(paper: str, reason: str, data: Path | None) -> None:
    """Let a held paper pass. What refuses a paper (a virus, a bomb) refuses it still.

    Example: nightsafe held release 018f88b0c5e10123456789abcdef0123 --reason "opened on the test machine, ticket 12"
    """
    _decide(paper, "release", reason, data)


@held.command()
@click.argument("paper", shell_complete=named("held"))
@reason_option
@data_option
def refuse(paper: str, reason: str, data: Path | None) -> None:
    """Refuse a held paper: it goes into quarantine.

    Example: nightsafe held refuse 018f88b0c5e10123456789abcdef0123 --reason "not for us"
    """
    _decide(paper, "refuse", reason, data)


@held.command()
@click.argument("paper", shell_complete=named("held"))
@reason_option
@data_option
def again(paper: str, reason: str, data: Path | None) -> None:
    """Check a held paper again, after the settings or an agreement have changed.

    Example: nightsafe held again 018f88b0c5e10123456789abcdef0123 --reason "the rule was changed"
    """
    _decide(paper, "again", reason, data)


def _decide(paper: str, decision: Decision, reason: str, data: Path | None) -> None:
    folder = open_installation(data).folder
    with Catalog.open(folder.catalog) as catalog, AuditLog(folder.audit, "ops") as log:
        found = catalog.decide(paper, decision, person=operator(), reason=reason)
        log.append(
            Event.HELD_DECIDED,
            durable=True,
            person=operator(),
            client=found.client,
            paper=found.id,
            path=found.path,
            decision=decision,
            reason=reason,
        )
    say(f"{found.path} of {found.client}: {decision}. Ingest acts on it within seconds, and the client gets a new receipt.")


def _facts(one: Paper, decided: str | None) -> dict[str, Any]:
    return {
        "paper": one.id,
        "client": one.client,
        "path": one.path,
        "version": one.version,
        "size": one.size,
        "sha256": one.sha256,
        "received_at": moment(one.received_at),
        "code": one.code,
        "reason": one.reason,
        "class": one.class_name,
        "decided": decided,
    }
