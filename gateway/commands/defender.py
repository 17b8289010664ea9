"""`nightsafe defender list | ban | unban`: addresses from which the gateway takes no connections. A change counts within a second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from config.cli import Group, data_option, json_option
from config.console import emit, say, table
from config.errors import UsageError
from config.folder import DataFolder
from config.loading import open_installation
from config.settings import GatewaySettings
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog.networks import contains, parse_address
from gateway.commands.ca import Duration
from gateway.commands.operators import operator
from gateway.completing import named
from gateway.sftp.defender.bans import Ban, BanStore, group_of, rules_of


@click.group(cls=Group)
def defender() -> None:
    """Bans of addresses that tried too often to log in."""


@defender.command("list")
@data_option
@json_option
def list_(data: Path | None, as_json: bool) -> None:
    """The bans that hold now.

    Example: nightsafe defender list
    """
    with _store(open_installation(data).folder) as store:
        found = sorted(store.bans(time.time()).values(), key=lambda ban: ban.until)
    if as_json:
        emit([_facts(ban) for ban in found], as_json)
        return
    table("Bans", ("address", "since", "until", "time", "reason"), [(b.address, _time(b.since), _time(b.until), b.level, b.reason) for b in found])
    if not found:
        say("nobody is banned")


@defender.command()
@click.argument("address")
@click.option("--for", "length", type=Duration(), default="1d", show_default=True, metavar="TIME", help="How long, as in 30m, 8h, 7d.")
@data_option
@json_option
def ban(address: str, length: timedelta, data: Path | None, as_json: bool) -> None:
    """Take no new connections from an address; of IPv6, from its /64. Live connections stay: see `nightsafe sessions kill`.

    Example: nightsafe defender ban 203.0.113.9 --for 7d
    """
    installation = open_installation(data)
    with _store(installation.folder) as store:
        made = store.ban(_group(address), length.total_seconds(), rules_of(installation.settings.gateway), time.time(), operator())
    seconds = round(made.until - made.since)
    told = {"address": made.address, "seconds": seconds, "level": made.level, "reason": made.reason}
    _record(installation.folder, Event.ADDRESS_BANNED, **told, by=operator())
    if as_json:
        emit(_facts(made), as_json)
    else:
        say(f"{made.address} is banned until {_time(made.until)}{_exempt(installation.settings.gateway, address)}.")


@defender.command()
@click.argument("address", shell_complete=named("address"))
@data_option
@json_option
def unban(address: str, data: Path | None, as_json: bool) -> None:
    """Take connections from an address again, and forget what was held against it.

    Example: nightsafe defender unban 203.0.113.9
    """
    folder, group = open_installation(data).folder, _group(address)
    with _store(folder) as store:
        found = store.unban(group)
    if found:
        _record(folder, Event.ADDRESS_UNBANNED, address=group, by=operator())
    if as_json:
        emit({"address": group, "was_banned": found}, as_json)
    else:
        say(f"{group} {'is banned no longer' if found else 'was not banned'}.")


def _group(address: str) -> str:
    if parse_address(address.removesuffix("/64")) is None:
        raise UsageError(f"'{address[:60]}' is no address", "write it as in 203.0.113.9 or 2001:db8::1")
    return group_of(address.removesuffix("/64"))


def _exempt(settings: GatewaySettings, address: str) -> str:
    trusted = contains(settings.trusted_networks, parse_address(address.removesuffix("/64")))
    return ", but gateway.trusted_networks exempts it" if trusted else ""


@contextmanager
def _store(folder: DataFolder) -> Iterator[BanStore]:
    store = BanStore(folder.defender)
    try:
        yield store
    finally:
        store.close()


def _record(folder: DataFolder, event: Event, **fields: Any) -> None:
    with AuditLog(folder.audit, "ops") as log:
        log.append(event, durable=True, **fields)


def _facts(one: Ban) -> dict[str, Any]:
    return {"address": one.address, "since": _time(one.since), "until": _time(one.until), "level": one.level, "reason": one.reason}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
