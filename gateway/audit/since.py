"""Which papers were accepted after a checkpoint: told by the order of lines, whatever the clock said when they were written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gateway.audit.chain import Mark, check_segment
from gateway.audit.checkpoint import read_checkpoints
from gateway.audit.events import Event
from gateway.audit.segments import segment_ids

ACCEPTED = {Event.PAPER_SEALED.value, Event.QUARANTINE_RELEASED.value}


def accepted_since(folder: Path, checkpoint: str, allowed: Iterable[str]) -> Iterator[str]:
    """The ids of papers that were accepted after the checkpoint of this hash; none when it is not in a chain signed by `allowed`. A segment
    that was edited, or is not the one that was signed, proves nothing and is passed over."""
    chain = read_checkpoints(folder, allowed, until=checkpoint)
    if chain.head != checkpoint or chain.problems:
        return
    for segment in segment_ids(folder):
        yield from _beyond(folder, segment, chain.marks.get(segment))


def _beyond(folder: Path, segment: str, mark: Mark | None) -> list[str]:
    papers: list[str] = []
    signed = mark.lines if mark else 0

    def take(_: str, record: dict[str, Any]) -> None:
        number, paper = record.get("seq"), record.get("paper")
        if record.get("event") in ACCEPTED and isinstance(number, int) and number >= signed and isinstance(paper, str):
            papers.append(paper)

    return [] if check_segment(folder, segment, mark, take).problems else papers
