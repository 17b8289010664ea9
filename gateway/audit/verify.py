"""Is the audit log what was written? Every segment's chain, the chain of checkpoints, and the two against each other.

What no checkpoint, receipt or snapshot has anchored yet can be cut off at its end without a trace; everything before the last anchor cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.words import counted
from gateway.audit.chain import Mark, SegmentState, check_segment
from gateway.audit.checkpoint import read_checkpoints
from gateway.audit.events import Event
from gateway.audit.segments import CHECKPOINTS, segment_ids, strangers


@dataclass(frozen=True)
class AuditReport:
    """What was found. `torn`: segments whose last line was cut by a crash or power cut, which is no sign of tampering."""

    segments: int
    lines: int
    checkpoints: int
    problems: list[str]
    torn: list[str]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(folder: Path, allowed: Iterable[str], anchors: Mapping[str, str] | Iterable[str] = ()) -> AuditReport:
    """Check the log in `folder`. `allowed` are the public keys that may sign checkpoints; `anchors` are hashes that were kept elsewhere
    (a receipt's `audit_head`, a snapshot's tag), with where, if that is known: each must be the hash of a line or of a checkpoint.
    """
    kept = dict(anchors) if isinstance(anchors, Mapping) else dict.fromkeys(anchors, "was kept elsewhere")
    chain = read_checkpoints(folder, allowed)
    missing = set(kept) - chain.hashes
    named: set[str] = set()

    def watch(digest: str, record: dict[str, Any]) -> None:
        missing.discard(digest)
        if record.get("event") == Event.CHECKPOINT_SIGNED and isinstance(record.get("checkpoint"), str):
            named.add(str(record["checkpoint"]))

    found = segment_ids(folder)
    states = [check_segment(folder, segment, chain.marks.get(segment), watch) for segment in found]
    problems = [*chain.problems]
    if not found:
        problems.append("there is no log at all: an installation has one from its first moment, so it was taken away")
    for state in states:
        problems += state.problems
    problems += [f"{segment}: missing: {counted(mark.lines, 'signed line')} of it" for segment, mark in chain.marks.items() if segment not in found]
    problems += _broken_links(states)
    problems += [f"{name}: not a segment of this log: renamed or planted" for name in strangers(folder)]
    problems += [f"checkpoints: {digest} is recorded as signed and is missing: checkpoints were cut off" for digest in sorted(named - chain.hashes)]
    problems += [f"no line has the hash {digest} ({kept[digest]}): lines were edited or cut off" for digest in sorted(missing)]
    torn = [state.segment for state in states if state.torn] + ([CHECKPOINTS] if chain.torn else [])
    return AuditReport(len(states), sum(state.lines for state in states), chain.lines, problems, torn)


def _broken_links(states: list[SegmentState]) -> list[str]:
    """Segments that were followed by another one because they had grown large, and are not what that one says."""
    heads = {state.segment: state.head for state in states}
    problems = []
    for state in states:
        if state.after is None:
            continue
        if state.after_segment not in heads:
            problems.append(f"{state.after_segment}: missing: {state.segment} follows it")
        elif heads[state.after_segment] != state.after.head:
            problems.append(f"{state.after_segment}: its last line is not the one that {state.segment} follows: lines were edited or cut off")
    return problems


__all__ = ["AuditReport", "Mark", "verify"]
