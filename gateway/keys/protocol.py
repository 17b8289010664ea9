"""The messages between keyd and those who ask it: one JSON object a line, UTF-8, at most 1 MiB with its newline. No I/O here.

    {"op": "paper", "client", "paper", "where": "spool"|"vault"|"quarantine", "person", "reason"} → {"file_key": base64}
    {"op": "headers", "client", "headers": [{"paper", "header": base64}, …], "person", "reason"}  → {"file_keys": [base64|null, …]}
    {"op": "code", "person", "code"}                                                              → {"ok": true}
    any                                                                                           → {"error": CODE, "message", "hint", …}

Both sides check everything that they are sent: unknown members, wrong types and sizes are refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from config.errors import NightsafeError
from gateway.catalog.names import NAME
from gateway.keys.errors import KeydUnavailable, KeyGone, KeyLimited, KeyRefused
from gateway.store.ids import is_paper_id

MAX_LINE_BYTES = 1024 * 1024
MAX_HEADERS = 256
MAX_HEADER_BYTES = 64 * 1024
FILE_KEY_BYTES = 16
BATCH_BYTES = 512 * 1024  # of headers in one request: base64 and the rest of the line stay below MAX_LINE_BYTES
OPS_PREFIX = "ops:"

Where = Literal["spool", "vault", "quarantine"]
OPS_PERSON = re.compile(r"ops:[A-Za-z0-9._@-]{1,64}", re.ASCII)
MAX_REASON = 200
MAX_CODE = 64


class BadMessage(NightsafeError):
    """A message that breaks the rules above; the text may be shown to whoever sent it."""


@dataclass(frozen=True)
class PaperRequest:
    """One paper's key, for a person and a reason. keyd reads the header from the disk itself."""

    client: str
    paper: str
    where: Where
    person: str
    reason: str


@dataclass(frozen=True)
class HeadersRequest:
    """The keys of headers that the asker holds: restored papers. `headers` are (paper id, raw age header)."""

    client: str
    headers: tuple[tuple[str, bytes], ...]
    person: str
    reason: str


@dataclass(frozen=True)
class CodeRequest:
    """Is this the code of the person's second factor?"""

    person: str
    code: str = field(repr=False)


Request = PaperRequest | HeadersRequest
Question = Request | CodeRequest


def operation_of(request: Question) -> str:
    """The `op` of its line."""
    return {PaperRequest: "paper", HeadersRequest: "headers", CodeRequest: "code"}[type(request)]


def encode_request(request: Question) -> bytes:
    """The request as a line with its newline."""
    if isinstance(request, CodeRequest):
        return _line({"op": "code", "person": request.person, "code": request.code})
    common = {"client": request.client, "person": request.person, "reason": request.reason}
    if isinstance(request, PaperRequest):
        return _line({"op": "paper", "paper": request.paper, "where": request.where, **common})
    headers = [{"paper": paper, "header": base64.b64encode(header).decode()} for paper, header in request.headers]
    return _line({"op": "headers", "headers": headers, **common})


def parse_request(line: bytes) -> Question:
    """Raises BadMessage."""
    values = _object(line)
    if values.get("op") == "code":
        _only(values, "op", "person", "code")
        return CodeRequest(person=_person(values), code=_text(values, "code", MAX_CODE))
    common = {"client": _client(values), "person": _person(values), "reason": _reason(values)}
    match values.get("op"):
        case "paper":
            _only(values, "op", "client", "paper", "where", "person", "reason")
            return PaperRequest(paper=_paper(values), where=_where(values), **common)
        case "headers":
            _only(values, "op", "client", "headers", "person", "reason")
            return HeadersRequest(headers=_headers(values), **common)
    raise BadMessage("'op' must be 'paper', 'headers' or 'code'")


def batches(headers: Sequence[tuple[str, bytes]]) -> Iterator[Sequence[tuple[str, bytes]]]:
    """Cut `headers` into runs that fit into one request each. Each header is at most MAX_HEADER_BYTES."""
    start = size = 0
    for position, (_, header) in enumerate(headers):
        if position > start and (position - start >= MAX_HEADERS or size + len(header) > BATCH_BYTES):
            yield headers[start:position]
            start, size = position, 0
        size += len(header)
    if start < len(headers):
        yield headers[start:]


def encode_keys(request: Question, keys: Sequence[bytes | None]) -> bytes:
    """The answer to `request`: one key for a paper, one or None for each header, none for a code that is right."""
    if isinstance(request, CodeRequest):
        return _line({"ok": True})
    coded = [None if key is None else base64.b64encode(key).decode() for key in keys]
    return _line({"file_key": coded[0]} if isinstance(request, PaperRequest) else {"file_keys": coded})


