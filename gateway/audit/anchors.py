"""Anchors: hashes of our log that somebody else holds, found in whatever they were kept in. Pure, but for `collect`.

A receipt, a day's summary, an evidence, a certificate or an export names one as `audit_head`; a notice as `audit head: …`; a snapshot has it in
the tag `audit:…`. A file may also hold nothing but hashes, one a line.
"""

from __future__ import annotations

import email
import email.policy
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from config.errors import UsageError
from gateway.audit.lines import NO_LINE

MAX_BYTES = 4 * 1024 * 1024  # of a file that is searched
MOST = 1_000_000  # anchors at once
_NAMED = re.compile(rb"""audit[ _]head\\?["']?\s*[:=]\s*\\?["']?([0-9a-f]{64})\b|\baudit:([0-9a-f]{64})\b""")
_ALONE = re.compile(rb"^[ \t]*([0-9a-f]{64})[ \t]*\r?$", re.MULTILINE)
_ENCODED = re.compile(rb"^content-transfer-encoding:\s*(base64|quoted-printable)", re.IGNORECASE | re.MULTILINE)


def anchors_in(data: bytes) -> set[str]:
    """The hashes that a file names as heads of the log; mails are decoded first."""
    texts = [data, *(_decoded(data) if _ENCODED.search(data) else ())]
    found = {(match[1] or match[2]).decode() for text in texts for match in _NAMED.finditer(text)}
    found |= {match[1].decode() for text in texts for match in _ALONE.finditer(text)}
    return found - {NO_LINE}


def collect(files: Iterable[Path], folders: Iterable[Path]) -> dict[str, str]:
    """hash → the file that it was found in. Each of `files` must name one; in the `folders`, whatever names none is passed over.

    Raises UsageError for a file without an anchor or that cannot be read, for folders without any, and for too many.
    """
    found: dict[str, str] = {}
    for path in files:
        heads = anchors_in(_read(path))
        if not heads:
            raise UsageError(f"{path} names no head of the audit log", "give a receipt, an evidence, a notice, or a file of hashes, one a line")
        found.update(dict.fromkeys(heads, str(path)))
    for folder in folders:
        before = len(found)
        for path in _below(folder):
            found.update((head, str(path)) for head in anchors_in(_read(path)))
            if len(found) > MOST:
                raise UsageError(f"more than {MOST} anchors were found", "give fewer: the newest of each month are enough")
        if len(found) == before:
            raise UsageError(f"no file below {folder} names a head of the audit log", "give a folder with receipts, evidence or notices")
    return found


def _decoded(data: bytes) -> Iterator[bytes]:
    for part in email.message_from_bytes(data, policy=email.policy.compat32).walk():
        content = None if part.is_multipart() else part.get_payload(decode=True)
        if isinstance(content, bytes):
            yield content


def _below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UsageError(f"{folder} cannot be read: {error.strerror}", "name a folder that this user may read") from error

    for home, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            path = Path(home, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            return file.read(MAX_BYTES)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "name a file that this user may read") from error
