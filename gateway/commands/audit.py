"""`nightsafe audit show | export`; `verify`, which may ask the repositories, belongs to the other wing."""

from __future__ import annotations

import fnmatch
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import click

from config.cli import F, Group, Moment, data_option, json_option
from config.console import emit, facts, say, tabbed, table
from config.errors import OutOfReach, UsageError
from config.loading import open_installation
from gateway.audit.bundle import CHECK, bundling
from gateway.audit.events import Event, near
from gateway.audit.export import cells, write_events
from gateway.audit.follow import ends, new_lines
from gateway.audit.lines import canonical
from gateway.audit.log import AuditLog
from gateway.audit.read import Filter, Record, read
from gateway.audit.verify import verify
from gateway.commands.operators import operator
from gateway.commands.signers import audit_signer
from gateway.commands.times import moment
from gateway.completing import named
from gateway.keys.keyring import CHECKPOINT_SIGNING, Keyring

FOLLOW_SECONDS = 0.5
COLUMNS = ("time", "role", "event", "who", "what", "more")


@click.group(cls=Group)
def audit() -> None:
    """The audit log: a chain of hashes that nobody can edit unnoticed."""


def filter_options(command: F) -> F:
    """What both commands can be narrowed by."""
    for option in (
        click.option("--address", metavar="IP", help="Only events from this address, or this network (192.0.2.0/24)."),
        click.option("--path", metavar="PATH", help="Only events of this path, and of what is below it."),
        click.option("--event", metavar="NAME", help="Only events of this name, for example paper.sealed; * stands for any part."),
        click.option("--person", metavar="NAME", shell_complete=named("person"), help="Only events of this person, or done by them."),
        click.option("--client", metavar="NAME", shell_complete=named("client"), help="Only events of this client."),
    ):
        command = option(command)
    return command


@audit.command()
@filter_options
@click.option("--since", type=Moment(), metavar="TIME", help="Only events since then: 2026-01-31 or 2026-01-31T08:00.")
@click.option("--until", type=Moment(), metavar="TIME", help="Only events before then.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The newest so many.")
@click.option("--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@data_option
@json_option
def show(limit: int, follow: bool, data: Path | None, as_json: bool, **asked: Any) -> None:
    """Events in the order of time, the newest last. With --follow and --json: one object a line. That somebody looked is an event, too.

    Example: nightsafe audit show --person ann --event 'paper.*' --since 2026-11-01 --follow
    """
    folder = open_installation(data).folder
    wanted = checked(Filter(**asked))
    places = ends(folder.audit)
    found = list(read(folder.audit, wanted, limit=limit))
    _record_look(folder.audit, asked)
    if not follow:
        if as_json:
            emit(found, as_json)
        else:
            table("Audit", COLUMNS, [cells(record) for record in found])
        return
    for record in found:
        show_record(record, as_json)
    for record in _follow(folder.audit, places):
        if wanted.fits(record):
            show_record(record, as_json)


@audit.command()
@filter_options
@click.option(
    "--from",
    "since",
    type=Moment(),
    required=True,
    metavar="TIME",
    shell_complete=named("month"),
    help="Events since then: 2026-01-31 or 2026-01-31T08:00.",
)
@click.option(
    "--to", "until", type=Moment(), metavar="TIME", shell_complete=named("month"), help="Events before then; until now, when it is not given."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The folder that is made.")
@data_option
@json_option
def export(out: Path, data: Path | None, as_json: bool, **asked: Any) -> None:
    """A signed bundle of the events of a time: JSON lines, a page for people, a manifest that ssh-keygen verifies. Needs the master secret.

    Example: nightsafe audit export --from 2026-01-01 --to 2027-01-01 --out audit-2026
    """
    installation = open_installation(data)
    folder = installation.folder
    now = datetime.now(UTC)
    wanted = checked(Filter(**{**asked, "until": min(asked["until"] or now, now)}))
    signer = audit_signer(installation)
    keyring = Keyring(folder)
    narrowed = {name: value for name, value in asked.items() if name not in ("since", "until") and value is not None}
    period = {"since": moment(wanted.since), "until": moment(wanted.until)}
    report = verify(folder.audit, [keyring.public_half(CHECKPOINT_SIGNING)])
    with bundling(out) as bundle:
        with AuditLog(folder.audit, "ops") as log:
            head = log.append(Event.AUDIT_EXPORTED, durable=True, person=operator(), client=asked["client"], **period)
        state = {"holds": report.ok, "problems": report.problems, "torn": report.torn, "checkpoints": report.checkpoints}
        shown = {**period, **narrowed, "the log": "holds" if report.ok else "DOES NOT HOLD: " + "; ".join(report.problems), "audit head": head}
        totals = write_events(bundle, read(folder.audit, wanted), f"Audit of {installation.settings.backup.host}", shown)
        told = {"kind": "audit", "made_at": moment(now), "made_by": operator(), "filter": narrowed, "audit_head": head, "log": state, **period}
        bundle.seal({**told, **totals.values()}, signer, keyring.allowed_signers.read_bytes())
    if as_json:
        emit({"bundle": str(out), "events": totals.events, "audit_head": head, "holds": report.ok}, as_json)
        return
    facts({"bundle": out, "events": totals.events, "the log": "holds" if report.ok else "does not hold: nightsafe audit verify", "audit head": head})
    say(f"How a stranger checks it is told in {out / CHECK}.")


def _record_look(audit: Path, asked: dict[str, Any]) -> None:
    """Who looks into the log sees names of papers, as with every search. A log that takes no lines, such as a copy, can be read all the same."""
    with suppress(OutOfReach), AuditLog(audit, "ops") as log:
        narrowed = {name: moment(value) if isinstance(value, datetime) else value for name, value in asked.items() if value is not None}
        log.append(Event.AUDIT_SHOWN, durable=True, person=operator(), client=asked["client"], asked=narrowed)


def checked(wanted: Filter) -> Filter:
    """The filter, when it can match anything. Raises UsageError."""
    if wanted.event is not None and not any(fnmatch.fnmatchcase(event, wanted.event) for event in Event):
        raise UsageError(f"there is no event '{wanted.event}'", near(wanted.event))
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise UsageError("the time ends before it begins", "give a later end")
    if wanted.address is not None:
        try:
            ip_network(wanted.address, strict=False)
        except ValueError as error:
            raise UsageError(f"'{wanted.address[:60]}' is no address", "write it as in 192.0.2.7 or 192.0.2.0/24") from error
    return wanted


def _follow(folder: Path, places: dict[str, int]) -> Iterator[Record]:
    """What is written behind `places`, for ever."""
    while True:
        for line in new_lines(folder, dict(places)):
            places[line.segment] = line.place
            if line.record is not None:
                yield {**line.record, "segment": line.segment}
        time.sleep(FOLLOW_SECONDS)


def show_record(record: Record, as_json: bool) -> None:
    """One line at once, as the others of a listing, or as JSON."""
    if as_json:
        sys.stdout.write(canonical(record).decode() + "\n")
    else:
        tabbed(cells(record))
    sys.stdout.flush()