def encode_error(error: NightsafeError) -> bytes:
    """A refusal as a line; only the error's own message and hint go out."""
    values: dict[str, Any] = {"error": _CODES.get(type(error), "failed"), "message": error.message, "hint": error.hint}
    if isinstance(error, KeyLimited):
        values["retry_seconds"] = round(error.retry_seconds, 3)
    return _line(values)


def parse_answer(line: bytes, count: int) -> list[bytes | None]:
    """The keys in an answer to a request for `count` keys. Raises what keyd says (KeyRefused, KeyGone, …), or BadMessage."""
    values = _object(line)
    if "error" in values:
        raise _error(values)
    if count == 0 and values.get("ok") is True:
        return []
    coded = values.get("file_keys", [values.get("file_key")])
    if not isinstance(coded, list) or len(coded) != count:
        raise BadMessage("the answer does not hold the keys that were asked for")
    return [None if one is None else _file_key(one) for one in coded]


_CODES: Mapping[type[NightsafeError], str] = {
    KeyRefused: "refused",
    KeyLimited: "limited",
    KeyGone: "gone",
    KeydUnavailable: "unavailable",
    BadMessage: "bad_message",
}


def _error(values: Mapping[str, Any]) -> NightsafeError:
    message, hint = _text(values, "message", 1000), _text(values, "hint", 1000)
    match values["error"]:
        case "refused":
            return KeyRefused(message, hint)
        case "limited":
            retry = values.get("retry_seconds")
            return KeyLimited(message, hint, retry_seconds=float(retry) if isinstance(retry, int | float) and 0 <= retry <= 3600 else 60.0)
        case "gone":
            return KeyGone(message, hint)
        case "bad_message":
            return BadMessage(message, hint)
    return KeydUnavailable(message, hint)


def _line(values: Mapping[str, Any]) -> bytes:
    line = json.dumps(values, separators=(",", ":")).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise BadMessage("the message is too long")
    return line


def _object(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise BadMessage("not a line of JSON") from None
    if not isinstance(values, dict):
        raise BadMessage("not a JSON object")
    return values


def _only(values: Mapping[str, Any], *known: str) -> None:
    if set(values) - set(known):
        raise BadMessage("members that are not known")


def _text(values: Mapping[str, Any], name: str, longest: int) -> str:
    value = values.get(name)
    if not isinstance(value, str) or len(value) > longest:
        raise BadMessage(f"'{name}' must be a text of at most {longest} characters")
    return value


def _client(values: Mapping[str, Any]) -> str:
    client = _text(values, "client", 32)
    if not NAME.fullmatch(client):
        raise BadMessage("'client' is not a name")
    return client


def _person(values: Mapping[str, Any]) -> str:
    person = _text(values, "person", 80)
    if not NAME.fullmatch(person) and not OPS_PERSON.fullmatch(person):
        raise BadMessage("'person' is neither a name nor 'ops:' with a name")
    return person


def _reason(values: Mapping[str, Any]) -> str:
    reason = _text(values, "reason", MAX_REASON)
    if not reason or not reason.isprintable():
        raise BadMessage("'reason' must be a line of text")
    return reason


def _paper(values: Mapping[str, Any]) -> str:
    paper = _text(values, "paper", 32)
    if not is_paper_id(paper):
        raise BadMessage("'paper' is not a paper's id")
    return paper


def _where(values: Mapping[str, Any]) -> Where:
    for known in get_args(Where):
        if values.get("where") == known:
            return known  # type: ignore[no-any-return]
    raise BadMessage("'where' must be 'spool', 'vault' or 'quarantine'")


def _headers(values: Mapping[str, Any]) -> tuple[tuple[str, bytes], ...]:
    headers = values.get("headers")
    if not isinstance(headers, list) or not 1 <= len(headers) <= MAX_HEADERS:
        raise BadMessage(f"'headers' must be a list of 1 to {MAX_HEADERS}")
    return tuple(_header(entry) for entry in headers)


def _header(entry: object) -> tuple[str, bytes]:
    if not isinstance(entry, dict):
        raise BadMessage("a header must be an object with 'paper' and 'header'")
    _only(entry, "paper", "header")
    header = _base64(entry.get("header"))
    if not 1 <= len(header) <= MAX_HEADER_BYTES:
        raise BadMessage("a header is empty or too long")
    return _paper(entry), header


def _file_key(value: object) -> bytes:
    key = _base64(value)
    if len(key) != FILE_KEY_BYTES:
        raise BadMessage("a file key has the wrong length")
    return key


def _base64(value: object) -> bytes:
    if not isinstance(value, str):
        raise BadMessage("base64 must be a text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise BadMessage("not base64") from None
