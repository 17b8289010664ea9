"""One line of the audit log: canonical JSON, bounded, and its hash. Pure.

Canonical: keys sorted, no spaces, ASCII only (so a client's name can neither break a line nor steer a terminal), no NaN. The hash of a line
is the SHA-256 of its bytes without the newline, in hex.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any

from config.hiding import HIDDEN, SECRET_VALUE, hide_secrets, is_telling, may_hold_secret

MAX_LINE_BYTES = 16 * 1024
NO_LINE = "0" * 64  # `prev` of a first line
OWN_FIELDS = frozenset({"seq", "time", "role", "event", "prev"})
_CUTS = (4096, 1024, 256, 64, 16)  # characters a text may have: each is tried until the line fits
_MAX_NESTING = 6
_SIMPLE = frozenset({int, bool, type(None)})
_NAME = 64  # characters of a field's name
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical(value: Mapping[str, Any]) -> bytes:
    """The one encoding of `value` (JSON values only)."""
    return _ENCODER.encode(value).encode("ascii")


def line_hash(line: bytes) -> str:
    """The hash of a line, given without its newline."""
    return hashlib.sha256(line).hexdigest()


def encode_line(own: Mapping[str, Any], fields: Mapping[str, Any]) -> bytes:
    """A line of at most 16 KiB, without newline; long texts and lists are cut with a mark, and what looks like a secret is hidden."""
    if _are_plain(tuple(fields)) and _hold_plain(fields.values()):  # nearly every line: nothing is to be cut or hidden
        line = canonical({**fields, **own})
        if len(line) <= MAX_LINE_BYTES and not may_hold_secret(line):
            return line
    return _encode_with_care(own, fields)


@lru_cache(maxsize=1024)
def _are_plain(names: tuple[str, ...]) -> bool:
    """Whether fields of these names need no care: those of one event are the same each time."""
    return all(len(name) <= _NAME and not is_telling(name) for name in names)


def _hold_plain(values: Iterable[Any]) -> bool:
    """Whether the fields' values stand in a line as they are, unless the line holds a secret or becomes too long."""
    for value in values:
        kind = type(value)
        if kind is str:
            if len(value) > _CUTS[0]:
                return False
        elif kind not in _SIMPLE and not (kind is float and math.isfinite(value)):
            return False
    return True


def _encode_with_care(own: Mapping[str, Any], fields: Mapping[str, Any]) -> bytes:
    shown = hide_secrets(None, "", dict(fields))
    for limit in _CUTS:
        line = canonical({**_cut(shown, limit, 0), **own})
        if len(line) <= MAX_LINE_BYTES:
            break
    else:
        line = canonical({"cut": "all fields", **own})
    return SECRET_VALUE.sub(HIDDEN, line.decode("ascii")).encode("ascii") if may_hold_secret(line) else line


def decode_line(line: bytes) -> dict[str, Any] | None:
    """The object that `line` holds; None when it is no canonical line."""
    if len(line) > MAX_LINE_BYTES:
        return None
    try:
        value = json.loads(line)
        if isinstance(value, dict) and canonical(value) == line:
            return value
    except (ValueError, RecursionError):
        pass
    return None


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds and `Z`."""
    here = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return here.isoformat(timespec="microseconds")[:-6] + "Z"


def _cut(value: Any, limit: int, depth: int) -> Any:
    """`value` as JSON, with nothing longer than `limit`."""
    if type(value) is str:  # nearly all are: no need to ask for the rest
        return value if len(value) <= limit else f"{value[:limit]}[cut: {len(value) - limit} more]"
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset) and depth >= _MAX_NESTING:
        return "[cut: nested too deep]"
    if isinstance(value, Mapping):
        return {_cut(str(name), _NAME, depth): _cut(item, limit, depth + 1) for name, item in islice(value.items(), limit)}
    if isinstance(value, list | tuple | set | frozenset):
        items = [_cut(item, limit, depth + 1) for item in list(value)[:limit]]
        return items if len(value) <= limit else [*items, f"[cut: {len(value) - limit} more]"]
    return _cut(str(value), limit, depth)
