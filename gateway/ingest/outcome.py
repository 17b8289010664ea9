"""What became of a batch of papers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """Paper ids. `failed` ones are where they were, to be tried again; `busy` ones are in other hands, or wait for another paper; `held` ones
    have that verdict, and stay in the spool."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)


class Stopping(Exception):
    """The role is to end. What is in hand is left for the next start."""


class Postponed(Exception):
    """The paper has to wait for an older one of the same name."""
