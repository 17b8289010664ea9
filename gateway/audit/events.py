"""The name of every audit event, in one place. Tests assert on these, not on sentences."""

from __future__ import annotations

from difflib import get_close_matches
from enum import StrEnum


class Event(StrEnum):
    """`noun.past-participle`: what happened."""

    INSTALLATION_CREATED = "installation.created"
    INSTALLATION_RESTORED = "installation.restored"
    MASTER_REPLACED = "master.replaced"
    SEGMENT_OPENED = "segment.opened"
    CHECKPOINT_SIGNED = "checkpoint.signed"
    AUDIT_EXPORTED = "audit.exported"
    AUDIT_SHOWN = "audit.shown"
    CLIENT_ADDED = "client.added"
    CLIENT_EDITED = "client.edited"
    CLIENT_SUSPENDED = "client.suspended"
    CLIENT_RESUMED = "client.resumed"
    DESTRUCTION_BEGUN = "destruction.begun"
    CLIENT_KEYS_REMOVED = "client.keys_removed"
    REPOSITORY_SHREDDED = "repository.shredded"  # a key repository holds nothing of a destroyed client any more
    REPOSITORY_PENDING = "repository.pending"  # it could not be cleaned now
    DESTRUCTION_PROVEN = "destruction.proven"
    DESTRUCTION_DISPROVEN = "destruction.disproven"  # something opens the client's papers still
    CLIENT_DESTROYED = "client.destroyed"
    HOLD_SET = "hold.set"
    HOLD_RELEASED = "hold.released"
    PERSON_ADDED = "person.added"
    CODE_ACCEPTED = "code.accepted"  # of a second factor
    PERSON_EDITED = "person.edited"
    PERSON_SUSPENDED = "person.suspended"
    PERSON_RESUMED = "person.resumed"
    PERSON_OFF_BOARDED = "person.off_boarded"
    ACCESS_REVIEWED = "access.reviewed"
    ANOMALY_FOUND = "anomaly.found"
    INCIDENT_OPENED = "incident.opened"
    INCIDENT_COLLECTED = "incident.collected"
    INCIDENT_CLOSED = "incident.closed"
    LOGIN_ACCEPTED = "login.accepted"
    CERTIFICATE_ISSUED = "certificate.issued"
    CERTIFICATE_REVOKED = "certificate.revoked"
    GATEWAY_RELOADED = "gateway.reloaded"
    SETTINGS_CHANGED = "settings.changed"
    SESSION_KILLED = "session.killed"
    PAGE_ENTERED = "page.entered"  # somebody gave the token of the page for ops
    PAGE_REFUSED = "page.refused"
    DISK_SHORT = "disk.short"  # uploads are refused, so that catalog and audit log can still be written
    DISK_FREED = "disk.freed"
    ADDRESS_BANNED = "address.banned"
    ADDRESS_UNBANNED = "address.unbanned"
    LOGIN_FAILED = "login.failed"
    ACCESS_REVOKED = "access.revoked"  # a live connection was ended
    SESSION_OPENED = "session.opened"
    SESSION_CLOSED = "session.closed"
    PAPER_DEPOSITED = "paper.deposited"  # a handle for writing was closed cleanly
    PAPER_BROKEN_OFF = "paper.broken_off"  # a handle for writing was lost
    PAPER_LANDED = "paper.landed"
    PAPER_READ = "paper.read"
    NAME_RENAMED = "name.renamed"
    NAME_REMOVED = "name.removed"
    TIMES_SET = "times.set"
    FOLDER_MADE = "folder.made"
    FOLDER_REMOVED = "folder.removed"
    OPERATION_REFUSED = "operation.refused"
    PAPER_SEALED = "paper.sealed"
    PAPER_HELD = "paper.held"
    PAPER_REFUSED = "paper.refused"
    HELD_DECIDED = "held.decided"  # a person released or refused a paper that a check holds
    SCANNER_LOST = "scanner.lost"
    SCANNER_READY = "scanner.ready"
    ARCHIVE_PASSWORD_SET = "archive_password.set"  # noqa: S105 - the name of an event
    RECEIPT_WRITTEN = "receipt.written"
    ACCESS_LISTED = "access.listed"
    SUMMARY_WRITTEN = "summary.written"
    RECEIPT_RESUMED = "receipt.resumed"  # a paper that was catalogued earlier is about to get the receipt that it lacks
    PAPER_EXPIRED = "paper.expired"
    CATALOG_REBUILT = "catalog.rebuilt"
    QUARANTINE_RELEASED = "quarantine.released"
    QUARANTINE_DELETED = "quarantine.deleted"
    KEY_GRANTED = "key.granted"
    KEY_REFUSED = "key.refused"
    KEY_CREATED = "key.created"
    KEY_DESTROYED = "key.destroyed"
    HOST_KEY_REPLACED = "host_key.replaced"
    MASTER_ROTATED = "master.rotated"
    MASTER_COPIED = "master.copied"
    RECOVERY_ADDED = "recovery.added"
    KIT_CHECKED = "kit.checked"
    KIT_SHOWN = "kit.shown"
    FILES_SEARCHED = "files.searched"
    FILE_PUT = "file.put"
    FILES_EXPORTED = "files.exported"
    FILE_FETCHED = "file.fetched"
    REPOSITORY_CREATED = "repository.created"
    BACKUP_STARTED = "backup.started"
    BACKUP_FINISHED = "backup.finished"
    BACKUP_FAILED = "backup.failed"
    CHECK_PASSED = "check.passed"
    CHECK_FAILED = "check.failed"
    CHECK_INCONCLUSIVE = "check.inconclusive"
    SNAPSHOTS_FORGOTTEN = "snapshots.forgotten"
    FORGETTING_STOPPED = "forgetting.stopped"  # something is odd: a person is asked
    DRILL_STARTED = "drill.started"
    DRILL_PASSED = "drill.passed"
    DRILL_FAILED = "drill.failed"
    DRILL_INCONCLUSIVE = "drill.inconclusive"
    REPOSITORY_GIVEN_UP = "repository.given_up"
    REPOSITORY_REPAIRED = "repository.repaired"
    PROOF_WRITTEN = "proof.written"
    RESTORE_STARTED = "restore.started"
    RESTORE_FINISHED = "restore.finished"


def near(pattern: str) -> str:
    """What helps somebody whose pattern is no event: those that may be meant, and where all of them stand."""
    noun = pattern.split(".")[0]
    meant = [event for event in Event if event.split(".")[0] == noun] or get_close_matches(pattern, Event, n=5, cutoff=0.5)
    where = "all events are in docs/reference/events.md"
    return f"did you mean {', '.join(sorted(meant))}? {where}" if meant else where
