"""Names for the Tab key: what the data folder knows that begins so. Whoever may not read it is offered nothing, and told nothing.

Nothing heavy is imported here, nobody is asked but files on this machine and the gateway that runs on it, and what a shell could take for more
than a name is not offered: clients choose the names of their papers, and an operator's shell is the last place where those may mean something.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from heapq import nlargest
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import quote

import click
from click.shell_completion import CompletionItem

from config.folder import DataFolder

Kind = Literal[
    "address", "certificate", "client", "clients", "copy", "drill", "held", "hold", "incident", "key-id", "month", "moment", "path", "person",
    "quarantined", "receiver", "session", "version",
]  # fmt: skip
MOST = 200  # names that are offered at once
BUSY_SECONDS = 0.2  # somebody waits at a prompt
LARGEST_SETTINGS = 1024 * 1024
LARGEST_ANSWER = 4 * 1024 * 1024
MONTHS = 36
PLAIN = re.compile(r"[\w./@%+,=~-]+")  # nothing here is special to a shell, and a colon would split a word in bash
LAST = "\U0010ffff"
_NO_ANSWER = (OSError, ValueError, TypeError, KeyError)
_QUERIES = MappingProxyType(
    {
        "client": "SELECT name, '' FROM clients ORDER BY name",
        "person": "SELECT name, role FROM people ORDER BY name",
        "drill": "SELECT id, state FROM runs WHERE kind = 'drill' ORDER BY id DESC",
        "hold": "SELECT id, client FROM holds WHERE released_at IS NULL ORDER BY id DESC",
        "held": "SELECT id, client || path FROM papers WHERE state = 'held' ORDER BY id DESC",
        "certificate": "SELECT serial, person FROM certificates ORDER BY serial DESC",
        "key-id": "SELECT DISTINCT key_id, person FROM certificates ORDER BY serial DESC",
        "path": "SELECT DISTINCT path, '' FROM papers WHERE client = ? AND path >= ? AND path < ? ORDER BY path LIMIT 2000",
        "version": "SELECT version, state FROM papers WHERE client = ? AND path = ? ORDER BY version DESC",
        "moment": "SELECT ended_at, 'snapshot ' || substr(snapshot, 1, 8) FROM runs WHERE kind = 'backup' AND snapshot IS NOT NULL ORDER BY id DESC",
        "month": "SELECT min(created_at), '' FROM clients",
    }
)

Found = Iterable[tuple[object, object]]


def named(kind: Kind) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """What completes an argument that names one of this kind, for `shell_complete`. The function's attribute `kind` says which."""

    def complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        offered: list[CompletionItem] = []
        for value, about in _known(ctx, kind, incomplete):
            name = str(value)
            if name.startswith(incomplete) and PLAIN.fullmatch(name):
                offered.append(CompletionItem(name, help=_about(about)))
                if len(offered) == MOST:
                    break
        return offered

    complete.kind = kind  # type: ignore[attr-defined]
    return complete


