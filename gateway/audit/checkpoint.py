"""Signed checkpoints: what all segments were at one moment, in a chain of their own.

`audit/checkpoints.jsonl`, one canonical JSON object a line:

    {"checkpoint":1,"heads":{SEGMENT:[lines,head],…},"prev":…,"seq":…,"signature":"-----BEGIN SSH SIGNATURE-----…","time":…}

`heads` names the segments that have grown since the checkpoint before; a segment that it does not name stands as signed earlier. `prev` is
the hash of the whole line before it; the signature (namespace checkpoint@nightsafe) is over the canonical object without `signature`.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from config.errors import NightsafeError
from config.files import fsync_folder, open_shared, write_all
from gateway.audit.chain import Mark, check_segment
from gateway.audit.events import Event
from gateway.audit.lines import NO_LINE, canonical, line_hash, stamp
from gateway.audit.log import AuditLog, AuditUnavailable
from gateway.audit.segments import CHECKPOINTS, role_of, segment_ids, segment_path
from gateway.audit.signatures import CHECKPOINT, SigningKey, sign, verify

FORMAT = 1
_HEADS_A_LINE = 1000
_MAX_LINE_BYTES = 1024 * 1024


class CheckpointsDamaged(NightsafeError):
    """The chain of checkpoints does not hold, so nothing can be signed onto it."""


@dataclass
class Checkpoints:
    """The chain as read: what it says of each segment, the hash of its last line, and whatever is wrong with it."""

    marks: dict[str, Mark] = field(default_factory=dict)
    hashes: set[str] = field(default_factory=set)
    head: str = NO_LINE
    lines: int = 0
    size: int = 0  # bytes of whole lines
    torn: bool = False
    problems: list[str] = field(default_factory=list)


def sign_checkpoint(
    folder: Path,
    signer: SigningKey,
    log: AuditLog | None = None,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> str:
    """Sign the heads of all segments of `folder` and return the hash of the newest checkpoint, to be anchored elsewhere (a snapshot's tag).

    Durable before it returns. A segment that no longer holds what was signed of it is left as signed: `verify` tells of it. With `log` the
    checkpoint is also an event there, so that checkpoints cannot be cut off unnoticed. Raises CheckpointsDamaged, AuditUnavailable.
    """
    try:
        with _locked(folder) as descriptor:
            chain = read_checkpoints(folder, [signer.public])
            if chain.problems:
                raise CheckpointsDamaged(
                    f"the audit log's checkpoints are damaged: {chain.problems[0]}", "see all of it with: nightsafe audit verify"
                )
            if chain.torn:
                os.ftruncate(descriptor, chain.size)  # its hash was never given to anybody
            grown = _grown(folder, chain.marks)
            _bring_to_disk(folder, grown)
            try:
                for heads in _batches(grown) if grown else [{}]:
                    _append(descriptor, chain, heads, signer, clock())
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, chain.size)  # a later fsync would say nothing of these: they are made again
                raise
        fsync_folder(folder)
    except OSError as error:
        raise AuditUnavailable(f"a checkpoint of the audit log cannot be written: {error.strerror}", "free space, or mend permissions") from error
    if log is not None:
        log.append(Event.CHECKPOINT_SIGNED, durable=True, checkpoint=chain.head, segments=len(grown))
    return chain.head


def read_checkpoints(folder: Path, allowed: Iterable[str], until: str = "") -> Checkpoints:
    """Read and check the chain, or its beginning up to the checkpoint whose hash is `until`; marks come only from lines signed by one of `allowed`
    (public keys, one line each)."""
    keys = list(allowed)
    found = Checkpoints()
    try:
        with (folder / CHECKPOINTS).open("rb") as file:
            while line := file.readline(_MAX_LINE_BYTES + 2):
                if not line.endswith(b"\n"):
                    _take_rest(found, line)
                    break
                _take(found, line[:-1], keys)
                if found.head == until:
                    break
    except FileNotFoundError:
        pass
    except OSError as error:
        found.problems.append(f"checkpoints: cannot be read: {error.strerror}")
    return found


def _take_rest(found: Checkpoints, line: bytes) -> None:
    """What has no newline: a checkpoint that a crash cut, or too much to be one; only the former may be taken away later."""
    if len(line) > _MAX_LINE_BYTES:
        found.problems.append(f"checkpoints: line {found.lines + 1} is longer than any checkpoint; nothing after it was read")
    else:
        found.torn = True


def _take(found: Checkpoints, line: bytes, keys: list[str]) -> None:
    number = found.lines + 1
    record = _decode(line)
    if record is None or record.get("checkpoint") != FORMAT:
        found.problems.append(f"checkpoints: line {number} is no checkpoint")
    else:
        if record.get("seq") != found.lines or record.get("prev") != found.head:
            found.problems.append(f"checkpoints: line {number} does not follow from the line before it: checkpoints were edited, removed or moved")
        if _is_signed(record, keys):
            _merge(found, record, number)
        else:
            found.problems.append(f"checkpoints: line {number} is not signed by a key for checkpoints")
    found.head = line_hash(line)
    found.hashes.add(found.head)
    found.lines = number
    found.size += len(line) + 1


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
        return value if isinstance(value, dict) and canonical(value) == line else None
    except (ValueError, RecursionError):
        return None


def _is_signed(record: Mapping[str, Any], keys: list[str]) -> bool:
    signature = record.get("signature")
    content = canonical({name: value for name, value in record.items() if name != "signature"})
    return isinstance(signature, str) and any(verify(key, CHECKPOINT, content, signature) for key in keys)


def _merge(found: Checkpoints, record: Mapping[str, Any], number: int) -> None:
    heads = record.get("heads")
    for segment, mark in heads.items() if isinstance(heads, dict) else ():
        match mark:
            case [int(lines), str(head)] if role_of(segment):
                found.marks[segment] = Mark(lines, head)
            case _:
                found.problems.append(f"checkpoints: line {number} holds what is no head of a segment")


def _grown(folder: Path, marks: Mapping[str, Mark]) -> dict[str, Mark]:
    """The heads of the segments that hold what was signed of them, and more."""
    grown = {}
    for segment in segment_ids(folder):
        mark = marks.get(segment)
        state = check_segment(folder, segment, mark)
        if not state.problems and state.lines > (mark.lines if mark else 0):
            grown[segment] = Mark(state.lines, state.head)
    return grown


def _bring_to_disk(folder: Path, segments: Iterable[str]) -> None:
    """What is signed must be there after a power cut, too: roles write many a line without waiting for the disk. Raises OSError."""
    for segment in segments:
        descriptor = os.open(segment_path(folder, segment), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _batches(grown: Mapping[str, Mark]) -> Iterator[dict[str, Mark]]:
    items = iter(grown.items())
    while batch := dict(islice(items, _HEADS_A_LINE)):
        yield batch


def _append(descriptor: int, chain: Checkpoints, heads: Mapping[str, Mark], signer: SigningKey, moment: datetime) -> None:
    content: dict[str, Any] = {
        "checkpoint": FORMAT,
        "heads": {segment: [mark.lines, mark.head] for segment, mark in heads.items()},
        "prev": chain.head,
        "seq": chain.lines,
        "time": stamp(moment),
    }
    line = canonical({**content, "signature": sign(signer, CHECKPOINT, canonical(content))})
    write_all(descriptor, line + b"\n")
    chain.head = line_hash(line)
    chain.lines += 1


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """The file of checkpoints, for appending, by one process at a time."""
    descriptor = open_shared(folder / CHECKPOINTS, os.O_APPEND)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
