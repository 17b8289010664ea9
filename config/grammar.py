"""The commands and their options as a table, for the Tab key: a shell that completes must not wait until all that the commands need is imported.

`scripts/docs` writes the table (`grammar.json`) from the commands themselves; here are both ways, from commands to table and back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

TABLE = Path(__file__).with_name("grammar.json")

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def described(command: click.Command, context: click.Context) -> dict[str, Any]:
    """The table of a command and of all below it: JSON values."""
    table: dict[str, Any] = {"about": command.get_short_help_str(120)}
    if command.params:
        table["params"] = [_described(parameter) for parameter in command.params]
    if isinstance(command, click.Group):
        inner = ((name, command.get_command(context, name)) for name in command.list_commands(context))
        table["commands"] = {name: described(one, click.Context(one, parent=context, info_name=name)) for name, one in inner if one is not None}
    return table


def _described(parameter: click.Parameter) -> dict[str, Any]:
    kind, completer = parameter.type, parameter._custom_shell_complete
    table: dict[str, Any] = {"name": parameter.name, "nargs": parameter.nargs}
    if isinstance(parameter, click.Option):
        table |= {"opts": [*parameter.opts, *parameter.secondary_opts], "flag": parameter.is_flag, "about": parameter.help or ""}
        table |= {"multiple": True} if parameter.multiple else {}
    if isinstance(kind, click.Choice):
        table["choices"] = [str(choice) for choice in kind.choices]
    elif isinstance(kind, click.Path | click.File):
        table["file"] = "dir" if isinstance(kind, click.Path) and not kind.file_okay else "file"
    if completer is not None:
        table["kind"] = completer.kind  # type: ignore[attr-defined]
    return table


def built(named: Callable[[Any], Completer], table: Mapping[str, Any] | None = None) -> click.Command:
    """Commands that do nothing, and are completed as those that the table was made of; `named` gives what completes a kind.

    Raises OSError, ValueError or KeyError when the table is not there, or none.
    """
    table = json.loads(TABLE.read_bytes()) if table is None else table
    return _Tabled("", table, named) if "commands" in table else _command("", table, named)


class _Tabled(click.Group):
    """A group whose commands are made when they are asked for."""

    def __init__(self, name: str, table: Mapping[str, Any], named: Callable[[Any], Completer]) -> None:
        super().__init__(name, short_help=table["about"], params=[_parameter(one, named) for one in table.get("params", ())])
        self._tables, self._named = table["commands"], named

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's shape
        """As the table has them."""
        return list(self._tables)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's shape
        """Made of its part of the table."""
        table = self._tables.get(cmd_name)
        if table is None:
            return None
        return _Tabled(cmd_name, table, self._named) if "commands" in table else _command(cmd_name, table, self._named)


def _command(name: str, table: Mapping[str, Any], named: Callable[[Any], Completer]) -> click.Command:
    return click.Command(name, short_help=table["about"], params=[_parameter(one, named) for one in table.get("params", ())])


def _parameter(table: Mapping[str, Any], named: Callable[[Any], Completer]) -> click.Parameter:
    kind = click.Choice(table["choices"]) if "choices" in table else click.Path(file_okay=table["file"] == "file") if "file" in table else None
    means: dict[str, Any] = {"type": kind, "nargs": table["nargs"], "shell_complete": named(table["kind"]) if "kind" in table else None}
    if "opts" not in table:
        return click.Argument([table["name"]], required=False, **means)
    if table["flag"]:
        return click.Option([table["name"], *table["opts"]], is_flag=True, help=table["about"])
    return click.Option([table["name"], *table["opts"]], multiple=table.get("multiple", False), help=table["about"], **means)
