"""What all commands share: `--data`, `--json`, and the way from an exception to a message and an exit code."""

from __future__ import annotations

import errno
import gc
import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click
from click.shell_completion import CompletionItem

from config.console import complain, end_output
from config.errors import Exit, NightsafeError, OutOfReach, UsageError
from config.files import UMASK

F = TypeVar("F", bound=Callable[..., Any])


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


class Moment(click.ParamType[datetime]):
    """A time as people write it: 2026-01-31, 2026-01-31T08:00, 2026-01-31T08:00Z. Without a zone it is this machine's."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """An aware datetime. Raises click.BadParameter."""
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"'{value}' is not a time; write it as in 2026-01-31 or 2026-01-31T08:00Z", param, ctx)
        return found if found.tzinfo else found.astimezone()


NO_LIMIT = -1


class Size(click.ParamType[int]):
    """Bytes as people write them: 500MB, 10GiB, 1048576; 'none' becomes NO_LIMIT."""

    name = "size"
    _UNITS: ClassVar[dict[str, int]] = {
        "": 1,
        "b": 1,
        **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
        **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
    }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Whole bytes. Raises click.BadParameter."""
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        if text == "none":
            return NO_LIMIT
        found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([a-z]*)", text, re.ASCII)
        if found is None or found[2] not in self._UNITS:
            self.fail(f"'{value}' is no size; write it as in 500MB or 10GiB", param, ctx)
        size = int(float(found[1]) * self._UNITS[found[2]])
        if size >= 2**62:
            self.fail(f"'{value}' is more than can be counted", param, ctx)
        return size


LONGEST_SENTENCE = 300  # characters


@contextmanager
def loading() -> Iterator[None]:
    """Around imports: a program that starts makes nothing but what lasts, and the collector would look for garbage among it, again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Group(click.Group):
    """A group whose overview says of each command its whole first sentence: click would cut it off where the line ends."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The names and sentences; long ones go on in the next line."""
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(LONGEST_SENTENCE)) for name, command in found if command is not None])


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used: `nightsafe status` need not load the SFTP server.

    `lazy` maps a command's name to `module:attribute` and to the line that stands in the overview. `grafts` maps the name of a group among them
    to commands (name → `module:attribute`) that belong to it and live elsewhere: one wing does not import the other.
    """

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], grafts: dict[str, dict[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy
        self._grafts = grafts or {}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's shape
        """The names, in the order of the table."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's shape
        """Import the command, or None when there is none of this name."""
        if cmd_name not in self._lazy:
            return None
        with loading():
            command = _imported(self._lazy[cmd_name][0])
            if isinstance(command, click.Group):
                for name, place in self._grafts.get(cmd_name, {}).items():
                    command.add_command(_imported(place), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names that begin so, without importing anything."""
        names = [CompletionItem(name, help=line) for name, (_, line) in self._lazy.items() if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's shape
        """The overview, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._lazy.items()])


def _imported(place: str) -> click.Command:
    module, attribute = place.split(":")
    command: click.Command = getattr(import_module(module), attribute)
    return command


def run(command: click.Command, arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code; every error becomes a message, never a traceback (but with NIGHTSAFE_DEBUG=1)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # commands hold keys too: no core dumps, here or in what they start
    os.umask(UMASK)
    code = _outcome(command, arguments)
    unwritten = end_output()
    if unwritten is None or isinstance(unwritten, BrokenPipeError) or code != Exit.DONE:
        return code
    refused = _refused_by_the_system(unwritten)
    complain(refused)
    return refused.exit_code


def _outcome(command: click.Command, arguments: list[str] | None) -> int:
    try:
        result = command.main(args=arguments, prog_name="nightsafe", standalone_mode=False)
    except NightsafeError as error:
        complain(error)
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        complain(UsageError(error.format_message(), f"see: {context.command_path if context else 'nightsafe'} --help"))
        return Exit.USAGE
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("\nnightsafe: stopped\n")
        return 130
    except BrokenPipeError:
        return Exit.DONE  # the reader of our output has gone; what it saw was right
    except OSError as error:
        if os.environ.get("NIGHTSAFE_DEBUG"):
            raise
        refused = _refused_by_the_system(error)
        complain(refused)
        return refused.exit_code
    except Exception as error:
        if os.environ.get("NIGHTSAFE_DEBUG"):
            raise
        if isinstance(error, UnicodeEncodeError) and not all(map(_is_utf8, sys.argv[1:] if arguments is None else arguments)):
            complain(UsageError("a name that was typed is not UTF-8, as all names here are", "look at the locale of the terminal: locale charmap"))
            return Exit.USAGE
        complain(NightsafeError(f"an unexpected error, a defect of Nightsafe: {type(error).__name__}: {error}", "NIGHTSAFE_DEBUG=1 shows where"))
        return Exit.BAD
    return result if isinstance(result, int) else Exit.DONE


def _is_utf8(word: str) -> bool:
    """What was typed in other bytes reaches us as halves of surrogate pairs. In the name of a folder or a file they may be right."""
    return not re.search("[\ud800-\udfff]", word)


def _refused_by_the_system(error: OSError) -> NightsafeError:
    """What no other module turned into words: the operating system said no."""
    where = f" {error.filename!r}" if error.filename is not None else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfReach(f"a disk is full:{where or ' one that was written to'}", "free some space, then try again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UsageError(f"this user may not do that:{where} ({error.strerror})", "run as the user that owns the data folder")
    return NightsafeError(f"the system refused:{where} {error.strerror or type(error).__name__}", "NIGHTSAFE_DEBUG=1 shows where")
