"""Structured logging of the roles: readable on a terminal, JSON lines elsewhere; secrets never."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

import structlog

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


def _said_by(role: str) -> structlog.typing.Processor:
    """Every line names its role, whichever thread it comes from; context variables would stay behind in the main one."""

    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("role", role)
        return event

    return add


def set_up_logging(role: str, level: str = "info", json_lines: bool = False) -> None:
    """Configure structlog for this process. Events go to standard error, one a line."""
    as_json = json_lines or not sys.stderr.isatty()
    structlog.configure(
        processors=[
            _said_by(role),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            hide_secrets,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False) if as_json else structlog.dev.ConsoleRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s %(levelname)s %(message)s", force=True)
