"""Audit events of sessions. What a stranger can cause for free is limited, so that a flood of it cannot fill the disk."""

from __future__ import annotations

import threading
import time
from typing import Any

import structlog

from config.errors import NightsafeError
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Person
from gateway.keys.limits import TokenBucket
from gateway.sftp.defender.bans import Ban
from gateway.sftp.session.visitor import Visitor

log = structlog.get_logger()

FAILURES_AT_ONCE, FAILURES_PER_SECOND = 200, 5.0  # failed logins that are told one by one
REFUSALS_RECORDED = 200  # of one session; beyond that they are counted


class Recorder:
    """Writes to the gateway's audit segment. Thread-safe, as the log is."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._lock = threading.Lock()
        self._failures = TokenBucket(FAILURES_AT_ONCE, FAILURES_PER_SECOND, time.monotonic())
        self._suppressed = 0

    def record(self, event: Event, visitor: Visitor, **facts: Any) -> None:
        """One event of a session; `result` is 'ok' unless said otherwise."""
        told: dict[str, Any] = {"result": "ok", **visitor.facts(), **facts}
        self._audit.append(event, **told)

    def landed_at_start(self, client: str, paper: str) -> None:
        """A paper that an earlier process had finished."""
        self._audit.append(Event.PAPER_LANDED, client=client, paper=paper, result="ok", at_start=True)

    def logged_in(self, person: Person, facts: dict[str, Any]) -> None:
        """A connection is this person's from now on."""
        self._audit.append(Event.LOGIN_ACCEPTED, person=person.name, person_role=person.role, client=person.client, **facts)

    def revoked(self, *, person: str, client: str | None, address: str, software: str, reason: str) -> None:
        """A live connection was ended, because its person may not log in any more."""
        self._audit.append(Event.ACCESS_REVOKED, person=person, client=client, address=address, software=software, reason=reason)

    def banned(self, ban: Ban) -> None:
        """The defender banned an address. As dear to a stranger as failing is, so not limited further."""
        seconds = round(ban.until - ban.since)
        self._audit.append(Event.ADDRESS_BANNED, address=ban.address, seconds=seconds, level=ban.level, reason=ban.reason)

    def space(self, short: bool, free: int, reserve: int) -> None:
        """Uploads are refused for lack of space, or taken again."""
        self._audit.append(Event.DISK_SHORT if short else Event.DISK_FREED, durable=True, free=free, reserve=reserve)

    def killed(self, *, person: str, address: str, login: str, by: str) -> None:
        """Somebody ended a live connection."""
        self._audit.append(Event.SESSION_KILLED, person=person, address=address, login=login, by=by)

    def login_failed(self, *, person: str, address: str, software: str, attempts: int, reason: str) -> bool:
        """One connection that ended without a login. In a flood only some are told one by one (True), and the others counted by the next; so are
        those that could not be recorded. Raises AuditUnavailable."""
        with self._lock:
            if self._failures.wait(1, time.monotonic()) > 0:
                self._suppressed += 1
                return False
            self._failures.take(1)
            suppressed, self._suppressed = self._suppressed, 0
        facts: dict[str, Any] = {"person": person, "address": address, "software": software, "attempts": attempts, "reason": reason}
        if suppressed:
            facts["suppressed"] = suppressed
        try:
            self._audit.append(Event.LOGIN_FAILED, **facts)
        except BaseException:
            with self._lock:
                self._suppressed += suppressed + 1
            raise
        return True


class SessionRecord:
    """The recorder of one session, with its bound on refusals."""

    def __init__(self, recorder: Recorder, visitor: Visitor) -> None:
        self._recorder = recorder
        self._visitor = visitor
        self.refusals = 0

    def record(self, event: Event, **facts: Any) -> None:
        """One event of this session."""
        self._recorder.record(event, self._visitor, **facts)

    def inside(self, visitor: Visitor) -> SessionRecord:
        """The record of the same session inside one client's folders; refusals are counted here, too."""
        return _InnerRecord(self, visitor)

    def refused(self, operation: str, path: str, text: str) -> None:
        """Something that this person may not do. It was not done; so they are told that, even if it cannot be recorded."""
        self.refusals += 1
        if self.refusals <= REFUSALS_RECORDED:
            try:
                self._recorder.record(Event.OPERATION_REFUSED, self._visitor, operation=operation, path=path, result=text)
            except NightsafeError as error:
                log.warning("refusal.not_recorded", error=error.message, session=self._visitor.session)


class _InnerRecord(SessionRecord):
    def __init__(self, outer: SessionRecord, visitor: Visitor) -> None:
        super().__init__(outer._recorder, visitor)
        self._outer = outer

    def refused(self, operation: str, path: str, text: str) -> None:
        self._outer.refusals += 1
        self.refusals = self._outer.refusals - 1
        super().refused(operation, path, text)
