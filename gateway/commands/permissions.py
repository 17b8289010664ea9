"""`nightsafe permissions`: who may read and write what, where each role has its own user."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from config.cli import Group, data_option, json_option
from config.console import emit, say, table
from config.errors import CheckFailed, UsageError
from config.loading import Installation, open_installation
from config.owners import PLACES, USERS
from config.rights import apply as apply_rights
from config.rights import faults, role_users
from config.words import counted

MOST_SHOWN = 20


@click.group(cls=Group)
def permissions() -> None:
    """The rights of each role's user in the data folder: show, check, apply."""


@permissions.command()
@json_option
def show(as_json: bool) -> None:
    """The table: each place, and which roles read it and write it.

    Example: nightsafe permissions show
    """
    rows: list[dict[str, Any]] = [
        {"place": place.path, "reads": sorted(place.reads), "writes": sorted(place.writes), "adds": sorted(place.adds), "note": place.note}
        for place in PLACES
    ]
    if as_json:
        emit({"users": dict(USERS), "places": rows}, as_json)
        return
    table(
        "rights",
        ["place", "reads", "writes", "adds"],
        [(row["place"], *(" ".join(row[what]) for what in ("reads", "writes", "adds"))) for row in rows],
    )


@permissions.command()
@data_option
@json_option
def check(data: Path | None, as_json: bool) -> None:
    """Compare every file's rights with the table. Exit code 1: something differs.

    Example: nightsafe permissions check
    """
    installation = _opened(data)
    found = list(faults(installation, role_users()))
    if as_json:
        emit({"faults": found}, as_json)
    if found:
        more = f"\n  and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
        raise CheckFailed(
            f"{counted(len(found), 'thing has', 'things have')} other rights than they should:\n  " + "\n  ".join(found[:MOST_SHOWN]) + more,
            "nightsafe permissions apply",
        )
    if not as_json:
        say("All rights are as they should be.")


@permissions.command()
@click.option("--quick", is_flag=True, help="Only the places of the table, not all that lies in them: what units do before they start.")
@data_option
@json_option
def apply(quick: bool, data: Path | None, as_json: bool) -> None:
    """Give every file the rights of the table, after a restore, say. Safe to run again, and while the roles run.

    Example: nightsafe permissions apply
    """
    installation = _opened(data)
    changed = apply_rights(installation, role_users(), deep=not quick)
    if as_json:
        emit({"changed": changed}, as_json)
    elif not quick or changed:
        say(f"{counted(changed, 'file or folder', 'files and folders')} got other rights." if changed else "All rights were as they should be.")


def _opened(data: Path | None) -> Installation:
    if os.geteuid() != 0:
        raise UsageError("only root may do that", "the roles' users must not look into each other's files")
    return open_installation(data)
