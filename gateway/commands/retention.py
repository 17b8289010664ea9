"""`nightsafe retention report | run`: what is due, what keeps it, and its end."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click

from config.cli import Moment, data_option, json_option
from config.console import emit, human_bytes, say, table
from config.loading import open_installation
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.catalog.people import unknown_client
from gateway.commands.operators import operator
from gateway.commands.times import moment
from gateway.retention.due import Due
from gateway.retention.expiry import due_now, expire


@click.group()
def retention() -> None:
    """How long papers are kept, by class: `retention.days` in the settings."""


@retention.command()
@click.argument("client", required=False)
@click.option("--at", type=Moment(), metavar="TIME", help="What will be due then; now by default.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="The oldest so many.")
@data_option
@json_option
def report(client: str | None, at: datetime | None, limit: int, data: Path | None, as_json: bool) -> None:
    """What is due, what keeps it nevertheless, and the newest snapshot that holds it. Nothing is changed.

    Example: nightsafe retention report
    """
    installation = open_installation(data)
    settings = installation.settings.retention
    with Catalog.open(installation.folder.catalog) as catalog:
        if client is not None and catalog.client(client) is None:
            raise unknown_client(client)
        found = list(islice(due_now(catalog, settings, at or datetime.now(UTC), client), limit))
        newest = _newest_snapshot(catalog)
        expired, _ = catalog.count_papers(client, "expired")
    if as_json:
        emit({"due": [_facts(one, newest) for one in found], "expired_before": expired, "newest_snapshot": newest}, as_json)
        return
    rows = [
        (one.paper.client, one.paper.path, one.paper.version, moment(one.since), _fate(one), one.why, human_bytes(one.paper.size)) for one in found
    ]
    table("Due", ("client", "path", "version", "due since", "what happens", "why", "size"), rows)
    if not settings.days:
        say("Nothing expires: retention.days is empty.")
    elif not found:
        say("nothing is due")
    elif newest is not None:
        say(f"What expires now stays in the snapshots up to {newest['snapshot'][:8]} of {newest['time']}, until the last of them is forgotten.")
    if expired:
        say(f"{expired} papers expired before.")


@retention.command()
@data_option
@json_option
def run(data: Path | None, as_json: bool) -> None:
    """Let everything expire that is due and that nothing keeps. Ingest does the same by itself every `retention.every_hours`.

    The sealed files go from the vault and their names from the clients' folders; the catalog and the audit log keep the record.

    Example: nightsafe retention run
    """
    installation = open_installation(data)
    with Catalog.open(installation.folder.catalog) as catalog, AuditLog(installation.folder.audit, "ops") as audit:
        done = expire(installation.folder, catalog, audit, installation.settings.retention, person=operator())
    if as_json:
        emit({"expired": done.papers, "sealed_bytes": done.sealed_bytes, "kept": done.kept}, as_json)
    else:
        say(f"{len(done.papers)} papers expired, {human_bytes(done.sealed_bytes)}; {done.kept} are due and kept")


def _newest_snapshot(catalog: Catalog) -> dict[str, Any] | None:
    """The newest backup that is known here: it holds every paper that was sealed before it."""
    for known in catalog.runs("backup", limit=200):
        if known.snapshot and known.state in ("passed", "partial"):
            return {"snapshot": known.snapshot, "time": moment(known.started_at)}
    return None


def _fate(one: Due) -> str:
    return "expires" if one.expires else "held" if one.holds else "stays"


def _facts(one: Due, newest: dict[str, Any] | None) -> dict[str, Any]:
    paper = one.paper
    sealed = moment(paper.sealed_at) or ""
    return {
        "client": paper.client,
        "paper": paper.id,
        "path": paper.path,
        "version": paper.version,
        "class": paper.class_name,
        "size": paper.size,
        "received_at": moment(paper.received_at),
        "due_since": moment(one.since),
        "days": one.days,
        "fate": _fate(one),
        "why": one.why,
        "holds": [hold.id for hold in one.holds],
        "last_snapshot": newest["snapshot"] if newest and newest["time"] >= sealed else None,
    }
