"""`nightsafe notify list | test`: who is told of what, and whether it reaches them."""

from __future__ import annotations

from pathlib import Path

import click

from config.cli import Group, data_option, json_option
from config.console import emit, say, table
from config.errors import OutOfReach, UsageError
from config.loading import open_installation
from gateway.completing import named
from gateway.notify.outbox import Outbox, Standing
from gateway.notify.receivers import receivers
from gateway.notify.sending import NotTaken, send


@click.group(cls=Group)
def notify() -> None:
    """Notices of events, by e-mail, webhook and what else Apprise knows."""


@notify.command("list")
@data_option
@json_option
def list_(data: Path | None, as_json: bool) -> None:
    """The receivers, the events they are told of, and what waits for them. Addresses are not shown.

    Example: nightsafe notify list
    """
    installation = open_installation(data)
    known = receivers(installation)
    standings = {receiver.name: Standing(0, 0, 0, "", "") for receiver in known}
    if known and installation.folder.notify.exists():
        outbox = Outbox(installation.folder.notify)
        standings = {receiver.name: outbox.standing(receiver.name) for receiver in known}
        outbox.close()
    if as_json:
        found = [{"receiver": one.name, "events": list(one.events), **vars(standings[one.name])} for one in known]
        emit(found, as_json)
        return
    rows = []
    for one in known:
        standing = standings[one.name]
        rows.append((one.name, ", ".join(one.events), standing.waiting, standing.sent_at or "never", standing.error))
    table("Receivers", ("receiver", "events", "waiting", "last sent", "trouble"), rows)
    if not known:
        say("nobody is told of anything: notify.events is empty")


@notify.command()
@click.argument("receiver", required=False, shell_complete=named("receiver"))
@data_option
@json_option
def test(receiver: str | None, data: Path | None, as_json: bool) -> None:
    """Send a test message to one receiver, or to all; exit code 5 when one did not take it.

    Example: nightsafe notify test
    """
    known = receivers(open_installation(data))
    chosen = [one for one in known if receiver in (None, one.name)]
    if not chosen:
        raise UsageError(
            f"there is no receiver '{receiver}'" if receiver else "there are no receivers", "they are named in the settings: notify.events"
        )
    trouble = {}
    for one in chosen:
        try:
            send(one.url, "Nightsafe: test", "This is a test. You are told of: " + ", ".join(one.events))
        except NotTaken as error:
            trouble[one.name] = str(error)
    if as_json:
        emit([{"receiver": one.name, "taken": one.name not in trouble, "error": trouble.get(one.name, "")} for one in chosen], as_json)
    else:
        for one in chosen:
            say(f"{one.name}: {trouble.get(one.name, 'taken')}")
    if trouble:
        raise OutOfReach(f"not everybody was reached: {', '.join(sorted(trouble))}", "check the addresses in notify.receivers_file")
