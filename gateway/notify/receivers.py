"""Who is told of what: events from the settings, addresses from a file of their own, because they hold passwords."""

from __future__ import annotations

import fnmatch
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.errors import SettingsError
from config.loading import Installation, credential_file
from gateway.audit.events import Event, near

MAX_BYTES = 64 * 1024
MOST = 32  # addresses
CREDENTIAL = "notify.toml"  # the file, where the service manager gives it


@dataclass(frozen=True)
class Receiver:
    """One address that is told. `url` is Apprise's, with its password; `events` are names of events, * stands for any part."""

    name: str
    url: str = field(repr=False)
    events: tuple[str, ...]

    def wants(self, event: str) -> bool:
        """Whether it is to be told of `event`."""
        return any(fnmatch.fnmatchcase(event, pattern) for pattern in self.events)


def receivers(installation: Installation) -> list[Receiver]:
    """All receivers of the settings, by name; of one with several addresses each is told by itself. Raises SettingsError, which quotes no address."""
    settings = installation.settings.notify
    if not settings.events:
        return []
    path = installation.path(settings.receivers_file)
    given = credential_file(CREDENTIAL)
    tables = _read_private(given or path, own=given is None)
    found = []
    for name, patterns in sorted(settings.events.items()):
        urls = _urls(tables, name, path)
        names = [name] if len(urls) == 1 else [f"{name} {number}" for number in range(1, len(urls) + 1)]
        found += [Receiver(one, url, _patterns(name, patterns)) for one, url in zip(names, urls, strict=True)]
    if len(found) > MOST:
        raise SettingsError(f"notify.events and {path.name} name more than {MOST} addresses", "let a mailing list do it")
    return found


def _patterns(name: str, patterns: tuple[str, ...]) -> tuple[str, ...]:
    known = set(Event)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(event, pattern) for event in known):
            raise SettingsError(f"notify.events: '{pattern[:60]}' of '{name}' is no event", near(pattern))
    return patterns


def _urls(tables: Mapping[str, Any], name: str, path: Path) -> tuple[str, ...]:
    table = tables.get(name)
    urls = table.get("urls") if isinstance(table, Mapping) else None
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) and url for url in urls):
        raise SettingsError(f"{path} has no addresses for '{name}'", f'it needs a table [{name}] with urls = ["mailtos://…"]')
    return tuple(urls)


def _read_private(path: Path, *, own: bool) -> Mapping[str, Any]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            state = os.fstat(descriptor)
            data = file.read(MAX_BYTES)
    except OSError as error:
        raise SettingsError(f"the file of receivers {path} cannot be read: {error.strerror or error}", "check notify.receivers_file") from None
    if not stat.S_ISREG(state.st_mode) or (own and state.st_mode & 0o077):
        raise SettingsError(f"the file of receivers {path} can be read by other users", f"close it with: chmod 600 {path}")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):  # their text could quote a password
        raise SettingsError(f"the file of receivers {path} is not valid TOML", 'it needs tables like [ops] with urls = ["mailtos://…"]') from None
