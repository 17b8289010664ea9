"""`nightsafe sessions [list | kill]`: who is logged in now, over all processes of the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from config.cli import Group, data_option, json_option
from config.console import emit, say, table
from config.errors import OutOfReach, UsageError
from config.folder import DataFolder
from config.loading import open_installation
from config.roles import role_state, starter
from gateway.commands.operators import operator
from gateway.completing import named
from gateway.sftp.workers.control import ask_all


@click.group(cls=Group, invoke_without_command=True)
@data_option
@json_option
@click.pass_context
def sessions(context: click.Context, data: Path | None, as_json: bool) -> None:
    """Who is logged in now.

    Example: nightsafe sessions
    """
    if context.invoked_subcommand is None:
        _list(data, as_json)


@sessions.command("list")
@data_option
@json_option
def list_(data: Path | None, as_json: bool) -> None:
    """Who is logged in now, from where, since when.

    Example: nightsafe sessions list
    """
    _list(data, as_json)


@sessions.command()
@click.argument("login", metavar="ID", shell_complete=named("session"))
@data_option
@json_option
def kill(login: str, data: Path | None, as_json: bool) -> None:
    """End one connection at once. Uploads under way can be resumed; to keep the person out, suspend them as well.

    Example: nightsafe sessions kill 1f0c9a2b77d4
    """
    folder = open_installation(data).folder
    answers = _ask(folder, {"op": "kill", "id": login, "by": operator()})
    if not any(answer.get("killed") for answer in answers):
        raise UsageError("nobody is logged in under this id", "see the ids with: nightsafe sessions")
    if as_json:
        emit({"killed": login}, as_json)
    else:
        say(f"{login} was ended.")


def _list(data: Path | None, as_json: bool) -> None:
    found: list[dict[str, Any]] = []
    for answer in _ask(open_installation(data).folder, {"op": "list"}):
        found += answer.get("logins", [])
    found.sort(key=lambda one: str(one.get("since", "")))
    if as_json:
        emit(found, as_json)
        return
    columns = ("id", "person", "role", "address", "since", "idle_seconds", "sessions", "software")
    table("Logged in", tuple(name.replace("_", " ") for name in columns), [tuple(one.get(name, "") for name in columns) for one in found])
    if not found:
        say("nobody is logged in")


def _ask(folder: DataFolder, question: dict[str, Any]) -> list[dict[str, Any]]:
    answers = ask_all(folder.run, question)
    if not answers and role_state(folder, "gateway") is None:
        raise OutOfReach("the gateway does not run", f"start it with: {starter(folder)}")
    return answers
