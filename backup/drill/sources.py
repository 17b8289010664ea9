"""Reads the witnesses: rows of a catalog, and receipts out of the restored jails. What they say is checked for form, not believed."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from backup.drill.judge import Cause, Finding, Receipt, Record
from gateway.audit.signatures import RECEIPT, verify
from gateway.catalog.names import NAME

HEX64 = re.compile(r"[0-9a-f]{64}", re.ASCII)
PAPER = re.compile(r"[0-9a-f]{32}", re.ASCII)
MAX_RECEIPT_BYTES = 64 * 1024
MAX_SIGNATURE_BYTES = 8 * 1024
BIGGEST = 2**63 - 1
SUFFIX = ".json"
Report = Callable[[Finding], None]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a catalog as it lies there: SQLite holds any type in any column."""

    id: Any
    client: Any
    path: Any
    version: Any
    size: Any
    sha256: Any
    sealed_size: Any
    sealed_sha256: Any
    header_mac: Any
    generation: Any
    received_at: Any
    sealed_at: Any
    receipted: bool


def records(papers: Iterable[Row], which: str, report: Report) -> Iterator[tuple[str, Record]]:
    """What a catalog says of its accepted papers; a row that cannot be a paper's is reported and left out. `which` names the catalog.

    Raises ValueError when ids do not ascend, which an index in order cannot do.
    """
    last = ""
    for paper in papers:
        if not isinstance(paper.id, str) or paper.id <= last:
            raise ValueError("its rows are out of order")
        last = paper.id
        fault = _row_fault(paper)
        if fault:
            report(Finding(_shown(paper.id), _shown(paper.client), _shown(paper.path), 0, Cause.ROW_BAD, f"{which}: {fault}"))
            continue
        yield paper.id, _record(paper)


def _record(paper: Row) -> Record:
    """The part of a row that a drill compares."""
    return Record(
        client=paper.client,
        path=paper.path,
        version=paper.version,
        size=paper.size,
        sha256=paper.sha256,
        sealed_size=paper.sealed_size,
        sealed_sha256=paper.sealed_sha256,
        header_mac=paper.header_mac,
        generation=paper.generation,
        received_at=paper.received_at,
        sealed_at=paper.sealed_at,
        receipted=paper.receipted,
    )


def receipts(jails: Path, signer: str | None) -> Iterator[tuple[str, Receipt]]:
    """Every receipt below `jails`/CLIENT/receipts, by paper id. `signer` is the public key (OpenSSH line) that must have signed them.

    A receipt that cannot even be tied to a paper is left out; its paper then has none.
    """
    for client in _entries(jails):
        if client.is_dir(follow_symlinks=False) and NAME.fullmatch(client.name):
            for day in _entries(Path(client.path) / "receipts"):
                if day.is_dir(follow_symlinks=False):
                    yield from _day(Path(day.path), client.name, signer)


def _day(folder: Path, client: str, signer: str | None) -> Iterator[tuple[str, Receipt]]:
    for entry in _entries(folder):
        if not entry.name.endswith(SUFFIX):
            continue
        body = _read(Path(entry.path), MAX_RECEIPT_BYTES)
        facts = _parse(body)
        paper = facts.get("paper")
        if not isinstance(paper, str) or not PAPER.fullmatch(paper):
            continue
        yield paper, _receipt(facts, client, body, _read(Path(entry.path + ".sig"), MAX_SIGNATURE_BYTES), signer)


def _receipt(facts: dict[str, Any], client: str, body: bytes, signature: bytes, signer: str | None) -> Receipt:
    texts = [facts.get(name) for name in ("client", "path", "sha256", "verdict")]
    numbers = [facts.get(name) for name in ("version", "size")]
    if not all(isinstance(text, str) and _is_utf8(text) for text in texts) or not all(_is_count(number) for number in numbers):
        return _unbelievable("it is not in the form of a receipt")
    if facts["client"] != client:
        return _unbelievable("it lies in another client's jail")
    if signer is not None and not _signed(signer, body, signature):
        return _unbelievable("its signature is wrong or missing")
    return Receipt(facts["client"], facts["path"], facts["version"], facts["size"], facts["sha256"], facts["verdict"])


def _unbelievable(fault: str) -> Receipt:
    return Receipt("", "", 0, 0, "", "", fault)


def _signed(signer: str, body: bytes, signature: bytes) -> bool:
    try:
        return verify(signer, RECEIPT, body, signature.decode("ascii"))
    except ValueError:
        return False


def _parse(body: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _read(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes, else nothing: links are not followed, devices not opened for good."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
            return b""
        return file.read(limit)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder; none when it is not there."""
    try:
        with os.scandir(folder) as found:
            yield from found
    except (FileNotFoundError, NotADirectoryError):
        return


def _row_fault(paper: Row) -> str:
    """What makes this row impossible for a paper; '' when nothing does."""
    if not PAPER.fullmatch(paper.id):
        return "the id is none"
    if not isinstance(paper.client, str) or not NAME.fullmatch(paper.client):
        return "the client's name is none"
    if not isinstance(paper.path, str) or not paper.path.startswith("/") or not _is_utf8(paper.path):
        return "the path is none"
    if not all(_is_count(number) for number in (paper.version, paper.size, paper.sealed_size, paper.generation)):
        return "a number is none"
    if not all(isinstance(text, str) and HEX64.fullmatch(text) for text in (paper.sha256, paper.sealed_sha256, paper.header_mac)):
        return "a hash is none"
    if not isinstance(paper.sealed_at, datetime) or not isinstance(paper.received_at, datetime):
        return "a time is none"
    return ""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= BIGGEST


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    return str(value)[:200].encode(errors="replace").decode()
