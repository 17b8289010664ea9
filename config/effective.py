"""The settings as they hold: flat, by dotted name, and fit to be shown: what may be a secret is hidden."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from config.hiding import HIDDEN
from config.loading import line_of, overlays
from config.settings import Settings

COMMANDS = frozenset({"keys.master_command", "scan.command"})  # arguments of a program may hold a password
ADDRESSES = "pings.urls."  # whoever knows such an address can say that all is well
_PASSWORD_IN_URL = re.compile(r"//[^/@\s]+@")


@dataclass(frozen=True)
class Value:
    """One setting. `shown` is a JSON value without secrets; `mark` differs whenever the real value does."""

    shown: Any
    mark: str


def flat(settings: Settings) -> dict[str, Value]:
    """Every setting by its dotted name, as in `gateway.port`. Tables without a fixed form (`copies.NAME`, `retention.days`) give a name for each
    of their keys, and none while they are empty."""
    return {name: Value(_shown(name, value), _mark(value)) for name, value in _flat(settings.model_dump(mode="json", by_alias=True), "")}


def changes(before: Mapping[str, Value], after: Mapping[str, Value]) -> dict[str, list[Any]]:
    """[old, new] by name of what differs; None where there was, or is, nothing."""
    names = [name for name in {**before, **after} if _mark_of(before, name) != _mark_of(after, name)]
    return {name: [_shown_of(before, name), _shown_of(after, name)] for name in sorted(names)}


def origins(settings: Settings, text: str, name: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Where each of the names of `flat` comes from: `NAME:LINE` of the settings file with this `text`, `environment VARIABLE`, or `default`."""
    from_file = {one for one, _ in _flat(tomllib.loads(text), "")}
    variables = {".".join(keys): variable for variable, keys in overlays(environment).items()}
    return {one: _origin(one, text, name, from_file, variables) for one in flat(settings)}


def _origin(one: str, text: str, name: str, from_file: Collection[str], variables: Mapping[str, str]) -> str:
    laid = next((variable for dotted, variable in variables.items() if one == dotted or one.startswith(f"{dotted}.")), None)
    if laid is not None:
        return f"environment {laid}"
    if one not in from_file:
        return "default"
    keys = one.split(".")
    line = next((found for length in range(len(keys), 0, -1) if (found := line_of(text, keys[:length]))), None)
    return f"{name}:{line}" if line else name


def _mark_of(values: Mapping[str, Value], name: str) -> str:
    return values[name].mark if name in values else ""


def _shown_of(values: Mapping[str, Value], name: str) -> Any:
    return values[name].shown if name in values else None


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(name: str, value: Any) -> Any:
    if name in COMMANDS and len(value) > 1:
        return [value[0], HIDDEN]
    if name.startswith(ADDRESSES):
        return "/".join([*value.split("/")[:3], HIDDEN])
    return _without_passwords(value)


def _without_passwords(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_passwords(one) for one in value]
    if isinstance(value, Mapping):
        return {name: _without_passwords(one) for name, one in value.items()}
    return _PASSWORD_IN_URL.sub(f"//{HIDDEN}@", value) if isinstance(value, str) else value


def _mark(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
