"""What looks like a secret is shown nowhere: not in the log, not in the audit log, not among the settings."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

SECRET_KEY = re.compile(r"pass(word|phrase)|secret|identity|token|private|(^|_)key$", re.IGNORECASE)
SECRET_VALUE = re.compile(r"AGE-SECRET-KEY-1[A-Z0-9]+|-----BEGIN [A-Z ]*PRIVATE KEY-----")
HIDDEN = "(hidden)"


def hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A last net: values under telling names, and values that look like private keys, are replaced."""
    for name, value in event.items():
        if is_telling(name):
            event[name] = HIDDEN
        elif isinstance(value, str) and may_hold_secret(value):
            event[name] = SECRET_VALUE.sub(HIDDEN, value)
    return event


def may_hold_secret(text: str | bytes) -> bool:
    """Whether `text` is worth a search for SECRET_VALUE: much cheaper than the search."""
    if isinstance(text, str):
        return "AGE-SECRET-KEY-1" in text or "PRIVATE KEY-----" in text
    return b"AGE-SECRET-KEY-1" in text or b"PRIVATE KEY-----" in text


@lru_cache(maxsize=1024)
def is_telling(name: str) -> bool:
    """Whether what is called so may be a secret."""
    return SECRET_KEY.search(name) is not None