def _known(ctx: click.Context, kind: Kind, incomplete: str) -> Found:
    root = ctx.params.get("data") or os.environ.get("NIGHTSAFE_DATA")
    if not root:
        return []
    try:
        return list(_FINDERS.get(kind, _in_catalog)(DataFolder(Path(root).absolute()), kind, _given(ctx), incomplete))
    except (OSError, sqlite3.Error, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


def _given(ctx: click.Context) -> Mapping[str, Any]:
    """What stands on the line already. Where an option waits for its value, click has not looked at the arguments yet: they are `ctx.args`."""
    return {**dict(zip(("client", "path"), ctx.args, strict=False)), **{name: value for name, value in ctx.params.items() if value is not None}}


def _in_catalog(folder: DataFolder, kind: str, params: Mapping[str, Any], incomplete: str) -> Found:
    asked: tuple[object, ...] = ()
    if kind == "path":
        asked = (params.get("client"), incomplete, incomplete + LAST)
    if kind == "version":
        asked = (params.get("client"), "/" + str(params.get("path")).strip("/"))
    return _rows(folder.catalog, _QUERIES[kind], asked)


def _rows(database: Path, query: str, asked: tuple[object, ...] = ()) -> list[tuple[Any, Any]]:
    if not os.access(database, os.R_OK):
        return []
    with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as connection:
        return connection.execute(query, asked).fetchmany(2000)


def _clients(folder: DataFolder, _kind: str, _params: Mapping[str, Any], incomplete: str) -> Found:
    """The last of several names with commas between them."""
    before, comma, _ = incomplete.rpartition(",")
    return [(f"{before}{comma}{name}", "") for name, _ in _rows(folder.catalog, _QUERIES["client"]) if name not in before.split(",")]


def _moments(folder: DataFolder, kind: str, _params: Mapping[str, Any], _incomplete: str) -> Found:
    """A second behind the end of each backup, so that the newest one by then is that backup. Without colons, which bash takes for spaces."""
    for ended, about in _rows(folder.catalog, _QUERIES[kind]):
        yield f"{datetime.fromtimestamp(ended // 1_000_000 + 1, UTC):%Y-%m-%dT%H%M%SZ}", about


def _months(folder: DataFolder, kind: str, _params: Mapping[str, Any], _incomplete: str) -> Found:
    """The first days of months since the first client came, the newest first, from the next one on."""
    [(first, _)] = _rows(folder.catalog, _QUERIES[kind])
    month = (datetime.now(UTC).replace(day=1) + timedelta(days=32)).replace(day=1)
    for _ in range(MONTHS):
        yield f"{month:%Y-%m-%d}", ""
        if month.timestamp() * 1_000_000 < first:
            return
        month = (month - timedelta(days=1)).replace(day=1)


def _quarantined(folder: DataFolder, _kind: str, _params: Mapping[str, Any], incomplete: str) -> Iterator[tuple[str, str]]:
    """The newest first: ids begin with the time. Sealed papers lie in folders by the end of their ids, those that could not be sealed above them."""
    for home in sorted(folder.quarantine.iterdir()):
        names = (name for top in os.scandir(home) for name in ([top.name] if top.name.endswith(".damaged") else _entries(top.path)))
        found = (name.partition(".")[0] for name in names if name.startswith(incomplete) and name.endswith((".age", ".damaged")))
        yield from ((paper, home.name) for paper in nlargest(MOST, found))


def _entries(folder: str) -> list[str]:
    with suppress(NotADirectoryError):
        return os.listdir(folder)
    return []


def _sessions(folder: DataFolder, _kind: str, _params: Mapping[str, Any], _incomplete: str) -> Iterator[tuple[str, str]]:
    """Who is logged in, asked of each process of the gateway; one that does not answer at once is passed over (gateway/sftp/workers/control.py)."""
    run = os.open(folder.run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # a socket's address has room for 108 bytes; gone with this process
    for path in sorted(folder.run.glob("gateway-*.sock")):
        with suppress(*_NO_ANSWER), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(BUSY_SECONDS)
            asking.connect(f"/proc/self/fd/{run}/{path.name}")
            asking.sendall(b'{"op": "list"}\n')
            answer = json.loads(asking.makefile("rb").readline(LARGEST_ANSWER))
            yield from ((one["id"], f"{one['person']} from {one['address']}") for one in answer["logins"])


def _incidents(folder: DataFolder, _kind: str, _params: Mapping[str, Any], _incomplete: str) -> Found:
    numbers = sorted((int(path.name) for path in (folder.evidence / "incidents").iterdir() if path.name.isdecimal()), reverse=True)
    return [(number, "") for number in numbers]


def _addresses(folder: DataFolder, _kind: str, _params: Mapping[str, Any], _incomplete: str) -> Found:
    now = time.time()
    return [(address, "") for address, until in _rows(folder.defender, "SELECT address, until FROM bans ORDER BY until DESC") if until > now]


def _in_settings(folder: DataFolder, kind: str, _params: Mapping[str, Any], _incomplete: str) -> Found:
    with folder.settings.open("rb") as file:
        settings = tomllib.loads(file.read(LARGEST_SETTINGS).decode())
    return [(name, "") for name in (settings.get("copies", {}) if kind == "copy" else settings.get("notify", {}).get("events", {}))]


def _about(value: object) -> str | None:
    """One plain line, for shells that show one."""
    return "".join(letter if letter.isprintable() else " " for letter in str(value))[:80] or None


_FINDERS: Mapping[str, Callable[[DataFolder, str, Mapping[str, Any], str], Found]] = MappingProxyType(
    {
        "clients": _clients,
        "moment": _moments,
        "month": _months,
        "quarantined": _quarantined,
        "incident": _incidents,
        "session": _sessions,
        "address": _addresses,
        "copy": _in_settings,
        "receiver": _in_settings,
    }
)
