"""What ingest says about a paper: every verdict by name, its code for programs and its sentence for the client. docs/reference/checks.md lists them.

A sentence tells nothing of the host, and nothing that would help to get by a check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gateway.catalog.rows import Verdict as State


@dataclass(frozen=True)
class Verdict:
    """`state` as the catalog has it; `reason` is a sentence for the client, `code` the same for programs; both are empty when all is well."""

    state: State
    reason: str = ""
    code: str = ""


ACCEPTED = Verdict("accepted")
DAMAGED = Verdict("refused", "The paper was damaged in our store before it could be sealed. Please send it again.", "damaged")
UNREADABLE = Verdict(
    "refused", "The paper could not be opened for sealing, because its key is not held here any more. Please send it again.", "unreadable"
)
UNKNOWN_CLIENT = Verdict("refused", "The client that the paper belongs to is not known here any more.", "unknown-client")

RELEASED = Verdict("accepted", "A check had held the paper; it was released by a person.", "released")
DECLINED = Verdict("refused", "A check had held the paper; it was refused by a person.", "declined")
CHECK_FAILED = Verdict("refused", "The paper could not be checked: a check of its content did not come to an end.", "check-failed")

Otherwise = Literal["hold", "accept", "refuse"]

SENTENCES: Mapping[str, str] = {
    "too-small": "The paper is smaller than what is accepted here.",
    "too-large": "The paper is larger than what is accepted here.",
    "ending": "Papers with this ending are not accepted here.",
    "name": "Papers with this name are not accepted here.",
    "too-many": "More papers came in one day than were agreed.",
    "wrong-type": "The content is not what the ending of the name says",
    "virus": "A virus was found in the paper",
    "unscanned": "The paper could not be scanned for viruses now",
    "too-large-to-scan": "The paper is too large to be scanned for viruses",
    "archive-locked": "The archive cannot be looked into",
    "archive-unreadable": "The archive cannot be looked into",
    "archive-bomb": "The archive is not taken",
    "archive-damaged": "The archive is not taken",
    "archive-forbidden-name": "The archive is not taken",
    "archive-overlap": "The archive is not taken",
    "archive-path": "The archive is not taken",
    "archive-too-deep": "The archive is not taken",
    "archive-too-large": "The archive is not taken",
    "archive-too-many": "The archive is not taken",
}
PASSING = frozenset({"unscanned"})  # what ends by itself: papers that are held for it go on without a person
STATES: Mapping[str, State] = {"hold": "held", "accept": "accepted", "refuse": "refused"}
WEIGHTS: Mapping[str, int] = {"refused": 0, "held": 1, "accepted": 2}
ENDS: Mapping[str, str] = {
    "hold": " It is kept here, and waits.",
    "accept": " It was accepted all the same.",
    "refuse": "",
}


def verdict(code: str, otherwise: Otherwise, detail: str = "") -> Verdict:
    """The verdict for `code`, a key of SENTENCES; `detail` stands behind a colon."""
    sentence = SENTENCES[code].rstrip(".") + (f": {detail}" if detail else "")
    return Verdict(STATES[otherwise], sentence + "." + ENDS[otherwise], code)


def released(found: Verdict) -> Verdict:
    """What a verdict becomes when a person has let the paper pass: it says what had been found."""
    return replace(RELEASED, reason=f"{RELEASED.reason} What was found: {found.reason.removesuffix(ENDS['hold'])}") if found.code else ACCEPTED


def worst(found: Sequence[Verdict]) -> Verdict:
    """A refusal outweighs a hold, a hold an acceptance with a mark, that a plain one; the first of equals counts. Of none: accepted."""
    return min(found, key=lambda one: (WEIGHTS[one.state], not one.code), default=ACCEPTED)
