"""`nightsafe access-review [done]`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import click

from config.cli import Group, data_option, json_option
from config.console import emit, say, table
from config.errors import UsageError
from config.files import write_whole
from config.folder import DataFolder
from config.loading import Installation, open_installation
from config.words import counted
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.read import read
from gateway.catalog import Catalog
from gateway.catalog.rows import Role
from gateway.commands.logins import role_combinations
from gateway.commands.operators import operator
from gateway.commands.signers import audit_signer
from gateway.commands.times import moment
from gateway.completing import named
from gateway.review.access import Differences, Entry, Known, differences, entries
from gateway.review.kept import Review, keep_review, last_review
from gateway.review.record import COLUMNS, cells, difference_rows, render
from gateway.review.traces import traces


@click.group("access-review", cls=Group, invoke_without_command=True)
@click.option("--client", metavar="NAME", shell_complete=named("client"), help="Only who can reach this client.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="Write a page for printing to F as well.")
@data_option
@json_option
@click.pass_context
def access_review(context: click.Context, client: str | None, page: Path | None, data: Path | None, as_json: bool) -> None:
    """Who can reach what, since when, by whom, last used, with which factors; and what changed since the last review.

    Example: nightsafe access-review --page review.html
    """
    if context.invoked_subcommand is not None:
        return
    installation = open_installation(data)
    now = datetime.now(UTC)
    found, before, changes = reviewed(installation, now, client)
    if page is not None:
        facts = {"made at": moment(now), "made by": operator(), **({"client": client} if client else {})}
        write_whole(page.absolute(), render(found, changes, before, facts, now).encode(errors="backslashreplace"))
    if as_json:
        emit({"entries": found, "last_review": _facts(before), "differences": _difference_facts(changes)}, as_json)
        return
    table("Who can reach what", COLUMNS, [cells(entry, now) for entry in found])
    _tell(before, changes)


@access_review.command()
@click.option("--by", required=True, metavar="NAME", help="Who looked at it.")
@click.option("--note", default="", metavar="TEXT", help="What was found, or is to be done.")
@data_option
@json_option
def done(by: str, note: str, data: Path | None, as_json: bool) -> None:
    """Record that somebody has reviewed who can reach what: an event, and a signed page in the evidence. Needs the master secret.

    Example: nightsafe access-review done --by "Ms Keller" --note "zoe off-boarded"
    """
    if not by.strip():
        raise UsageError("a review has somebody who did it", 'name them: --by "Ms Keller"')
    installation = open_installation(data)
    now = datetime.now(UTC)
    signer = audit_signer(installation)
    found, before, changes = reviewed(installation, now)
    facts = {"reviewed at": moment(now), "reviewed by": by, "note": note or "none", "recorded by": operator()}
    told = {"reviewed_at": moment(now), "by": by, "note": note, "recorded_by": operator(), "before": before.number if before else None}
    values = {**told, "entries": found, "differences": _difference_facts(changes)}
    number, digest = keep_review(installation.folder, values, render(found, changes, before, facts, now), signer)
    count = len(changes) if changes is not None else None
    with AuditLog(installation.folder.audit, "ops") as log:
        log.append(
            Event.ACCESS_REVIEWED, durable=True, person=operator(), by=by, review=number, entries=len(found), changed=count, sha256=digest, note=note
        )
    if as_json:
        emit({"review": number, "entries": len(found), "changed": count, "sha256": digest}, as_json)
    else:
        lies_in = installation.folder.evidence / "access-review" / f"{number}.html"
        say(f"Review {number} by {by}: {counted(len(found), 'entry', 'entries')}. It lies in {lies_in}.")


def reviewed(installation: Installation, now: datetime, client: str | None = None) -> tuple[list[Entry], Review | None, Differences | None]:
    """All entries now, the last review, and what changed since (None without one); of one client, if it is named. Reads the audit log through."""
    folder = installation.folder
    found = entries(_known(folder, installation, client), traces(read(folder.audit)), now)
    before = last_review(folder)
    if before is None:
        return found, None, None
    old = [entry for entry in before.entries if client is None or entry["client"] == client]
    return found, before, differences(old, found)


def _known(folder: DataFolder, installation: Installation, client: str | None) -> Known:
    gateway = installation.settings.gateway
    with Catalog.open(folder.catalog) as catalog:
        clients = catalog.clients()
        if client is not None:
            clients = [one for one in clients if one.name == client]
            if not clients:
                raise UsageError(f"there is no client '{client[:40]}'", "see the names with: nightsafe client list")
        return Known(
            people=catalog.people(),
            clients=clients,
            added=catalog.keys_added(),
            required={role: role_combinations(gateway, role) for role in get_args(Role)},
        )


def _tell(before: Review | None, changes: Differences | None) -> None:
    if before is None or changes is None:
        say("It was never reviewed. When you have looked through it: nightsafe access-review done --by NAME")
        return
    said = f"Review {before.number} was done at {before.values.get('reviewed_at')} by {before.values.get('by')}."
    if not len(changes):
        say(f"{said} Nothing has changed since.")
        return
    say(f"{said} Since then:")
    table("Changed", ("what", "client", "person", "how"), difference_rows(changes))


def _facts(review: Review | None) -> dict[str, object] | None:
    return None if review is None else {"review": review.number, "at": review.values.get("reviewed_at"), "by": review.values.get("by")}


def _difference_facts(changes: Differences | None) -> dict[str, object] | None:
    if changes is None:
        return None
    changed = [{"person": entry["person"], "client": entry["client"], "fields": dict(fields)} for entry, fields in changes.changed]
    return {"came": list(changes.came), "went": list(changes.went), "changed": changed}
