"""What ingest decides about a paper, in words that a client understands. Checks of content hand back a Verdict, too."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.catalog.rows import Verdict as State


@dataclass(frozen=True)
class Verdict:
    """`state` as the catalog has it; `reason` is a sentence for the client, empty when the paper was accepted."""

    state: State
    reason: str = ""


ACCEPTED = Verdict("accepted")
DAMAGED = Verdict("refused", "The paper was damaged in our store before it could be sealed. Please send it again.")
UNREADABLE = Verdict("refused", "The paper could not be opened for sealing, because its key is not held here any more. Please send it again.")
UNKNOWN_CLIENT = Verdict("refused", "The client that the paper belongs to is not known here any more.")
