"""`nightsafe incident open | collect | list | show | close`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from config.cli import Group, Moment, data_option, json_option
from config.console import emit, facts, say, table
from config.errors import NightsafeError, Partial, UsageError
from config.loading import Installation, open_installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.catalog.people import unknown_client
from gateway.commands.operators import operator
from gateway.commands.signers import audit_signer
from gateway.commands.times import moment
from gateway.completing import named
from gateway.incident import ledger
from gateway.incident.collect import collect as collect_bundle
from gateway.incident.collect import whom_to_inform
from gateway.incident.findings import Subject
from gateway.incident.ledger import Incident
from gateway.keys.keyring import Keyring


@click.group(cls=Group)
def incident() -> None:
    """Incidents: freeze somebody at once, collect what they touched, and whom to inform."""


@incident.command("open")
@click.option("--person", metavar="P", shell_complete=named("person"), help="Freeze this person.")
@click.option(
    "--client", metavar="C", shell_complete=named("client"), help="Freeze this client: none of its people may log in, and nobody sees its papers."
)
@click.option("--reason", required=True, metavar="TEXT", help="Why; it stands in the audit log.")
@click.option("--since", type=Moment(), metavar="TIME", help="Collect events since then, instead of the days of the settings.")
@data_option
@json_option
def open_(person: str | None, client: str | None, reason: str, since: datetime | None, data: Path | None, as_json: bool) -> None:
    """Freeze a person or a client now: live connections end within a second. Then collect a signed bundle, and say whom to inform.

    Exit code 3: frozen, but the bundle could not be made; `nightsafe incident collect` makes it later.

    Example: nightsafe incident open --person zoe --reason "laptop stolen, ticket 31"
    """
    if (person is None) == (client is None):
        raise UsageError("an incident is about one person or one client", "give one of --person P, --client C")
    if not reason.strip():
        raise UsageError("an incident has a reason", 'say why: --reason "laptop stolen"')
    installation = open_installation(data)
    _freeze(installation, person, client, reason)
    told = {"person": person, "client": client, "reason": reason, "by": operator(), "at": moment(datetime.now(UTC))}
    opened = ledger.open_incident(installation.folder, {**told, "contacts": list(installation.settings.incident.contacts)})
    with AuditLog(installation.folder.audit, "ops") as log:
        log.append(Event.INCIDENT_OPENED, durable=True, incident=opened.number, person=person, client=client, reason=reason, by=operator())
    if not as_json:
        say(f"Incident {opened.number}: {opened.subject} is frozen.")
    _collect(installation, opened, since, as_json)


@incident.command("collect")
@click.argument("number", type=click.IntRange(1), shell_complete=named("incident"))
@click.option("--since", type=Moment(), metavar="TIME", help="Events since then, instead of the days of the settings.")
@data_option
@json_option
def collect_(number: int, since: datetime | None, data: Path | None, as_json: bool) -> None:
    """Collect a bundle again, with what happened meanwhile; earlier ones stay. Needs the master secret.

    Example: nightsafe incident collect 3 --since 2026-01-01
    """
    installation = open_installation(data)
    _collect(installation, ledger.incident(installation.folder, number), since, as_json)


@incident.command("list")
@data_option
@json_option
def list_(data: Path | None, as_json: bool) -> None:
    """All incidents, the newest first.

    Example: nightsafe incident list
    """
    found = ledger.incidents(open_installation(data).folder)
    if as_json:
        emit([_facts(one) for one in found], as_json)
        return
    rows = [(one.number, "closed" if one.closed else "open", one.subject, one.opened["at"], one.opened["by"], one.opened["reason"]) for one in found]
    table("Incidents", ("incident", "state", "about", "opened", "by", "reason"), rows)
    if not found:
        say("there was no incident")


@incident.command("show")
@click.argument("number", type=click.IntRange(1), shell_complete=named("incident"))
@data_option
@json_option
def show_(number: int, data: Path | None, as_json: bool) -> None:
    """One incident, and where its bundles lie.

    Example: nightsafe incident show 3
    """
    found = ledger.incident(open_installation(data).folder, number)
    if as_json:
        emit(_facts(found), as_json)
        return
    facts({name: value for name, value in _facts(found).items() if value not in (None, [], "")})


@incident.command("close")
@click.argument("number", type=click.IntRange(1), shell_complete=named("incident"))
@click.option("--by", required=True, metavar="NAME", help="Who decided that it is over.")
@click.option("--reason", required=True, metavar="TEXT", help="What it was, and what was done.")
@click.option("--resume", is_flag=True, help="Let the person or client in again.")
@data_option
@json_option
def close_(number: int, by: str, reason: str, resume: bool, data: Path | None, as_json: bool) -> None:
    """Close an incident. Who was frozen stays so, unless --resume.

    Example: nightsafe incident close 3 --by "Ms Keller" --reason "the laptop was wiped, new key" --resume
    """
    installation = open_installation(data)
    found = ledger.incident(installation.folder, number)
    values = {"at": moment(datetime.now(UTC)), "by": by, "recorded_by": operator(), "reason": reason, "resumed": resume}
    closed = ledger.close_incident(found, values)
    with AuditLog(installation.folder.audit, "ops") as log:
        about = {"person": found.opened.get("person"), "client": found.opened.get("client")}
        log.append(Event.INCIDENT_CLOSED, durable=True, incident=number, **about, reason=reason, by=by, resumed=resume)
    if resume:
        _resume(installation, found)
    if as_json:
        emit(_facts(closed), as_json)
    else:
        say(f"Incident {number} is closed; {found.subject} {'may log in again' if resume else 'stays frozen'}.")


def _freeze(installation: Installation, person: str | None, client: str | None, reason: str) -> None:
    """The first thing that is done: whatever fails later, nobody is in."""
    with Catalog.open(installation.folder.catalog) as catalog, AuditLog(installation.folder.audit, "ops") as log:
        if person is not None:
            frozen = catalog.edit_person(person, active=False)
            log.append(Event.PERSON_SUSPENDED, durable=True, person=person, client=frozen.client, by=operator())
        elif client is not None:
            if catalog.client(client) is None:
                raise unknown_client(client)
            catalog.edit_client(client, active=False)
            log.append(Event.CLIENT_SUSPENDED, durable=True, person=operator(), client=client, reason=reason)


def _resume(installation: Installation, found: Incident) -> None:
    person, client = found.opened.get("person"), found.opened.get("client")
    with Catalog.open(installation.folder.catalog) as catalog, AuditLog(installation.folder.audit, "ops") as log:
        if person:
            if catalog.existing_person(person).off_boarded_at is not None:
                raise UsageError(f"'{person}' was off-boarded", "the incident is closed; add a person of another name")
            resumed = catalog.edit_person(person, active=True)
            log.append(Event.PERSON_RESUMED, durable=True, person=person, client=resumed.client, by=operator())
        else:
            catalog.edit_client(str(client), active=True)
            log.append(Event.CLIENT_RESUMED, durable=True, person=operator(), client=client)


def _collect(installation: Installation, found: Incident, since: datetime | None, as_json: bool) -> None:
    settings = installation.settings.incident
    earliest = since or datetime.now(UTC) - timedelta(days=settings.days)
    try:
        signer = audit_signer(installation)
        with AuditLog(installation.folder.audit, "ops") as log:
            head = log.append(Event.INCIDENT_COLLECTED, durable=True, incident=found.number, by=operator(), since=moment(earliest))
        told = {"made_at": moment(datetime.now(UTC)), "made_by": operator(), "audit_head": head}
        signers = Keyring(installation.folder).allowed_signers.read_bytes()
        bundle, findings = collect_bundle(installation.folder.audit, found, _subject(installation, found), earliest, signer, signers, told)
    except NightsafeError as error:
        again = f"then: nightsafe incident collect {found.number}"
        raise Partial(f"incident {found.number} is open, but its bundle could not be made: {error.message}", f"{error.hint}\n{again}") from error
    inform = whom_to_inform(findings, found.opened.get("contacts") or ())
    if as_json:
        values = findings.values()
        sizes = {name: len(values[name]) for name in ("sessions", "papers", "addresses")}
        emit({**_facts(found), "bundle": str(bundle), **sizes, "events": findings.events, "inform": inform}, as_json)
        return
    addresses, others = ", ".join(list(findings.addresses)[:10]) or "none", ", ".join(sorted(findings.others)[:10]) or "nobody"
    counts = {"sessions": len(findings.sessions), "papers touched": len(findings.papers)}
    facts({"bundle": bundle, "page": bundle / "findings.html", **counts, "addresses": addresses, "others from there": others})
    say("Inform:")
    for one in inform:
        say(f"  {one}")
    if not found.opened.get("contacts"):
        say("  nobody of the firm is named: set contacts in [incident], see docs/how-to/handle-an-incident.md")
    if found.closed is None:
        say(f"When it is over: nightsafe incident close {found.number} --by NAME --reason TEXT --resume")


def _subject(installation: Installation, found: Incident) -> Subject:
    person, client = found.opened.get("person"), found.opened.get("client")
    with Catalog.open(installation.folder.catalog) as catalog:
        people = frozenset(one.name for one in catalog.people() if client is not None and one.client == client)
    return Subject(person, client, people)


def _facts(one: Incident) -> dict[str, Any]:
    closed = {f"closed_{name}": value for name, value in one.closed.items()} if one.closed else {}
    told = {name: one.opened.get(name) for name in ("person", "client", "reason", "by", "at", "contacts")}
    return {"incident": one.number, "state": "closed" if one.closed else "open", **told, **closed, "bundles": [str(path) for path in one.bundles]}
