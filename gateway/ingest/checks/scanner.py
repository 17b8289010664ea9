"""The port of virus scanners: what a scanner is to ingest, whoever does it. `clamd` and `command` implement it.

A session never raises for what the scanner does: it ends in a ScanResult, whose `unavailable` is not a verdict about the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

Outcome = Literal["clean", "found", "too-large", "locked", "slow", "unavailable"]
PROBE = bytes.fromhex("5835 4f21 5025 4041 505b 345c 505a 5835 3428 505e 2937 4343 2937 7d24 4549 4341 522d 5354 414e 4441 5244 2d41 4e54")
PROBE += bytes.fromhex("4956 4952 5553 2d54 4553 542d 4649 4c45 2124 482b 482a")  # the test file of EICAR, which every scanner is to find


@dataclass(frozen=True)
class ScanResult:
    """`detail`: the name of what was found, or why there is no verdict; for the log, and short."""

    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True)
class Readiness:
    """Whether verdicts of the scanner count now. `fault` says why not; `notes` what a person should know all the same."""

    ready: bool
    fault: str = ""
    notes: tuple[str, ...] = ()
    engine: str = ""


class Session(Protocol):
    """The scan of one stream of bytes. Used by one thread. `is_with_asked`: by the very scanner that was asked last and can be relied on, as far as
    that can be told; one that was started since may have other settings."""

    is_with_asked: bool

    def send(self, data: bytes | memoryview) -> None:
        """The next piece; returns when the scanner has taken it, or cannot any more."""

    def finish(self, until: float) -> ScanResult:
        """No more follows: the answer, waited for until `until` (monotonic seconds)."""

    def close(self) -> None:
        """Leave nothing behind; after `finish`, or instead of it."""


class Scanner(Protocol):
    """A way to scan. Thread-safe."""

    def probe(self) -> Readiness:
        """Ask whether it can be relied on: it is there, it finds what it must, it is not out of date. Takes seconds at the most. Never raises."""

    def begin(self) -> Session:
        """A new session; what fails is told by its `finish`."""


def finds_probe(scanner: Scanner, clock: Callable[[], float], seconds: float) -> ScanResult:
    """What `scanner` says of the test file."""
    session = scanner.begin()
    try:
        session.send(PROBE)
        return session.finish(clock() + seconds)
    finally:
        session.close()
