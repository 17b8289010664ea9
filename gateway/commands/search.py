"""`nightsafe files find | history`: which papers there are, and who did what to one. Both are audit events."""

from __future__ import annotations

import json
import re
from collections import deque
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import click

from config.cli import Moment, data_option, json_option
from config.console import emit, human_bytes, say, table
from config.errors import UsageError
from config.loading import Installation, open_installation
from gateway.audit.events import Event
from gateway.audit.history import history as history_of
from gateway.audit.log import AuditLog
from gateway.audit.read import read
from gateway.catalog import Catalog
from gateway.catalog.people import unknown_client
from gateway.catalog.rows import Paper, Verdict
from gateway.catalog.search import MOST, Search
from gateway.commands.operators import operator, virtual
from gateway.commands.times import moment
from gateway.completing import named

SHA256 = re.compile(r"[0-9a-fA-F]{64}")
OWN = {"seq", "time", "role", "event", "prev", "segment", "person", "client", "address", "result"}


@click.command()
@click.argument("name", required=False)
@click.option("--client", metavar="NAME", shell_complete=named("client"), help="Only papers of this client.")
@click.option("--since", type=Moment(), metavar="TIME", help="Only papers received then or later: 2026-01-31 or 2026-01-31T08:00.")
@click.option("--until", type=Moment(), metavar="TIME", help="Only papers received before then.")
@click.option("--sha256", metavar="HASH", help="Only papers with this content.")
@click.option("--class", "class_name", metavar="CLASS", help="Only papers of this class.")
@click.option("--type", "ending", metavar="EXT", help="Only names that end in .EXT, for example pdf.")
@click.option("--person", metavar="NAME", shell_complete=named("person"), help="Only papers that this person put in.")
@click.option("--state", type=click.Choice(get_args(Verdict)), help="Only papers that ended so.")
@click.option("--limit", type=click.IntRange(1, MOST), default=100, show_default=True, help="The newest so many.")
@data_option
@json_option
def find(name: str | None, limit: int, data: Path | None, as_json: bool, **asked: Any) -> None:
    """Papers of all clients, the newest first. NAME is a piece of the name; with * and ? it is the whole name.

    Case does not count for the letters A to Z. The search itself is recorded in the audit log, with what was asked.

    Example: nightsafe files find 'invoice*.pdf' --client acme --since 2026-01-01
    """
    if asked["sha256"] is not None and not SHA256.fullmatch(asked["sha256"]):
        raise UsageError("--sha256 takes the 64 hex digits of a SHA-256", "sha256sum FILE prints them")
    installation = open_installation(data)
    with Catalog.open(installation.folder.catalog) as catalog:
        if asked["client"] is not None and catalog.client(asked["client"]) is None:
            raise unknown_client(asked["client"])
        found = catalog.find(Search(name=name, **asked), limit)
    _record(installation, found=len(found), name=name, limit=limit, by=asked.pop("person"), **asked)
    if as_json:
        emit([_facts(paper) for paper in found], as_json)
        return
    rows = [(p.client, p.path, p.version, human_bytes(p.size), p.state, p.class_name, moment(p.received_at), p.person, p.id) for p in found]
    table("Papers", ("client", "path", "version", "size", "state", "class", "received", "by", "paper"), rows)
    if len(found) == limit:
        say(f"There may be more than these {limit}: narrow the search, or raise --limit.")
    elif not found:
        say("no papers")


@click.command()
@click.argument("client", shell_complete=named("client"))
@click.argument("path", shell_complete=named("path"))
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="The newest so many events.")
@data_option
@json_option
def history(client: str, path: str, limit: int, data: Path | None, as_json: bool) -> None:
    """Who did what to a paper: every event of this name and of the papers that ever had it, oldest first.

    Reads the audit log through. What happened under other names is there as well, as long as it was the same paper.

    Example: nightsafe files history acme /inbox/2026/invoice.pdf
    """
    installation = open_installation(data)
    name = virtual(path)
    with Catalog.open(installation.folder.catalog) as catalog:
        if catalog.client(client) is None:
            raise unknown_client(client)
        papers = [paper.id for paper in catalog.versions(client, name)]
    found = list(deque(history_of(read(installation.folder.audit, client=client), name, papers), limit))
    _record(installation, client=client, path=name, found=len(found))
    if as_json:
        emit(found, as_json)
        return
    if not found:
        raise UsageError(f"nothing is known of {name} of {client}", f"see the names with: nightsafe files list {client}")
    table(f"History of {name}", ("time", "event", "who", "from", "more"), [_line(record) for record in found])


def _line(record: dict[str, Any]) -> tuple[str, ...]:
    more = {key: value for key, value in record.items() if key not in OWN and value is not None}
    who = record.get("person") or record["role"]
    return record["time"], record["event"], str(who), str(record.get("address") or ""), json.dumps(more, ensure_ascii=False)


def _facts(paper: Paper) -> dict[str, Any]:
    times: dict[str, datetime] = {"received_at": paper.received_at, "sealed_at": paper.sealed_at}
    names = ("client", "path", "version", "size", "sha256", "state", "reason", "code", "class_name", "person")
    return {"paper": paper.id, **{name: getattr(paper, name) for name in names}, **{name: moment(time) for name, time in times.items()}}


def _record(installation: Installation, **fields: Any) -> None:
    said = {key: value for key, value in fields.items() if value is not None}
    with AuditLog(installation.folder.audit, "ops") as log:
        log.append(Event.FILES_SEARCHED, durable=True, person=operator(), **said)
