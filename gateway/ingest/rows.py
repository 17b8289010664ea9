"""From what ingest found to what the catalog keeps. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.catalog.rows import NewPaper
from gateway.ingest.sealing import Held, Sealed, Unfit

TIME_DIGITS = 12  # of a paper's id: hex milliseconds since the epoch


def sealed_row(sealed: Sealed, path: str) -> NewPaper:
    """The row of a paper that lies in the vault, under the name `path`."""
    arrival = sealed.arrival
    return NewPaper(
        id=arrival.paper,
        client=arrival.client,
        path=path,
        person=arrival.person,
        state=sealed.finding.verdict.state,
        reason=sealed.finding.verdict.reason,
        size=sealed.size,
        sha256=sealed.sha256,
        received_at=arrival.received_at,
        sealed_at=sealed.sealed_at,
        modified_at=arrival.modified_at,
        generation=sealed.generation,
        header_mac=sealed.age.header_mac,
        sealed_sha256=sealed.age.sealed_sha256,
        sealed_size=sealed.age.sealed_size,
        session=arrival.session,
        address=arrival.address,
        class_name=sealed.finding.class_name,
        code=sealed.finding.verdict.code,
    )


def held_row(held: Held, path: str) -> NewPaper:
    """The row of a paper that waits in the spool: its content is known, no key of the client and nothing sealed."""
    arrival = held.arrival
    return NewPaper(
        id=arrival.paper,
        client=arrival.client,
        path=path,
        person=arrival.person,
        state=held.finding.verdict.state,
        reason=held.finding.verdict.reason,
        size=held.size,
        sha256=held.sha256,
        received_at=arrival.received_at,
        sealed_at=held.found_at,
        modified_at=arrival.modified_at,
        generation=0,
        header_mac="",
        sealed_sha256="",
        sealed_size=0,
        session=arrival.session,
        address=arrival.address,
        class_name=held.finding.class_name,
        code=held.finding.verdict.code,
    )


def refused_row(unfit: Unfit, path: str) -> NewPaper:
    """The row of a spool file that was set aside: no hash, no key, nothing sealed. What its footer cannot tell any more stays empty."""
    arrival = unfit.arrival
    return NewPaper(
        id=unfit.paper,
        client=unfit.client,
        path=path,
        person=arrival.person if arrival else "",
        state=unfit.verdict.state,
        reason=unfit.verdict.reason,
        size=0,
        sha256="",
        received_at=arrival.received_at if arrival else began_at(unfit.paper, unfit.found_at),
        sealed_at=unfit.found_at,
        modified_at=arrival.modified_at if arrival else None,
        generation=0,
        header_mac="",
        sealed_sha256="",
        sealed_size=0,
        session=arrival.session if arrival else "",
        address=arrival.address if arrival else "",
        code=unfit.verdict.code,
    )


def began_at(paper: str, otherwise: datetime) -> datetime:
    """When the upload of `paper` began, by its id; `otherwise` when that is no time."""
    try:
        return datetime.fromtimestamp(int(paper[:TIME_DIGITS], 16) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return otherwise
