"""`nightsafe retention report | run`: what is due, what keeps it, and its end."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click

from config.cli import Group, Moment, data_option, json_option
from config.console import emit, human_bytes, say, table
from config.loading import open_installation
from config.settings import Settings
from config.words import counted
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Paper
from gateway.catalog.people import unknown_client
from gateway.commands.operators import operator
from gateway.commands.times import moment
from gateway.completing import named
from gateway.retention.due import Due
from gateway.retention.expiry import due_now, expire
from gateway.retention.snapshots import Leaving

RUNS = 5000  # backups that are looked at: hourly ones of 200 days


@click.group(cls=Group)
def retention() -> None:
    """How long papers are kept, by class: `retention.days` in the settings."""


@retention.command()
@click.argument("client", shell_complete=named("client"), required=False)
@click.option("--at", type=Moment(), metavar="TIME", help="What will be due then; now by default.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="The oldest so many.")
@data_option
@json_option
def report(client: str | None, at: datetime | None, limit: int, data: Path | None, as_json: bool) -> None:
    """What is due, what keeps it nevertheless, and when the last snapshot that holds it is forgotten. Nothing is changed.

    Example: nightsafe retention report
    """
    installation = open_installation(data)
    settings = installation.settings.retention
    with Catalog.open(installation.folder.catalog) as catalog:
        if client is not None and catalog.client(client) is None:
            raise unknown_client(client)
        found = list(islice(due_now(catalog, settings, at or datetime.now(UTC), client), limit))
        snapshots = Snapshots(catalog, installation.settings)
        expired, _ = catalog.count_papers(client, "expired")
    if as_json:
        emit({"due": [_facts(one, snapshots) for one in found], "expired_before": expired}, as_json)
        return
    rows = [
        (
            one.paper.client, one.paper.path, one.paper.version, moment(one.since), _fate(one), one.why, human_bytes(one.paper.size),
            (snapshots.facts(one.paper)["in_snapshots_until"] or "")[:10],
        )
        for one in found
    ]  # fmt: skip
    table("Due", ("client", "path", "version", "due since", "what happens", "why", "size", "in snapshots until"), rows)
    if not settings.days:
        say("Nothing expires: retention.days is empty.")
    elif not found:
        say("nothing is due")
    elif any(one.expires for one in found):
        say("The last column is when the last snapshot that holds the paper is forgotten, at the latest, if it expires now and backups go on.")
    if expired:
        say(f"{counted(expired, 'paper')} expired before.")


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
        say(f"{counted(len(done.papers), 'paper')} expired, {human_bytes(done.sealed_bytes)}; {counted(done.kept, 'is', 'are')} due and kept")


class Snapshots:
    """The backups that are known here; one holds every paper that was sealed before it."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        known = [run for run in catalog.runs("backup", limit=RUNS) if run.snapshot and run.state in ("passed", "partial")]
        self._ids = {run.started_at: run.snapshot for run in known}
        self._leaving = Leaving(list(self._ids), settings.forget, settings.backup.schedule, settings.backup.timezone)

    def facts(self, paper: Paper) -> dict[str, Any]:
        """The snapshot that holds the paper for the longest, and until when; None where none does, or there is no end in sight."""
        found = self._leaving.last_holding(paper.sealed_at)
        return {
            "last_snapshot": self._ids[found[0]] if found else None,
            "in_snapshots_until": (moment(found[1]) or "for good") if found else None,
        }


def _fate(one: Due) -> str:
    return "expires" if one.expires else "held" if one.holds else "stays"


def _facts(one: Due, snapshots: Snapshots) -> dict[str, Any]:
    paper = one.paper
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
        **snapshots.facts(paper),
    }
