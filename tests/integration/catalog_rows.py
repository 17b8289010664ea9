"""Rows of the catalog as ingest would record them, for papers that a test seals itself."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.catalog import NewPaper
from gateway.store import SealedPaper

UNKNOWN = "0" * 64


def accepted_row(
    paper: str, sealed: SealedPaper, *, client: str, path: str, sha256: str = UNKNOWN, generation: int = 1, at: datetime | None = None
) -> NewPaper:
    """The row of an accepted `paper` of `client`, named `path`, that arrived and was sealed `at` (now)."""
    moment = at or datetime.now(UTC)
    return NewPaper(
        id=paper,
        client=client,
        path=path,
        person=client,
        state="accepted",
        reason="",
        size=sealed.size,
        sha256=sha256,
        received_at=moment,
        sealed_at=moment,
        modified_at=None,
        generation=generation,
        header_mac=sealed.header_mac,
        sealed_sha256=sealed.sealed_sha256,
        sealed_size=sealed.sealed_size,
        session="s",
        address="192.0.2.7",
    )
