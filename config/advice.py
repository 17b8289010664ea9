"""How advice is worded: a command to be copied as it stands, a line for the settings, or a page.

What is a command begins with the program's name, at the start or behind `: ` or `then: `, and ends at a semicolon or the end.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable

from config.folder import DataFolder
from config.roles import has_users

MOST_WORDS = 20  # paths that one line names


def command(*words: str, paths: Iterable[object] = (), instead: tuple[str, ...] = ()) -> str:
    """A shell line: `words`, then the paths; where they are too many for a line, `instead` is said of all at once."""
    named = [str(path) for path in paths]
    return shlex.join(instead if instead and len(named) > MOST_WORDS else [*words, *named[:MOST_WORDS]])


def setting(section: str, key: str, value: object) -> str:
    """What is to stand in the settings file. `value` is a text or a list of texts, which JSON writes as TOML does."""
    return f"in nightsafe.toml, [{section}]: {key} = {json.dumps(value, ensure_ascii=False)}"


def log_of(folder: DataFolder, role: str) -> str:
    """Where a role's log lines are read."""
    return f"journalctl -u nightsafe-{role} (or docker compose logs {role})" if has_users(folder) else "where nightsafe up runs"


def restart(folder: DataFolder, role: str) -> str:
    """What makes a role begin anew, with the settings as they are now."""
    if has_users(folder):
        return f"systemctl restart nightsafe-{role} (or docker compose restart {role})"
    return "stop nightsafe up with Ctrl-C, and start it again: nightsafe up"
