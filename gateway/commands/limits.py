"""The options with which a client's limits are set, for every command that sets them; and the words in which they are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from config.cli import NO_LIMIT, Size
from config.console import human_bytes
from gateway.catalog.limits import COLUMNS, PROFILES, Limits

F = TypeVar("F", bound=Callable[..., Any])


class Count(click.ParamType[int]):
    """A number; 'none' becomes NO_LIMIT."""

    name = "count"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Raises click.BadParameter."""
        if isinstance(value, int):
            return value
        if value == "none":
            return NO_LIMIT
        if not str(value).isascii() or not str(value).isdigit() or len(str(value)) > 9 or int(value) < self._least:
            self.fail(f"'{value}' is not a number from {self._least} up, or none", param, ctx)
        return int(value)


_OPTIONS = (
    click.option(
        "--quota",
        "limit_bytes",
        type=Size(),
        metavar="SIZE",
        help="Bytes that the client's papers may have, as in 10GiB; 'none' lifts it.",
    ),
    click.option("--quota-files", "limit_names", type=Count(0), metavar="N", help="Papers and folders that the client may have."),
    click.option(
        "--quota-stored",
        "limit_stored_bytes",
        type=Size(),
        metavar="SIZE",
        help="Bytes that may be stored for the client, older versions and what is held back included.",
    ),
    click.option(
        "--profile",
        "limit_profile",
        type=click.Choice(PROFILES),
        help="What the client may do: drop (upload only), exchange (the default), read-only.",
    ),
    click.option("--upload-speed", "limit_upload", type=Size(), metavar="SIZE", help="Bytes a second that the client may upload in all."),
    click.option("--download-speed", "limit_download", type=Size(), metavar="SIZE", help="The same for downloads."),
    click.option("--max-sessions", "limit_sessions", type=Count(1), metavar="N", help="SFTP sessions at once, of all the client's people."),
    click.option("--max-handles", "limit_handles", type=Count(1), metavar="N", help="Open files and folders at once, in all sessions."),
)


def limit_options(command: F) -> F:
    """The options of limits; the command gets them as keyword arguments `limit_*`, for `limit_changes`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def limit_changes(options: dict[str, Any]) -> dict[str, Any]:
    """What was asked for, as `Catalog.edit_client` takes it: options that were not given are left out, `none` is None."""
    return {COLUMNS[name.removeprefix("limit_")]: None if value == NO_LIMIT else value for name, value in options.items() if value is not None}


def limit_facts(limits: Limits) -> dict[str, Any]:
    """Limits as JSON values."""
    return {
        "quota_bytes": limits.bytes,
        "quota_files": limits.names,
        "quota_stored_bytes": limits.stored_bytes,
        "profile": limits.profile,
        "upload_bytes_per_second": limits.upload,
        "download_bytes_per_second": limits.download,
        "max_sessions": limits.sessions,
        "max_handles": limits.handles,
    }


def of_limit(amount: int, limit: int | None, show: Callable[[int], str] = human_bytes) -> str:
    """'1.5 GiB of 10.0 GiB (15 %)', or the amount alone."""
    if limit is None:
        return show(amount)
    share = f" ({100 * amount / limit:.0f} %)" if limit else ""
    return f"{show(amount)} of {show(limit)}{share}"
