"""From what ingest found to what the catalog keeps. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from gateway.catalog.rows import NewPaper
from gateway.ingest.sealing import Held, Sealed, Unfit, Whole

TIME_DIGITS = 12  # of a paper's id: hex milliseconds since the epoch


def row_of(result: Sealed | Held | Unfit, path: str) -> NewPaper:
    """The row of a paper under the name `path`. One that is held has content that is known, and nothing sealed."""
    match result:
        case Unfit():
            return _unfit_row(result, path)
        case Sealed(age=age):
            return replace(
                _whole_row(result, path),
                generation=result.generation,
                header_mac=age.header_mac,
                sealed_sha256=age.sealed_sha256,
                sealed_size=age.sealed_size,
            )
    return _whole_row(result, path)


def began_at(paper: str, otherwise: datetime) -> datetime:
    """When the upload of `paper` began, by its id; `otherwise` when that is no time."""
    try:
        return datetime.fromtimestamp(int(paper[:TIME_DIGITS], 16) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return otherwise


def _whole_row(whole: Whole, path: str) -> NewPaper:
    arrival, verdict = whole.arrival, whole.finding.verdict
    return NewPaper(
        id=arrival.paper,
        client=arrival.client,
        path=path,
        person=arrival.person,
        state=verdict.state,
        reason=verdict.reason,
        size=whole.size,
        sha256=whole.sha256,
        received_at=arrival.received_at,
        sealed_at=whole.at,
        modified_at=arrival.modified_at,
        session=arrival.session,
        address=arrival.address,
        class_name=whole.finding.class_name,
        code=verdict.code,
    )


def _unfit_row(unfit: Unfit, path: str) -> NewPaper:
    """A spool file that was set aside: no hash, no key, nothing sealed. What its footer cannot tell any more stays empty."""
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
        received_at=arrival.received_at if arrival else began_at(unfit.paper, unfit.at),
        sealed_at=unfit.at,
        modified_at=arrival.modified_at if arrival else None,
        session=arrival.session if arrival else "",
        address=arrival.address if arrival else "",
        code=unfit.verdict.code,
    )
