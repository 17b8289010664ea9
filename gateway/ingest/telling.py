"""What the audit log is told of a paper that was passed over."""

from __future__ import annotations

from typing import Any

from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.ingest.sealing import Held, Sealed, Unfit, Whole

Result = Sealed | Held | Unfit


def tell(audit: AuditLog, result: Result) -> str:
    """One line, whose hash (hex) this returns: `paper.sealed` for what was accepted, `paper.held`, or `paper.refused`. Raises AuditUnavailable."""
    if isinstance(result, Unfit):
        verdict = result.verdict
        return audit.append(
            Event.PAPER_REFUSED, client=result.client, paper=result.paper, reason=verdict.reason, code=verdict.code, cause=result.cause
        )
    facts = _facts(result)
    if isinstance(result, Held):
        return audit.append(Event.PAPER_HELD, **facts)
    if result.finding.verdict.state == "refused":
        return audit.append(Event.PAPER_REFUSED, **facts, generation=result.generation, header_mac=result.age.header_mac)
    return audit.append(Event.PAPER_SEALED, **facts, generation=result.generation, header_mac=result.age.header_mac)


def _facts(result: Whole) -> dict[str, Any]:
    arrival, finding = result.arrival, result.finding
    facts = {
        "client": arrival.client,
        "person": arrival.person,
        "paper": arrival.paper,
        "path": arrival.path,
        "size": result.size,
        "sha256": result.sha256,
        "session": arrival.session,
        "address": arrival.address,
    }
    facts |= {"reason": finding.verdict.reason, "code": finding.verdict.code} if finding.verdict.code else {}
    return facts | ({"class": finding.class_name} if finding.class_name else {})
