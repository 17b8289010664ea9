"""Audit events of sessions. What a stranger can cause for free is limited, so that a flood of it cannot fill the disk."""

from __future__ import annotations

from typing import Any

from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.sftp.visitor import Visitor

REFUSALS_RECORDED = 200  # of one session; beyond that they are counted


class Recorder:
    """Writes to the gateway's audit segment. Thread-safe, as the log is."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def record(self, event: Event, visitor: Visitor, **facts: Any) -> None:
        """One event of a session; `result` is 'ok' unless said otherwise."""
        told: dict[str, Any] = {"result": "ok", **visitor.facts(), **facts}
        self._audit.append(event, **told)

    def login_failed(self, *, person: str, address: str, software: str, attempts: int, reason: str) -> None:
        """One connection that ended without a login."""
        self._audit.append(Event.LOGIN_FAILED, person=person, address=address, software=software, attempts=attempts, reason=reason)


class SessionRecord:
    """The recorder of one session, with its bound on refusals."""

    def __init__(self, recorder: Recorder, visitor: Visitor) -> None:
        self._recorder = recorder
        self._visitor = visitor
        self.refusals = 0

    def record(self, event: Event, **facts: Any) -> None:
        """One event of this session."""
        self._recorder.record(event, self._visitor, **facts)

    def refused(self, operation: str, path: str, text: str) -> None:
        """Something that this person may not do."""
        self.refusals += 1
        if self.refusals <= REFUSALS_RECORDED:
            self._recorder.record(Event.OPERATION_REFUSED, self._visitor, operation=operation, path=path, result=text)
