"""What all commands share: `--data`, `--json`, and the way from an exception to a message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click

from config.console import complain
from config.errors import Exit, NightsafeError

F = TypeVar("F", bound=Callable[..., Any])

SIZE_UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def data_option(command: F) -> F:
    """`--data DIR`: which data folder; NIGHTSAFE_DATA when it is not given."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="NIGHTSAFE_DATA",
        metavar="DIR",
        help="The data folder (or NIGHTSAFE_DATA).",
    )(command)


def json_option(command: F) -> F:
    """`--json`: print the result as one JSON document."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


class Size(click.ParamType[int]):
    """A number of bytes: 1048576, 10GiB, 500 MB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Raises click.BadParameter unless `value` is a positive size."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        digits = text.rstrip("abBkKmMgGtTiI ").strip()
        unit = text[len(digits) :].strip().upper()
        try:
            size = int(float(digits) * SIZE_UNITS[unit])
        except (ValueError, KeyError, OverflowError):
            self.fail(f"'{value}' is not a size; write it as in 10GiB", param, ctx)
        if size <= 0:
            self.fail("a size must be more than 0", param, ctx)
        return size


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used: `nightsafe status` need not load the SFTP server.

    `lazy` maps a command's name to `module:attribute` and to the line that stands in the overview.
    """

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's shape
        """The names, in the order of the table."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's shape
        """Import the command, or None when there is none of this name."""
        if cmd_name not in self._lazy:
            return None
        module, attribute = self._lazy[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's shape
        """The overview, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._lazy.items()])


def run(command: click.Command, arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code; every error becomes a message, never a traceback (but with NIGHTSAFE_DEBUG=1)."""
    try:
        result = command.main(args=arguments, prog_name="nightsafe", standalone_mode=False)
    except NightsafeError as error:
        complain(error)
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("\nnightsafe: stopped\n")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; what it saw was right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except Exception as error:
        if os.environ.get("NIGHTSAFE_DEBUG"):
            raise
        complain(NightsafeError(f"an unexpected error, a defect of Nightsafe: {type(error).__name__}: {error}", "NIGHTSAFE_DEBUG=1 shows where"))
        return Exit.BAD
    return result if isinstance(result, int) else Exit.DONE
